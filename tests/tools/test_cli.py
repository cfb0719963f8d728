# SPDX-License-Identifier: Apache-2.0
"""What the command lines share: text that is fit to be shown, and lines of progress."""

import time

import pytest

from co_rewarding.tools.cli import Progress, printable, visible
from co_rewarding.tools.evaluation import generate


def test_printable_keeps_the_end_of_a_long_prompt() -> None:
    assert printable("abcdef", 4, keep_end=True) == "…def"
    assert printable("abcdef", 4) == "abc…"
    assert printable("a\tb\n c", 9) == "a b c"


def test_visible_text_is_cut_and_keeps_letters() -> None:
    assert visible("naïve Größe 数学 ∑\n\t", 100) == "naïve Größe 数学 ∑\n\t"
    assert visible("abcdef", 3) == "abc … (3 more characters)"
    assert visible("\ud800", 10) == r"\u{d800}"  # a lone surrogate cannot be written as UTF-8


def test_progress_is_told_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress("rewriting", "rows", 1200, already=200)
    progress.step()  # no time has passed
    now += 10.0
    progress.remark = ", 3 further attempts"
    progress.step(499)  # 500 in 10 s leave 500 for 10 s more
    now += 1.0
    progress.step(500)
    assert capsys.readouterr().err.splitlines() == [
        "rewriting: going on, 200 of 1,200 rows were done before",
        "rewriting: 700 of 1,200 rows (58 %), 50 rows/s, 0:10 left, 3 further attempts",
        "rewriting: 1,200 of 1,200 rows (100 %), 91 rows/s, 3 further attempts",
    ]
    assert progress.line_short() == "1,200 of 1,200 rows are finished"


def test_progress_of_an_evaluation_counts_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = generate._Progress(3)
    now += 5.0
    progress.finished(1000)  # too early for a line
    now += 5.0
    progress.finished(4000)
    now += 1.0
    progress.finished(500)
    assert capsys.readouterr().err.splitlines() == [
        "evaluate.py: 3 responses to generate",
        "evaluate.py: 2 of 3 responses in 10 s, 500 tokens/s",
        "evaluate.py: 3 of 3 responses in 11 s, 500 tokens/s",
    ]
