# SPDX-License-Identifier: Apache-2.0
"""Columns of tables as they are found in the wild."""

import pytest

from co_rewarding.storage.columns import Columns, Found, find_columns


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("question answer", Found("question", "answer", (), None, None)),
        ("Problem,Ground Truth,Unique ID", Found("Problem", "Ground Truth", (), "Unique ID", None)),
        (
            "problem solution answer subject level unique_id",
            Found("problem", "answer", (), "unique_id", None),
        ),  # MATH-500
        ("id question choices answerKey", Found("question", "answerKey", ("choices",), "id", None)),  # ARC
        ("question subject choices answer", Found("question", "answer", ("choices",), None, None)),  # MMLU
        ("id question A B C D answer", Found("question", "answer", ("A", "B", "C", "D"), "id", None)),  # C-Eval
        ("Q,question,option_a,option_b,label", Found("question", "label", ("option_a", "option_b"), None, None)),
        ("query choice_1 choice_2 choice_3", Found("query", None, ("choice_1", "choice_2", "choice_3"), None, None)),
        ("Input,Option A,Option B,Target", Found("Input", "Target", ("Option A", "Option B"), None, None)),
        ("编号 题目 答案 选项A 选项B", Found("题目", "答案", ("选项A", "选项B"), "编号", None)),
        ("question options correct", Found("question", "correct", ("options",), None, None)),  # AQuA
        ("question opa opb opc opd", Found("question", None, ("opa", "opb", "opc", "opd"), None, None)),  # MedMCQA
        ("question a b c d answer", Found("question", "answer", ("a", "b", "c", "d"), None, None)),
        ("question a b c answer", Found("question", "answer", (), None, None)),
        ("question a b", Found("question", None, (), None, None)),  # names in small letters are other things
        ("question answer_format", Found("question", None, (), None, "answer_format")),
    ],
)
def test_found_by_name(names: str, found: Found) -> None:
    assert find_columns(names.split("," if "," in names else " "), Columns()) == found


def test_what_is_named_wins_and_nothing_can_be_named() -> None:
    names = ["instruction", "input", "text", "output", "x", "y"]
    found = find_columns(names, Columns(question="text", answer="", choices="x, y", id=""))
    assert found == Found("text", None, ("x", "y"), None, None)


@pytest.mark.parametrize(
    ("names", "given", "why"),
    [
        ("text key", Columns(), "no column for the question; name it with --question; its columns are text, key"),
        (
            "instruction input output",
            Columns(),
            "instruction, input may each be the question; name one with --question",
        ),
        ("question target label", Columns(), "target, label may each be the answer; name one with --answer"),
        ("question choices A B", Columns(), "choices, A, B may each hold the choices; .*with --choices"),
        ("question", Columns(answer="key"), "--answer key: no such column; its columns are question"),
        ("question A", Columns(choices="A,B"), "--choices B: no such column"),
    ],
)
def test_what_cannot_be_inferred_is_asked(names: str, given: Columns, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        find_columns(names.split(), given)
