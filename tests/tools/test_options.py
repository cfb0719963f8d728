# SPDX-License-Identifier: Apache-2.0
"""Options declared once: what is read, what --help says, and one line for what cannot be meant."""

from pathlib import Path
from typing import Literal

import pytest

from co_rewarding.tools.cli import UserError
from co_rewarding.tools.options import REQUIRED, Names, Options, option, parse


class Drawing(Options):
    """drawing"""

    temperature: float = option(0.7, "0: greedy, 100% sure", ge=0, le=2)
    max_tokens: int = option(16, "of a response", ge=1)
    kind: Literal["a", "b"] = option("a", "which")
    restart: Literal["all", "verify"] | None = option(None, "forget", const="all")
    skip: Names = option((), "left out")
    json_: int = option(1, "a name that pydantic has", ge=1)
    think: bool = option(False, "think first")


class Files(Options):
    """files"""

    run_dirs: list[Path] = option(REQUIRED, "runs", positional=True, metavar="RUN_DIR")
    compare: list[Path] = option([], "others", metavar="DIR")


def read(*arguments: str) -> list[Options]:
    return parse("tool.py", "A tool.", [Drawing, Files], arguments)


def test_values_have_their_types_and_groups() -> None:
    drawing, files = read(
        "r1", "r2", "--max-tokens", "3", "--skip", "x,y", "--restart", "--think", "--compare", "a", "b"
    )  # fmt: skip
    assert drawing == Drawing(max_tokens=3, skip=("x", "y"), restart="all", think=True)
    assert (files.run_dirs, files.compare) == ([Path("r1"), Path("r2")], [Path("a"), Path("b")])
    assert read("r", "--json", "2")[0] == Drawing(json_=2)
    assert read("r", "--restart", "verify", "--temperature=1e-1")[0] == Drawing(restart="verify", temperature=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r", "--temperature", "nan"], "--temperature nan: must be a finite number"),
        (["r", "--temperature", "3"], "--temperature 3: must be less than or equal to 2"),
        (["r", "--max_tokens", "x"], "--max_tokens x: must be a valid integer"),
        (["r", "--json", "0"], "--json 0: must be greater than or equal to 1"),
        (["r", "--kind", "c"], "--kind c: must be 'a' or 'b'"),
        (["r", "--kin", "a"], "unrecognized arguments: --kin a; see --help"),
        ([], "the following arguments are required: RUN_DIR; see --help"),
    ],
)
def test_what_cannot_be_meant_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        read(*arguments)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_help_says_range_default_and_group(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        read("--help")
    text = capsys.readouterr().out
    for words in ("drawing:", "files:", "0: greedy, 100% sure (default 0.7)", "--kind {a,b}", "[{all,verify}]"):
        assert words in text
