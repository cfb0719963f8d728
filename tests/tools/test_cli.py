# SPDX-License-Identifier: Apache-2.0
"""What the commands share: exit codes and one-line errors, text that is fit to be shown, progress."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from co_rewarding.tools.cli import UserError, command, printable, progress, visible


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("--seed -1: no"), 2, "tool.py: error: --seed -1: no\n"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), 2, "tool.py: error: a.json: No such file or "),
        (KeyboardInterrupt(), 130, "tool.py: interrupted\n"),
    ],
)
def test_errors_of_the_user_are_one_line(capsys: pytest.CaptureFixture, error, code: int, message: str) -> None:
    @command("tool.py")
    def main(arguments: Sequence[str]) -> None:
        raise error

    assert main([]) == code
    assert capsys.readouterr().err.startswith(message)


def test_a_closed_pipe_is_no_error() -> None:
    program = (
        "import sys; from co_rewarding.tools.cli import command\n"
        "main = command('tool.py')(lambda arguments: [print(i) for i in range(100_000)] and 0)\n"
        "sys.exit(main([]))"
    )
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout.readline() == b"0\n"
    run.stdout.close()
    assert run.stderr.read() == b"" and run.wait() == 141


def test_progress_in_a_log_is_lines(capsys: pytest.CaptureFixture) -> None:
    with progress("rewriting", "rows", 1200, already=200) as bar:
        bar.update(1000)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("rewriting: 200 of 1200 rows in ")
    assert last.startswith("rewriting: 1200 of 1200 rows in ") and last.endswith("00:00 left")


def test_printable_keeps_the_end_of_a_long_prompt() -> None:
    assert printable("abcdef", 4, keep_end=True) == "…def"
    assert printable("abcdef", 4) == "abc…"
    assert printable("a\tb\n c", 9) == "a b c"


def test_visible_text_is_cut_and_keeps_letters() -> None:
    assert visible("naïve Größe 数学 ∑\n\t", 100) == "naïve Größe 数学 ∑\n\t"
    assert visible("abcdef", 3) == "abc … (3 more characters)"
    assert visible("\ud800", 10) == r"\u{d800}"  # a lone surrogate cannot be written as UTF-8
