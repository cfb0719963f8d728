# SPDX-License-Identifier: Apache-2.0
"""The pages: links lead somewhere, and the scripts, options, variables and keys that they name are there."""

import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import co_rewarding
from co_rewarding.tools.evaluation.options import parse_options

REPO = Path(__file__).resolve().parents[1]
ROOMS = ("", "docs", "data", "benchmarks", "recipes", "examples", "Co-rewarding-I", "Co-rewarding-II")
PAGES = sorted(page for room in ROOMS for page in (REPO / room).glob("*.md"))
OF_NOW = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what is gone
GLOSSARY = (
    "Who gives the pseudo-label ([words](README.md#words)): in I the majority answer to the other view, in II a "
    "teacher, the moving average of the model, in III the teacher on the other view."
)
OF_OTHERS = {
    *("PYTHONDONTWRITEBYTECODE", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "HF_HOME"),
    *("HF_HUB_OFFLINE", "RAY_LOGS"),
}
"""Variables that no file here reads: those of Python, pip, uv and the hub's client; and of a page alone."""
WRONG_ON_PURPOSE = {"trainer.total_epoch"}  # what is said of a wrong key
OF_HYDRA = {"--cfg", "--help", "--package"}  # options of every run script


@dataclass(frozen=True)
class Call:
    """A command in a page: NAME=VALUE … PROGRAM SCRIPT WORD …; a module's script is its name."""

    page: Path
    variables: tuple[str, ...]
    script: str
    words: tuple[str, ...]

    @property
    def path(self) -> Path | None:
        """From the project's folder or, in a tree's page, from that."""
        return next((path for path in (REPO / self.script, self.page.parent / self.script) if path.is_file()), None)

    @property
    def options(self) -> set[str]:
        return {word.partition("=")[0] for word in self.words if re.match(r"--[a-z]", word)}

    @property
    def keys(self) -> set[str]:
        """Of the configuration, without those that are added with a +."""
        return {word.partition("=")[0] for word in self.words if re.match(r"[a-z_]+(\.[a-z_]+)+=", word)}


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", page.read_text())


def calls(page: Path) -> Iterator[Call]:
    """Of scripts and modules, in the page's blocks and in its text."""
    text = re.sub(r" \\\n +", " ", page.read_text())
    for line in re.findall(r"^ {4,}(?:\$ )?(\S.*)$", text, flags=re.MULTILINE) + code_spans(page):
        for command in re.split(r" (?:&&|\|\|?|;) |; ", line):
            try:
                words = shlex.split(command, comments=True)
            except ValueError:  # an apostrophe in the words behind it
                words = command.split()
            words = words[words[:1] == ["export"] :]
            variables = [word.partition("=")[0] for word in words if re.match(r"[A-Z][A-Z0-9_]*=", word)]
            given = re.match(r"(?:[A-Z][A-Z0-9_]*=.*?\0)*", "\0".join(words) + "\0")[0].count("\0")
            program, *rest = words[given:] or [""]
            if program not in ("bash", "python", "sbatch"):
                rest = []
            module = rest[1] if rest[:1] == ["-m"] else ""
            script = module or next((word for word in rest if re.search(r"\w\.(sh|py)$", word)), "")
            if variables[:given] or script:
                yield Call(page, tuple(variables[:given]), script, tuple(rest))


CALLS = [call for page in OF_NOW for call in calls(page)]
OF_OURS = [call for call in CALLS if call.script.endswith((".sh", ".py")) or call.script.startswith("co_rewarding")]


