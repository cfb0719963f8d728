# SPDX-License-Identifier: Apache-2.0
"""The pages: links lead somewhere, the commands of docs/EXPECT.md parse, docs/REFERENCE.md leaves nothing out."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from co_rewarding.tools.evaluation.options import parse_options
from co_rewarding.training.run_script import SCRIPTS

REPO = Path(__file__).resolve().parents[1]
ROOMS = ("", "docs", "data", "benchmarks", "recipes", "Co-rewarding-I", "Co-rewarding-II")
PAGES = sorted(page for room in ROOMS for page in (REPO / room).glob("*.md"))


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


# Variables of other programs and of bash
FOREIGN = {"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "TMPDIR", "BASH_REMATCH"}


def test_the_reference_says_what_is_declared(run_script: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run_script("dev/make_reference.py")
    assert code == 0
    fix = "run `python scripts/dev/make_reference.py >docs/REFERENCE.md`"
    assert out == (REPO / "docs/REFERENCE.md").read_text(), fix


def test_the_reference_has_every_variable_of_every_script() -> None:
    """What a script reads with a default is in its table, with that default, or is a variable of the run scripts."""
    methods, *others = re.split(r"^### `(\S+)`$", (REPO / "docs/REFERENCE.md").read_text(), flags=re.MULTILINE)
    sections = dict(zip(others[::2], others[1::2], strict=True))
    row = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \|", flags=re.MULTILINE)
    of_all = {name for name, _ in row.findall(methods)}
    assert {"LEARNING_RATE", "TEACHER", "NUM_VOTES"} <= of_all
    for path in (path for pattern in SCRIPTS for path in REPO.glob(pattern)):
        script, text = str(path.relative_to(REPO)), path.read_text()
        rows = dict(row.findall(sections.get(script, "")))
        read = {name for name in re.findall(r"\$\{([A-Z][A-Z_]+):?-", text) if not name.startswith("SLURM_")}
        assert read <= rows.keys() | of_all | FOREIGN, f"{script} reads variables that its --help does not list"
        code = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
        assert rows.keys() <= {*re.findall(r"[A-Z_]+", code)}, f"{script} does not read all variables of its --help"
        for name, default in re.findall(r"\w+=\"?\$\{([A-Z_]+):-([^}$]+)\}", text):
            assert default in rows.get(name, default), f"{script} has {name}={default}"
