# SPDX-License-Identifier: Apache-2.0
"""Questions at the two ends of a run, out of dumps written by hand."""

import csv
import io

import pytest

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.monitoring.questions import changed_questions, in_words, to_csv


@pytest.fixture(scope="module")
def equivalence():
    with Equivalence() as made:
        yield made


def rollouts(question, answers, truth="", view="original", voter="student"):
    shared = {"question": question, "view": view, "voter": voter, "prompt": f"{question}?", "ground_truth": truth}
    return [{**shared, "answer": answer} for answer in answers]


def validated(key, answers, truth, question="test 1"):
    return [
        {"prompt_id": key, "question": question, "pred": answer, "gts": truth, "input": f"asks {key}"}
        for answer in answers
    ]


def outcomes(changes):
    return {change.question: change.outcome for change in changes}


# Truth of a, b, c, d is 1/2. Steps 1 and 5: a 0.5 0.5 2 then 2 2 -; b 2 2 0.5 then 1/2 0.5 2; c is right, d wrong both
# times. e has no truth and changes, f has none and keeps its answer in another spelling, g is unanswered once, h comes
# once.
FIRST = [
    *rollouts("a", ["0.5", r"\frac12", "2"], "1/2"), *rollouts("b", ["2", "2", "0.5"], "1/2"),
    *rollouts("c", ["1/2", "1/2", None], r"\boxed{1/2}"), *rollouts("d", [None, None, None], "1/2"),
    *rollouts("e", ["1", "1", "2"]), *rollouts("f", ["0.5", "3", "0.5"]), *rollouts("g", [None, None, None]),
    *rollouts("h", ["1", "1", "1"], "1"),
]  # fmt: skip
LAST = [
    *rollouts("b", ["1/2", "0.5", "2"], "1/2"), *rollouts("a", ["2", "2", None], "1/2"),
    *rollouts("c", ["0.5", "0.5", "7"], r"\boxed{1/2}"), *rollouts("d", ["3", "3", "1/2"], "1/2"),
    *rollouts("e", ["2", "2", "1"]), *rollouts("f", ["1/2", "1/2", "3"]), *rollouts("g", ["4", "4", "4"]),
]  # fmt: skip


def test_learned_and_corrupted(equivalence):
    between = (3, rollouts("a", ["9", "9", "9"], "1/2"))  # neither end: it counts as a visit and nothing else
    changes = changed_questions({"training": [(1, FIRST), between, (5, LAST)]}, equivalence)
    assert outcomes(changes["training"]) == {
        "a": "corrupted", "b": "learned", "c": "right", "d": "wrong", "e": "changed", "f": "same", "g": "unanswered",
    }  # fmt: skip
    (a,) = (change for change in changes["training"] if change.question == "a")
    assert (a.visits, a.first.step, a.first.answer, a.last.step, a.last.answer) == (3, 1, "0.5", 5, "2")
    assert (a.first.right, a.last.right) == (pytest.approx(2 / 3), 0.0)
    assert in_words(changes) == (
        "training: 1 corrupted (right → wrong), 1 learned (wrong → right), 1 right both times, 1 wrong both times, "
        "1 changed their majority answer, 1 kept it, 1 without one"
    )


def test_sure_questions_are_counted_apart(equivalence):
    # agreement at first: a 3/4 and then wrong, b 4/4 and then right, c 3/4 and stays, d 2/4 and corrupted; e has one
    # response, which agrees with itself; f has no truth, was sure (3/4) and changes
    first = [
        *rollouts("a", ["1", "1.0", "1", "2"], "1"), *rollouts("b", ["2"] * 4, "1"),
        *rollouts("c", ["1", "1", None, "1"], "1"), *rollouts("d", ["1", "1", "2", "3"], "1"),
        *rollouts("e", ["1"], "1"), *rollouts("f", ["1", "1", "1", "2"]),
    ]  # fmt: skip
    last = [
        *rollouts("a", ["2"] * 4, "1"), *rollouts("b", ["1"] * 4, "1"), *rollouts("c", ["1"] * 4, "1"),
        *rollouts("d", ["2", "2", "2", "1"], "1"), *rollouts("e", ["2"], "1"), *rollouts("f", ["2"] * 4),
    ]  # fmt: skip
    changes = changed_questions({"training": [(1, first), (2, last)]}, equivalence)
    agreements = {change.question: (change.first.agreement, change.last.agreement) for change in changes["training"]}
    assert agreements == {
        "a": (0.75, 1.0), "b": (1.0, 1.0), "c": (0.75, 1.0), "d": (0.5, 0.75), "e": (None, None), "f": (0.75, 1.0),
    }  # fmt: skip
    assert in_words(changes) == (
        "training: 3 corrupted (right → wrong), 1 learned (wrong → right), 1 right both times, 1 changed their "
        "majority answer (of 4 sure at first, agreement ≥ 0.75: 1 corrupted, 1 learned, 1 changed)"
    )
    rows = {row["question"]: row for row in csv.DictReader(io.StringIO(to_csv(changes)))}
    assert (rows["d"]["first_agreement"], rows["e"]["last_agreement"]) == ("0.500", "")