def options_of(call: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """A text that has every option of the script."""
    path = call.path
    if path is not None and (path.suffix == ".sh" or path.parent.name == "benchmarks"):
        return path.read_text() + " ".join(OF_HYDRA if path.name.startswith("run_") else ())
    monkeypatch.setattr(sys, "argv", [call.script, "--help"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        if path is None:
            runpy.run_module(call.script, run_name="__main__")
        else:
            runpy.run_path(str(path), run_name="__main__")
    assert not end.value.code
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Of the configurations of I and II, blocks and values."""

    def within(block: Any, above: str = "") -> Iterator[str]:
        for name, value in block.items() if isinstance(block, dict) else ():
            yield f"{above}{name}"
            yield from within(value, f"{above}{name}.")

    found: set[str] = set()
    for tree in ("co_rewarding_i", "co_rewarding_ii"):
        GlobalHydra.instance().clear()
        with initialize_config_module(f"{tree}.config", version_base=None):
            found |= set(within(OmegaConf.to_container(compose(tree))))
    return found


@pytest.fixture(scope="module")
def names() -> set[str]:
    """In capitals, that occur in the project's code, so that what a page sets can be read by something."""
    rooms = ("co_rewarding", "Co-rewarding-I", "Co-rewarding-II", "scripts", "recipes", "benchmarks")
    code = [path for room in rooms for kind in ("py", "sh", "yaml") for path in (REPO / room).rglob(f"*.{kind}")]
    return OF_OTHERS.union(*(re.findall(r"[A-Z][A-Z0-9_]+", path.read_text()) for path in code))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them: lower case, words and hyphens, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    shown = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in shown}


def commands(page: Path, script: str) -> list[list[str]]:
    """Arguments of every call of a script in the page's blocks."""
    blocks = re.sub(r" \\\n +", " ", page.read_text())
    lines = re.findall(rf"^    python scripts/{script} (.+)$", blocks, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPO)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text())  # patterns in code look like links
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", OF_NOW, ids=[str(page.relative_to(REPO)) for page in OF_NOW])
def test_scripts_variables_and_keys_are_there(page: Path, names: set[str], keys: set[str]) -> None:
    for call in (call for call in CALLS if call.page == page):
        assert not {*call.variables} - names, call
        assert not call.script.endswith((".sh", ".py")) or call.path, call
        assert not call.keys - keys, call
    blocks = {key.partition(".")[0] for key in keys}
    for span in code_spans(page):
        if variable := re.fullmatch(r"([A-Z][A-Z0-9_]{3,})(?:=.*)?", span):
            assert variable[1] in names, span
        if (dotted := re.fullmatch(r"([a-z_]+(?:\.[a-z_]+)+)(?:=.*)?", span)) and dotted[1].partition(".")[0] in blocks:
            key = re.sub(r"(_kwargs)\..*", r"\1", dotted[1])  # what stands below these, others read
            module = REPO / key.replace(".", "/")
            is_other = key.endswith(".py") or key in WRONG_ON_PURPOSE
            assert is_other or key in keys or module.is_dir() or module.with_suffix(".py").is_file(), span


@pytest.mark.parametrize("page", OF_NOW, ids=[str(page.relative_to(REPO)) for page in OF_NOW])
def test_files_are_there(page: Path) -> None:
    rooms = (
        REPO,
        REPO / "co_rewarding",
        REPO / "co_rewarding/training/config",
        REPO / "scripts/gpu_check",
        page.parent,
    )
    for span in code_spans(page):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.(py|sh|yaml|jinja|tsv|toml)", span) and "NAME" not in span:
            assert any((room / span).is_file() for room in rooms), span


@pytest.mark.parametrize("script", sorted({call.script for call in OF_OURS if call.options}))
def test_options_are_there(script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    named = [call for call in OF_OURS if call.script == script]
    there = set(re.findall(r"--[a-z][a-z_-]*", options_of(named[0], monkeypatch, capsys)))
    for call in named:
        assert not call.options - there, call


def test_the_index_has_every_page() -> None:
    index = (REPO / "docs/README.md").read_text()
    linked = [(REPO / "docs" / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)\)", index)]
    assert sorted(linked) == sorted(page for page in PAGES if page != REPO / "docs/README.md")


@pytest.mark.parametrize("page", sorted((REPO / "docs").glob("[A-Z_]*.md")), ids=lambda page: page.name)
def test_a_page_begins_with_what_it_is_about(page: Path) -> None:
    title, what, *_ = [part for part in page.read_text().split("\n\n") if part]
    assert title.startswith("# ") and "\n" not in title
    assert re.match(r"\w", what), "a sentence, before any heading, block or list"
    uses = page.name != "README.md" and re.search(r"\b(II|III)\b", re.sub(r"-I+", "", page.read_text()))
    assert not uses or GLOSSARY in page.read_text().split("\n## ")[0]


def test_the_citation_is_of_this_version_and_of_the_papers_title() -> None:
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    (paper,) = citation["references"]
    assert citation["version"] == co_rewarding.__version__
    assert paper["title"] in (REPO / "README.md").read_text()
    assert [paper["identifiers"][0]["value"]] == re.findall(r"arXiv:[\d.]+", paper["journal"])


def test_the_hooks_use_the_tools_that_are_pinned() -> None:
    hooks = [
        hook
        for repo in yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    pinned = re.findall(r"^([a-z]+)", (REPO / "requirements-dev.txt").read_text(), flags=re.MULTILINE)
    checks = (REPO / "scripts/test.sh").read_text()
    for hook in hooks:
        program, *options = hook["entry"].split()
        assert hook["language"] == "system" and program in pinned
        assert " ".join([f'"$bin/{program}"', *options]) in checks, "as scripts/test.sh calls it"


def test_what_to_expect_has_commands_that_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for task in ("math500", "gsm8k", "amc"):  # that the files are there is looked at, too
        (tmp_path / "data" / task).mkdir(parents=True)
        (tmp_path / "data" / task / "test.parquet").touch()
    monkeypatch.chdir(tmp_path)
    found = [parse_options(arguments) for arguments in commands(REPO / "docs/EXPECT.md", "evaluate.py")]
    assert [options.output.method for options in found] == ["base", "co_rewarding_I", None]
    both_ways = ["math500", "math500_lighteval", "gsm8k", "gsm8k_lighteval", "amc"]
    assert [options.tasks for options in found] == [both_ways, both_ways, []]
    with pytest.raises(ValueError, match="--method"):
        parse_options(["--model", "m", "--tasks", "amc", "--method", "GT"])  # the methods above are looked at


def test_what_to_expect_has_the_estimates_numbers(run_script: Callable[..., tuple[int, str, str]]) -> None:
    text = " ".join((REPO / "docs/EXPECT.md").read_text().split())
    [arguments] = commands(REPO / "docs/EXPECT.md", "estimate.py")
    said = []
    for method in ("II", "III", "I", "baseline"):
        code, out, _ = run_script("estimate.py", *arguments, "--method", method)
        assert code == 0 and "OFFLOAD=none" in out
        host, processes, checkpoint = re.search(
            r"host memory +([\d.]+) .* and about (\d+) for processes\n.*\n  a checkpoint +([\d.]+)", out
        ).groups()
        said.append((round(float(host) + int(processes)), round(float(checkpoint))))
    teacher, none = said[0], said[2]
    assert said == [teacher, teacher, none, none]
    assert "{} GiB of host memory and {} GiB a checkpoint in II and III".format(*teacher) in text
    assert "{} and {} in I and the baselines".format(*none) in text
