# SPDX-License-Identifier: Apache-2.0
"""Label-free numbers of two validations, counted by hand."""

from operator import eq

import pytest

from co_rewarding.monitoring.collapse import LabelHistory
from co_rewarding.monitoring.held_out import HeldOutResponse, held_out_metrics

LIMIT = 8


def asked(source: str, question: str, *answers: str | None, length: int = 4) -> list[HeldOutResponse]:
    return [HeldOutResponse(source, "", question, f"uid of {question}", answer, length) for answer in answers]


def test_every_number_of_a_validation() -> None:
    responses = [
        *asked("sums", "p", "1", "1", "2", None),  # agreement 2/4
        *asked("sums", "q", "5", None, None, None, length=LIMIT),  # 1/4
        *asked("sums", "r", None, None, None, None, length=6),  # 0: nobody found an answer
        *asked("other/set", "p", "7", "7"),
    ]
    interleaved = responses[::2] + responses[1::2]  # verl hands them over in any order, a group's own aside
    assert held_out_metrics(interleaved, LIMIT, eq, LabelHistory()) == {
        "val-label-free/sums/agreement": (2 / 4 + 1 / 4 + 0) / 3,
        "val-label-free/sums/answer_share": (3 + 1 + 0) / 12,
        "val-label-free/sums/length": (4 * 4 + 4 * 8 + 4 * 6) / 12,
        "val-label-free/sums/length_limit": 4 / 12,
        "val-label-free/other/set/agreement": 1.0,
        "val-label-free/other/set/answer_share": 1.0,
        "val-label-free/other/set/length": 4.0,
        "val-label-free/other/set/length_limit": 0.0,
    }


def test_stability_is_of_questions_answered_both_times() -> None:
    history = LabelHistory()

    def stability(responses: list[HeldOutResponse]) -> float | None:
        return held_out_metrics(responses, LIMIT, eq, history).get("val-label-free/sums/stability")

    first = [("p", "1"), ("q", "5"), ("r", None), ("s", "2")]
    assert stability([row for q, answer in first for row in asked("sums", q, answer)]) is None  # no validation before
    # p stays, q changes, r had none before, s has none now: one of two
    second = [("p", "1"), ("q", "6"), ("r", "3"), ("s", None)]
    assert stability([row for q, answer in second for row in asked("sums", q, answer)]) == 1 / 2
    # now p, q and r stay, and s is again what it was when it last had an answer
    assert stability([row for q, answer in [*second[:3], first[3]] for row in asked("sums", q, answer)]) == 1.0
    # the same prompt in another set is another question
    assert "val-label-free/new/stability" not in held_out_metrics(asked("new", "p", "1"), LIMIT, eq, history)


def test_one_response_has_a_majority_answer_but_no_agreement() -> None:
    metrics = held_out_metrics(asked("sums", "p", "1"), LIMIT, eq, LabelHistory())
    assert metrics == {
        "val-label-free/sums/answer_share": 1.0,
        "val-label-free/sums/length": 4.0,
        "val-label-free/sums/length_limit": 0.0,
    }


def test_answers_are_compared_as_a_vote_compares_them() -> None:
    same = lambda a, b: float(a) == float(b)  # noqa: E731
    history = LabelHistory()
    first = held_out_metrics(asked("sums", "p", "0.5", "2", ".50"), LIMIT, same, history)
    assert first["val-label-free/sums/agreement"] == pytest.approx(2 / 3)
    again = held_out_metrics(asked("sums", "p", "5e-1", "2", ".50"), LIMIT, same, history)
    assert again["val-label-free/sums/stability"] == 1.0


def test_two_wordings_of_a_question_agree_or_not() -> None:
    def views_agree(*wordings: tuple[str, str, str | None]) -> float | None:
        responses = [
            HeldOutResponse("sums", q, prompt, f"uid of {prompt}", answer, 4) for q, prompt, answer in wordings
        ]
        return held_out_metrics(responses, LIMIT, eq, LabelHistory()).get("val-label-free/sums/views_agree")

    pairs = [("test 1", "p", "5"), ("test 1", "p'", "5"), ("test 2", "q", "5"), ("test 2", "q'", "6")]
    assert views_agree(*pairs) == 1 / 2
    # a wording without an answer is in no pair, nor is a question in one wording, though it was asked twice
    assert views_agree(*pairs, ("test 3", "r", "5"), ("test 3", "r'", None), ("test 4", "s", "5")) == 1 / 2
    assert views_agree(("test 4", "s", "5"), ("test 4", "s", "5")) is None
    assert views_agree(*(("0", prompt, "5") for prompt in "pqr")) is None  # rows that share their id
    assert views_agree(("", "p", "5"), ("", "q", "5")) is None  # rows without one


def test_nothing_validated_is_no_number() -> None:
    assert held_out_metrics([], LIMIT, eq, LabelHistory()) == {}
