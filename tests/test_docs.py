# SPDX-License-Identifier: Apache-2.0
"""The pages: links between them lead somewhere, and what docs/EXPECT.md tells a reader to type is understood."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from co_rewarding.tools.evaluation.options import parse_options

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
