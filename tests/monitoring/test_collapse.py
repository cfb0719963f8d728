# SPDX-License-Identifier: Apache-2.0
"""Signs of collapse of one step, on questions written out by hand. Axes: P questions, G rollouts of one."""

import json
import math
import time
from collections.abc import Sequence

import pytest

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Rollout, Scores
from co_rewarding.monitoring.collapse import MAX_UNITS, LabelHistory, answer_spread, collapse_metrics, repetition

SAME = Equivalence().same  # numbers only: no process is started


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
        columns.get("texts", ["a b"] * len(rollouts)),
        columns.get("lengths", [2] * len(rollouts)),
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
    lengths = (
        [1, 2, 3, 10] + [10, 10, 4, 4] + [1] * 8
    )  # 28 + 16 … = 16 + 28 + 8 = 52 tokens, 3 of 16 at the limit of 10
    texts = ["one two three four"] * 15 + ["x y z w x y z w"]
    for method in ("majority_voting", "format_only"):
        scores = score_rollouts(METHODS[method], RewardInputs(rollouts, SAME))
        assert signs(rollouts, scores, lengths=lengths, texts=texts) == pytest.approx(
            {
                # (3/4 + 2/4 + 1/4 + 0) / 4
                "collapse/agreement": 1.5 / 4,
                # two of the three questions with a majority answer
                "collapse/answer_concentration": 2 / 3,
                "collapse/answer_entropy": -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)),
                "collapse/length": 52 / 16,
                "collapse/length_limit": 3 / 16,
                # the last text has five 4-grams: xyzw yzwx zwxy wxyz xyzw, four of them different; the others have one
                "collapse/repetition": (1 - 4 / 5) / 16,
            }
        )


def test_no_data_is_no_metric() -> None:
    empty = score_rollouts(METHODS["format_only"], RewardInputs([], SAME))
    assert signs([], empty) == {}
    # nobody answered, one word each: no majority answer, no 4-gram, no second visit; lengths are there
    rollouts = group("q1", [None, None]) + group("q2", [None, None])
    found = signs(rollouts, score_rollouts(METHODS["format_only"], RewardInputs(rollouts, SAME)), texts=["a"] * 4)
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
    found = signs(student + teacher, scores, lengths=[2] * 4 + [10] * 4, texts=["a b c d"] * 4 + ["a " * 9] * 4)
    assert found["collapse/answer_concentration"] == 1 / 2
    assert (found["collapse/length"], found["collapse/length_limit"], found["collapse/repetition"]) == (2, 0, 0)


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("so it is", None),  # three units
        ("so it is 4", 0.0),
        ("so it is 4 4 4 4 4", 1 - 4 / 5),  # so it is 4, it is 4 4, is 4 4 4, 4 4 4 4, 4 4 4 4
        ("ha " * 8, 1 - 1 / 5),  # five 4-grams, all the same
        ("1111", 0.0),
        ("11111111", 1 - 1 / 5),  # every digit is a unit
        ("再来再来再来再来", 1 - 2 / 5),  # so is every character of a script without spaces: 再来再来 and 来再来再
        ("z" * 32 * 8, 1 - 1 / 5),  # and every 32 letters of an endless word
    ],
)
def test_repetition(text: str, expected: float | None) -> None:
    assert repetition(text) == (None if expected is None else pytest.approx(expected))


def test_repetition_looks_at_the_end_and_is_bounded() -> None:
    # a loop of four units behind a long text that does not repeat itself: only the loop is seen
    start = " ".join(f"({chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)})" for i in range(9000))
    assert repetition(start) < 0.01
    loop = "a b c d " * (MAX_UNITS // 4)
    assert repetition(start + loop) == pytest.approx(1 - 4 / (MAX_UNITS - 3))
    began = time.perf_counter()
    for hostile in (" " * 10**6, "\\boxed{" * 10**5, "a" * 10**6, "\ud800" * 10**5):
        repetition(hostile)
    assert time.perf_counter() - began < 1.0
