# SPDX-License-Identifier: Apache-2.0
"""What is asked of the rewriting model, and what is read of its response."""

import time

import pytest

from co_rewarding.tools.cli import UserError
from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER, Markers
from co_rewarding.tools.rephrase.instruction import (
    PARSE_FAILURES,
    Instruction,
)

ASK = Instruction()


def marked(text: str) -> str:
    return f"{BEGIN_MARKER}\n{text}\n{END_MARKER}"


@pytest.mark.parametrize(
    ("response", "rewrite"),
    [
        (marked("Compute $1+2$."), "Compute $1+2$."),
        ("Sure!\n" + marked("Compute $1+2$.") + "\nI kept the numbers.", "Compute $1+2$."),
        # models repeat the instruction's example first: the last one counts
        (marked("(the complete new version)") + "\n" + marked("B"), "B"),
        ("<think>" + marked("A?") + "</think>" + marked("B?"), "B?"),
        ("<think>no closing of an inner <think> matters</think>\n" + marked("B?"), "B?"),
        ("###begin_rewritten_question###C### End Rewritten Question", "C"),
        ("## BEGIN REWRITTEN QUESTION ##\nC\n## END REWRITTEN QUESTION ##", "C"),
        (marked("two\n\nparagraphs"), "two\n\nparagraphs"),
    ],
)
def test_rewrite_is_found(response: str, rewrite: str) -> None:
    parsed = ASK.parse(response)
    assert (parsed.rewrite, parsed.failure) == (rewrite, None)


@pytest.mark.parametrize(
    ("response", "reached_limit", "failure"),
    [
        ("Compute $1+2$.", False, "missing_markers"),
        ("", False, "missing_markers"),
        ("Let me see", True, "truncated"),
        (BEGIN_MARKER + " Compute", False, "missing_end_marker"),
        (BEGIN_MARKER + " Compute", True, "truncated"),
        (marked("A") + BEGIN_MARKER, False, "missing_end_marker"),  # the last begin counts
        (END_MARKER + BEGIN_MARKER, False, "missing_end_marker"),
        (marked(" \n "), False, "empty"),
        ("<think>" + marked("A"), False, "unfinished_thinking"),
        ("<think>" + marked("A"), True, "unfinished_thinking"),
    ],
)
def test_missing_rewrite_has_a_name(response: str, reached_limit: bool, failure: str) -> None:
    parsed = ASK.parse(response, reached_limit)
    assert (parsed.rewrite, parsed.failure) == (None, failure)
    assert failure in PARSE_FAILURES


@pytest.mark.parametrize(
    ("piece", "failure"),
    [
        ("#", "missing_markers"),
        ("### ", "missing_markers"),
        (BEGIN_MARKER, "missing_end_marker"),
        ("### BEGIN", "missing_markers"),
        ("</think>", "missing_markers"),
        (" _ ", "missing_markers"),
    ],
)
def test_hostile_response_takes_no_time(piece: str, failure: str) -> None:
    started = time.process_time()
    parsed = ASK.parse(piece * (1_000_000 // len(piece)))  # in quadratic time 10^12 steps: hours
    assert (parsed.rewrite, parsed.failure) == (None, failure)
    assert time.process_time() - started < 3.0


def test_question_is_put_in_unchanged() -> None:
    question = r"What is {question} \\ {} %s $\frac{1}{2}$?"
    (message,) = ASK.messages(question)
    assert message["role"] == "user"
    assert message["content"] == ASK.template.replace("{question}", question)
    assert ASK.markers.find_in(message["content"])


def test_markers_are_found_in_text() -> None:
    assert Markers().find_in("a ### begin rewritten question b") == "### begin rewritten question"
    assert Markers().find_in("The end of the rewritten question") is None
    assert Markers("<<", ">>").find_in("1 << 2") == "<<"


def test_own_instruction_and_markers(tmp_path) -> None:
    path = tmp_path / "ask.txt"
    path.write_text("Rephrase: {question}\nWrite [[ before it and ]] after it.", encoding="utf-8")
    own = Instruction.from_file(path, Markers("[[", "]]"))
    assert own.messages("Why?")[0]["content"].startswith("Rephrase: Why?\n")
    assert own.parse("[[How so?]]").rewrite == "How so?"
    other = Instruction.from_file(None, Markers("<new>", "</new>"))
    assert "<new>" in other.template and BEGIN_MARKER not in other.template


@pytest.mark.parametrize(
    ("text", "markers", "message"),
    [
        ("[[ ]]", ("[[", "]]"), "has {question} 0 times: it must have it once"),
        ("{question} {question} [[ ]]", ("[[", "]]"), "has {question} 2 times"),
        ("{question} ]]", ("[[", "]]"), "does not contain the begin marker '[[': add it, or set --begin_marker"),
        ("{question} [[", ("[[", "]]"), "does not contain the end marker ']]'"),
        ("{question} ||", ("||", "||"), "both markers are '||': use two different ones"),
        ("{question} ||", (" ", "||"), "the begin marker is empty"),
    ],
)
def test_instructions_that_cannot_work_are_refused(tmp_path, text, markers, message) -> None:
    path = tmp_path / "ask.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"ask\.txt") as error:
        Instruction.from_file(path, Markers(*markers))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unreadable_instructions_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        Instruction.from_file(tmp_path / "none.txt", Markers())
    (tmp_path / "latin.txt").write_bytes(b"\xff{question}")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        Instruction.from_file(tmp_path / "latin.txt", Markers())