def test_nothing_that_was_visited_twice(equivalence):
    changes = changed_questions({"training": [(1, FIRST)], "held-out": []}, equivalence)
    assert changes == {"training": [], "held-out": []} and in_words(changes) == ""


def test_the_student_is_looked_at_in_the_original_wording_and_rows_that_only_vote_count(equivalence):
    # the teacher says 7 and the other wording 8; with the two that only vote the majority of step 1 is 1
    votes_only = [{**row, "trained": False, "reward": None} for row in rollouts("a", ["1", "1"], "1")]
    first = [*rollouts("a", ["2"], "1"), *votes_only, *rollouts("a", ["8"] * 4, "1", view="rephrased")]
    last = [*rollouts("a", ["7"] * 4, "1", voter="teacher"), *rollouts("a", ["2", "1", "2"], "1", view="rephrased")]
    (change,) = changed_questions({"training": [(1, first), (2, last)]}, equivalence)["training"]
    assert (change.first.answer, change.last.answer, change.outcome) == ("1", "2", "corrupted")


def test_held_out_questions_are_told_apart_by_their_prompt(equivalence):
    # two sets name a question alike; an older run named none
    first = [*validated("p", ["2"], "1"), *validated("q", ["1", ""], "1"), {"input": "?", "gts": "1", "acc": 1.0}]
    last = [*validated("q", ["3", "3"], "1"), *validated("p", ["1.0"], "1")]
    changes = changed_questions({"held-out": [(0, first), (4, last)]}, equivalence)["held-out"]
    assert [(change.prompt, change.question, change.outcome) for change in changes] == [
        ("asks p", "test 1", "learned"),
        ("asks q", "test 1", "corrupted"),
    ]
    assert changes[1].first.right == 0.5  # one of two answered


def test_answers_are_compared_as_the_data_says(equivalence):
    # letters of options, whose truth may be written as a text; 1/2 as text is not 0.5
    letter = {"answer_format": "choice", "choices": ["Paris", "Rome"]}
    text = {"answer_format": "tag/text"}
    first = [{**row, **letter} for row in rollouts("a", ["A"], "Rome")] + [
        {**row, **text} for row in rollouts("b", ["0.5"], "1/2")
    ]
    last = [{**row, **letter} for row in rollouts("a", ["B"], "Rome")] + [
        {**row, **text} for row in rollouts("b", ["1/2"], "1/2")
    ]
    held_out = [
        [{**row, "answer_format": "choice", "choices": '["Paris", "Rome"]'} for row in validated("p", [answer], "Rome")]
        for answer in ("B", "A")
    ]
    changes = changed_questions(
        {"training": [(1, first), (2, last)], "held-out": [(0, held_out[0]), (2, held_out[1])]}, equivalence
    )
    assert outcomes(changes["training"]) == {"a": "learned", "b": "learned"}
    assert outcomes(changes["held-out"]) == {"test 1": "corrupted"}


def test_the_table_holds_one_line_a_question_and_no_formulas(equivalence):
    hostile = '=HYPERLINK("http://x")\n\x00,"'
    dumps = {
        "training": [
            (1, [*rollouts("x", [hostile]), *rollouts("y", ["-3"], "-3"), *rollouts("z", ["-x"], "1")]),
            (2, [*rollouts("x", ["+1"]), *rollouts("y", ["-3"], "-3"), *rollouts("z", ["1"], "1")]),
        ]
    }
    text = to_csv(changed_questions(dumps, equivalence))
    rows = {row["question"]: row for row in csv.DictReader(io.StringIO(text))}
    assert [*rows] == ["z", "y", "x"]  # learned, right, changed
    assert rows["x"]["first_answer"].startswith("'=HYPERLINK") and rows["x"]["last_answer"] == "+1"
    assert rows["z"]["first_answer"] == "'-x" and rows["y"]["first_answer"] == "-3"
    assert (rows["y"]["set"], rows["y"]["visits"], rows["y"]["first_right"]) == ("training", "2", "1.000")
    assert (rows["x"]["ground_truth"], rows["x"]["first_right"]) == ("", "")


def test_more_questions_than_are_compared_at_once(equivalence):
    dump = [(step, [row for i in range(300) for row in rollouts(str(i), [str(i * step)], str(i))]) for step in (1, 2)]
    counted = changed_questions({"training": dump}, equivalence)["training"]
    assert len(counted) == 300
    assert outcomes(counted) == {str(i): "corrupted" if i else "right" for i in range(300)}  # 2 · 0 = 0
