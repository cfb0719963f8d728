# SPDX-License-Identifier: Apache-2.0
"""Metrics of two questions, counted by hand; what has no data is absent."""

import random
from operator import eq

import pytest

from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Rollout
from co_rewarding.monitoring.metrics import group_metrics

# Two questions, two views, three student rollouts each; truth of p is 1, q has none.
#   p original 1 1 2    p rephrased 1 - 3 (tie: 1)    q original 5 - -    q rephrased - - -
ANSWERS = {
    ("p", "original"): ["1", "1", "2"],
    ("p", "rephrased"): ["1", None, "3"],
    ("q", "original"): ["5", None, None],
    ("q", "rephrased"): [None, None, None],
}
ROLLOUTS = [Rollout(q, view, "student", a) for (q, view), answers in ANSWERS.items() for a in answers]
TRUTHS = ["1" if row.question == "p" else "" for row in ROLLOUTS]


def test_rewards_are_of_the_rows_that_are_trained_on_and_answers_of_all():
    # truth 1; trained on: 1 2, only voting: 2 -; the vote is 2, which rewards 0 1: right about neither
    rollouts = [Rollout("p", "original", "student", a, t) for a, t in (("1", 1), ("2", 1), ("2", 0), (None, 0))]
    scores = consensus_rewards(rollouts, "student", "same", eq)
    assert group_metrics(rollouts, scores, ["1"] * 4, eq) == {
        "label/share": 1.0,
        "label/missing": 0.0,
        "label/agreement": 2 / 4,
        "label/accuracy": 0.0,
        "answer/share": 3 / 4,
        "answer/unevaluated": 0.0,
        "answer/accuracy": 1 / 4,
        "reward/mean": 1 / 2,
        "reward/accuracy": 0.0,
    }


def test_every_metric_of_co_rewarding_I():
    scores = consensus_rewards(ROLLOUTS, "student", "other", eq)
    # labels: p original 1, p rephrased 1, q original none, q rephrased 5; rewards 110 100 000 000
    assert group_metrics(ROLLOUTS, scores, TRUTHS, eq) == {
        "label/share": 3 / 4,
        "label/missing": 0.0,
        "label/agreement": (2 / 3 + 1 / 3 + 1 / 3 + 0) / 4,
        "label/accuracy": 1.0,  # the two of p; q's label has no truth to be compared with
        "label/views_agree": 1.0,  # p alone has a vote in both views
        "answer/share": 6 / 12,
        "answer/unevaluated": 0.0,
        "answer/accuracy": 3 / 6,
        "reward/mean": 3 / 12,
        "reward/accuracy": 1.0,  # of p's six rows
        "label/share/original": 1 / 2,
        "label/agreement/original": (2 / 3 + 1 / 3) / 2,
        "label/accuracy/original": 1.0,
        "answer/share/original": 4 / 6,
        "answer/unevaluated/original": 0.0,
        "answer/accuracy/original": 2 / 3,
        "reward/mean/original": 2 / 6,
        "reward/accuracy/original": 1.0,
        "label/share/rephrased": 2 / 2,
        "label/agreement/rephrased": (1 / 3 + 0) / 2,
        "label/accuracy/rephrased": 1.0,
        "answer/share/rephrased": 2 / 6,
        "answer/unevaluated/rephrased": 0.0,
        "answer/accuracy/rephrased": 1 / 3,
        "reward/mean/rephrased": 1 / 6,
        "reward/accuracy/rephrased": 1.0,
    }


def test_a_reward_that_is_a_share_is_not_right_or_wrong():
    # unanimous, so each share is 0 or 1 by chance: the number would come and go from step to step
    rollouts = [Rollout(q, "original", "student", a) for q in "pq" for a in (["1", "1"] if q == "p" else [None, None])]
    for payout in ("hard", "soft", "negative"):
        scores = consensus_rewards(rollouts, "student", "same", eq, payout=payout)
        assert scores.rewards == (1, 1, 0, 0)
        metrics = group_metrics(rollouts, scores, ["1"] * 4, eq)
        assert metrics["reward/mean"] == 1 / 2
        assert ("reward/accuracy" in metrics) == (payout == "hard")


def test_a_wrong_label_still_punishes_scattered_answers():
    rollouts = [Rollout("p", "original", "student", a) for a in ("2", "2", "3", "4")]
    scores = consensus_rewards(rollouts, "student", "same", eq)
    metrics = group_metrics(rollouts, scores, ["1"] * 4, eq)
    assert metrics["label/accuracy"] == 0.0
    assert metrics["reward/accuracy"] == 2 / 4  # 3 and 4 got the 0 that the truth would have given


def test_without_ground_truth_nothing_claims_accuracy():
    scores = consensus_rewards(ROLLOUTS, "student", "other", eq)
    for truths in (None, [None] * 12, [""] * 12):
        metrics = group_metrics(ROLLOUTS, scores, truths, eq)
        assert not [name for name in metrics if "accuracy" in name]
        assert metrics["label/share"] == 3 / 4


def test_one_view_has_no_view_metrics():
    rollouts = ROLLOUTS[:3]
    metrics = group_metrics(rollouts, consensus_rewards(rollouts, "student", "same", eq), None, eq)
    names = {"answer/share", "answer/unevaluated", "label/agreement", "label/missing", "label/share", "reward/mean"}
    assert set(metrics) == names


