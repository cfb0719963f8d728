# SPDX-License-Identifier: Apache-2.0
"""Flips in a row over several visits, and what a withheld label leaves of the scores."""

from operator import eq

import pytest

from co_rewarding.algo.label_flips import Visit, visits, withhold
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import Rollout

GROUP = ("q", "original")


@pytest.mark.parametrize(
    ("labels", "flips"),
    [
        ("5", [0]),  # nothing to compare with
        ("555", [0, 0, 0]),
        ("56", [0, 1]),
        ("566", [0, 1, 0]),  # confirmed
        ("567", [0, 1, 2]),  # changes in a row
        ("5656", [0, 1, 2, 3]),  # back is a change, too
        ("56677", [0, 1, 0, 1, 0]),  # each confirmed
        (["5", None, "5"], [0, None, 0]),  # a step without a label is no visit
        (["5", None, "6", None, "7"], [0, None, 1, None, 2]),
        (["5", "5.0"], [0, 0]),  # as the relation has it
    ],
)
def test_flips_in_a_row(labels, flips) -> None:
    last, found = {}, []
    for label in labels:
        now = visits(last, {GROUP: label}, lambda a, b: float(a) == float(b))
        last |= now
        found.append(now[GROUP].flips if GROUP in now else None)
    assert found == flips


def test_views_are_visited_by_themselves() -> None:
    # one-direction III asks one view a step: original 5, rephrased 6, original 5, rephrased 7
    last: dict = {}
    for view, label, flips in [
        ("original", "5", 0),
        ("rephrased", "6", 0),
        ("original", "5", 0),
        ("rephrased", "7", 1),
    ]:
        now = visits(last, {("q", view): label}, eq)
        assert now == {("q", view): Visit(label, flips)}
        last |= now


def test_a_withheld_label_earns_nothing() -> None:
    # q's teacher votes 3 in the original and 4 in the rephrased view; p's votes 3
    rollouts = [
        Rollout(question, view, voter, answer)
        for question, view, voter, answers in [
            ("q", "original", "student", "33"),
            ("q", "rephrased", "student", "34"),
            ("q", "original", "teacher", "33"),
            ("q", "rephrased", "teacher", "44"),
            ("p", "original", "student", "39"),
            ("p", "original", "teacher", "33"),
        ]
        for answer in answers
    ]
    scores = consensus_rewards(rollouts, "teacher", "same", eq)
    assert scores.rewards == (1, 1, 0, 1, None, None, None, None, 1, 0, None, None)
    found = withhold(rollouts, scores, {GROUP})
    assert found.rewards == (0, 0, 0, 1, None, None, None, None, 1, 0, None, None)
    assert found.row_labels == (None, None, "4", "4", None, None, "4", "4", "3", "3", "3", "3")
    assert found.group_labels == {GROUP: None, ("q", "rephrased"): "4", ("p", "original"): "3"}
    assert found.withheld == {GROUP: "3"}
    assert found.votes == scores.votes  # what was voted stays known
    assert withhold(rollouts, scores, set()).rewards == scores.rewards
    assert withhold(rollouts, scores, set()).withheld == {}  # looked for, none found


def test_a_withheld_label_takes_negative_rewards_with_it() -> None:
    rollouts = [Rollout("q", "original", "student", answer) for answer in ["5", "5", None]]
    scores = consensus_rewards(rollouts, "student", "same", eq, payout="negative")
    assert scores.rewards == (1, 1, -1)
    assert withhold(rollouts, scores, {GROUP}).rewards == (0, 0, 0)  # equal: no advantage
