# SPDX-License-Identifier: Apache-2.0
"""Signs of collapse of one step, on questions written out by hand. Axes: P questions, G rollouts of one."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Rollout, Scores
from co_rewarding.monitoring.collapse import MAX_TOKENS, LabelHistory, answer_spread, collapse_metrics, repetition

SAME = Equivalence().same  # numbers only: no process is started


def tokens(text: str) -> np.ndarray:
    """A response of which each character is a token."""
    return np.array([ord(character) for character in text], dtype=np.int64)


def group(
    question: str, answers_G: Sequence[str | None], view: str = "original", voter: str = "student"
) -> list[Rollout]:
    return [Rollout(question=question, view=view, voter=voter, answer=answer) for answer in answers_G]


def signs(
    rollouts: Sequence[Rollout], scores: Scores, history: LabelHistory | None = None, **columns: Sequence
) -> dict[str, float]:
    return collapse_metrics(
        rollouts,
        scores,
        columns.get("tokens", [tokens("ab")] * len(rollouts)),
        10,
        SAME,
        history or LabelHistory(),
    )


def test_one_step_by_hand() -> None:
    # majority answers: q1 7 (3 of 4), q2 7 (2 of 4; written 7.0), q3 5 (1 of 4), q4 none
    rollouts = [
        *group("q1", ["7", "7", "7", "1"]),
        *group("q2", ["7.0", "7", "2", None]),
        *group("q3", ["5", None, None, None]),
        *group("q4", [None] * 4),
    ]
    # 4 · 13 + 2 · 10 + 8 = 80 tokens, 2 of 16 at the limit of 10
    responses = [tokens("abcd")] * 13 + [tokens("abcdefghij")] * 2 + [tokens("xyzwxyzw")]
    for method in ("majority_voting", "format_only"):
        scores = score_rollouts(METHODS[method], RewardInputs(rollouts, SAME))
        assert signs(rollouts, scores, tokens=responses) == pytest.approx(
            {
                # (3/4 + 2/4 + 1/4 + 0) / 4
                "collapse/agreement": 1.5 / 4,
                # two of the three questions with a majority answer
                "collapse/answer_concentration": 2 / 3,
                "collapse/answer_entropy": -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)),
                "collapse/length": 80 / 16,
                "collapse/length_limit": 2 / 16,
                # the last has five 4-grams: xyzw yzwx zwxy wxyz xyzw, four of them different; the others repeat none
                "collapse/repetition": (1 - 4 / 5) / 16,
            }
        )


def test_no_data_is_no_metric() -> None:
    empty = score_rollouts(METHODS["format_only"], RewardInputs([], SAME))
    assert signs([], empty) == {}
    # nobody answered, two tokens each: no majority answer, no 4-gram, no second visit; lengths are there
    rollouts = group("q1", [None, None]) + group("q2", [None, None])
    found = signs(rollouts, score_rollouts(METHODS["format_only"], RewardInputs(rollouts, SAME)))
    assert found == {"collapse/agreement": 0.0, "collapse/length": 2.0, "collapse/length_limit": 0.0}
    # a single question always agrees with itself
    assert answer_spread(["7"]) == {}


def test_answer_spread() -> None:
    assert answer_spread(["3"] * 8) == {"collapse/answer_concentration": 1.0, "collapse/answer_entropy": 0.0}
    # four different answers: log 4; 1/2 and \frac{1}{2} are one: shares 1/2 1/4 1/4, entropy 3/2 bits
    assert answer_spread(["1", "2", "3", "x+1"])["collapse/answer_entropy"] == pytest.approx(math.log(4))
    assert answer_spread([r"\frac{1}{2}", "1/2", "2", "3"]) == pytest.approx(
        {"collapse/answer_concentration": 1 / 2, "collapse/answer_entropy": 1.5 * math.log(2)}
    )


def test_a_question_in_two_wordings_counts_once() -> None:
    # by the original where it has a majority answer: q1 4, q2 6 (the original found none)
    rollouts = [
        *group("q1", ["4", "4"]),
        *group("q1", ["6", "6"], view="rephrased"),
        *group("q2", [None, None]),
        *group("q2", ["6", "6"], view="rephrased"),
    ]
    found = signs(rollouts, consensus_rewards(rollouts, "student", "other", SAME))
    assert found["collapse/answer_concentration"] == 1 / 2
    assert found["collapse/agreement"] == 3 / 4  # of all four groups


def test_the_teacher_is_not_the_policy() -> None:
    # the teacher gives one answer to everything, at great length; the student does not
    student = group("q1", ["1", "1"]) + group("q2", ["2", "2"])
    teacher = group("q1", ["9", "9"], voter="teacher") + group("q2", ["9", "9"], voter="teacher")
    scores = consensus_rewards(student + teacher, "teacher", "same", SAME)
    found = signs(student + teacher, scores, tokens=[tokens("abcd")] * 4 + [tokens("a" * 10)] * 4)
    assert found["collapse/answer_concentration"] == 1 / 2
    assert (found["collapse/length"], found["collapse/length_limit"], found["collapse/repetition"]) == (4, 0, 0)


def test_label_flips_between_visits() -> None:
    history = LabelHistory()
    assert history.flips({("q1", "original"): "1", ("q2", "original"): "2"}, SAME) == (0, 0)  # nothing to compare
    # q1 changed, q2 was only written differently, q3 is new
    second = {("q1", "original"): "5", ("q2", "original"): "2.0", ("q3", "original"): "3"}
    assert history.flips(second, SAME) == (1, 2)
    # a visit without a label is none: q1 is compared with 5 the next time
    assert history.flips({("q1", "original"): None}, SAME) == (0, 0)
    assert history.flips({("q1", "original"): "5", ("q1", "rephrased"): "8"}, SAME) == (0, 1)


def test_label_flips_use_the_labels_of_the_method() -> None:
    # the teacher's label stays 9, whatever the student's majority does; without a vote it is the student's that counts
    def visit(student_answer: str) -> list[Rollout]:
        return group("q1", [student_answer] * 2) + group("q1", ["9", "9"], voter="teacher")

    history = LabelHistory()
    for answer in "12":
        found = signs(visit(answer), consensus_rewards(visit(answer), "teacher", "same", SAME), history)
    assert found["collapse/label_flips"] == 0
    history = LabelHistory()
    for answer in "12":
        found = signs(visit(answer), score_rollouts(METHODS["format_only"], RewardInputs(visit(answer), SAME)), history)
    assert found["collapse/label_flips"] == 1


def test_history_survives_a_checkpoint() -> None:
    history = LabelHistory()
    history.flips({("q1", "original"): "1", ("q1", "rephrased"): r"\frac{1}{2}"}, SAME)
    resumed = LabelHistory()
    resumed.load_state_dict(json.loads(json.dumps(history.state_dict())))
    assert resumed.flips({("q1", "original"): "1", ("q1", "rephrased"): "3"}, SAME) == (1, 2)


def test_repetition() -> None:
    responses = ["", "abc", "abcd", "abc44444", "aaaaaaaa", "abababab"]
    # none and none; one; abc4 bc44 c444 4444 4444; five times aaaa; abab and baba in turn, five
    expected = [None, None, 0.0, 1 - 4 / 5, 1 - 1 / 5, 1 - 2 / 5]
    assert repetition(list(map(tokens, responses))) == pytest.approx(expected)
    assert repetition([]) == []


def test_repetition_is_that_of_the_set_of_ngrams() -> None:
    rng = np.random.default_rng(0)
    responses = [
        rng.integers(0, vocabulary, size=size) for vocabulary in (2, 7, 151_936) for size in range(0, 2000, 61)
    ]
    for tokens_T, share in zip(responses, repetition(responses), strict=True):
        end = tokens_T[-MAX_TOKENS:].tolist()
        ngrams = list(zip(end, end[1:], end[2:], end[3:], strict=False))
        assert share == (1 - len(set(ngrams)) / len(ngrams) if ngrams else None)


def test_repetition_looks_at_the_end() -> None:
    # a loop of four tokens behind a long response that does not repeat itself: only the loop is seen
    start, loop = np.arange(5000), np.tile(np.arange(4), MAX_TOKENS // 4)
    assert repetition([start, np.concatenate([start, loop])]) == pytest.approx([0.0, 1 - 4 / (MAX_TOKENS - 3)])