def test_computations_are_counted_among_the_answers():
    # of three answers, two only pose what is to be computed; a response without one does not count
    rollouts = [Rollout("q", "original", "student", answer) for answer in ("58+23", "81", r"\gcd(2, 4)", None)]
    metrics = group_metrics(rollouts, consensus_rewards(rollouts, "student", "same", eq), None, eq)
    assert metrics["answer/unevaluated"] == 2 / 3


def test_no_labels_no_label_metrics():
    for name in ("random", "format_only"):
        metrics = group_metrics(ROLLOUTS, score_rollouts(METHODS[name], RewardInputs(ROLLOUTS, eq)), None, eq)
        assert not [name for name in metrics if name.startswith("label/")]
    nobody = [Rollout("p", "original", "student", None)] * 2
    metrics = group_metrics(nobody, consensus_rewards(nobody, "student", "same", eq), ["1", "1"], eq)
    # no label to be right or wrong; every row got the 0 it deserved
    assert "label/accuracy" not in metrics
    assert metrics["label/share"] == 0.0
    assert metrics["reward/accuracy"] == 1.0


def test_missing_voting_groups_are_counted():
    rollouts = ROLLOUTS[:6] + ROLLOUTS[6:9]  # q has lost its rephrased group
    metrics = group_metrics(rollouts, consensus_rewards(rollouts, "student", "other", eq), None, eq)
    assert metrics["label/missing"] == 1 / 3


def test_teacher_beside_the_student():
    teacher = [Rollout(q, "original", "teacher", a) for q, a in [("p", "2"), ("p", "2"), ("q", "5"), ("q", None)]]
    rollouts = ROLLOUTS[:3] + ROLLOUTS[6:9] + teacher
    truths = ["1"] * 3 + [None] * 3 + ["1", "1", None, None]
    metrics = group_metrics(rollouts, consensus_rewards(rollouts, "teacher", "same", eq), truths, eq)
    assert metrics["label/voters_agree"] == 1 / 2  # p: 1 against 2, q: 5 and 5
    assert metrics["label/agreement"] == (2 / 2 + 1 / 2) / 2  # the teacher's votes
    assert metrics["answer/share/teacher"] == 3 / 4
    assert metrics["answer/accuracy/teacher"] == 0.0
    assert metrics["reward/mean"] == (1 + 1) / 6  # p: 2 is labelled right once, q: 5 once


def test_stopped_rollouts_are_votes_that_were_not_needed():
    done = [Rollout("p", "original", "teacher", "2")] * 3
    stopped = [Rollout("p", "original", "teacher", None, stopped=True)] * 2
    rollouts = [*ROLLOUTS[:3], *done, *stopped]
    metrics = group_metrics(rollouts, consensus_rewards(rollouts, "teacher", "same", eq), ["2"] * 8, eq)
    assert metrics["label/agreement"] == 3 / 5  # at least
    assert metrics["answer/share/teacher"] == metrics["answer/accuracy/teacher"] == 1.0  # of those that could answer


def test_nothing_at_all():
    assert group_metrics([], consensus_rewards([], "student", "other", eq), None, eq) == {}


def test_a_teacher_that_answered_the_other_wording_alone_is_compared_by_that() -> None:
    # one-direction III: the student answers p in its original and q in its rephrased wording, the teacher the other one
    answers = {
        ("p", "original", "student"): "1", ("p", "rephrased", "teacher"): "1",
        ("q", "rephrased", "student"): "2", ("q", "original", "teacher"): "3",
    }  # fmt: skip
    rollouts = [Rollout(*group, answer) for group, answer in answers.items() for _ in range(2)]
    scores = consensus_rewards(rollouts, "teacher", "other", str.__eq__)
    assert scores.rewards == (1, 1, None, None, 0, 0, None, None)
    assert group_metrics(rollouts, scores, None, str.__eq__)["label/voters_agree"] == 0.5


def test_labels_of_co_rewarding_i_and_of_a_vote_on_both_views_are_as_often_right() -> None:
    # 40 questions, two views, four rollouts of three answers or none; the ground truth is 1 for all
    rng = random.Random(0)
    rollouts = [
        Rollout(question, view, "student", rng.choice(["1", "2", "3", None]))
        for question in range(40)
        for view in ("original", "rephrased")
        for _ in range(4)
    ]
    cross, own = (
        group_metrics(rollouts, score_rollouts(METHODS[name], RewardInputs(rollouts, eq)), ["1"] * len(rollouts), eq)
        for name in ("co_rewarding_I", "majority_voting_both_views")
    )
    for name in ("label/accuracy", "label/share", "label/agreement", "label/views_agree", "answer/accuracy"):
        assert cross[name] == pytest.approx(own[name])
    for name in ("label/accuracy", "label/share"):
        assert cross[f"{name}/original"] == pytest.approx(own[f"{name}/rephrased"])
        assert cross[f"{name}/rephrased"] == pytest.approx(own[f"{name}/original"])
    assert cross["label/accuracy/original"] != pytest.approx(cross["label/accuracy/rephrased"])  # else it says nothing
    assert cross["reward/mean"] < own["reward/mean"]  # answers are independent: one agrees more with a vote of its own
