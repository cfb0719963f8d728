# SPDX-License-Identifier: Apache-2.0
"""Eq. 8 on groups written out by hand."""

import random
from fractions import Fraction

import pytest

from co_rewarding.algo.voting import Vote, majority_vote


def same_number(a: str, b: str) -> bool:
    return Fraction(a) == Fraction(b)


def test_votes_are_counted_over_classes():
    # 0.5, 1/2 and 2/4 are one class with 3 of 5 votes; the label is the one that came first, as written
    vote = majority_vote(["7", "0.5", "7", "1/2", "2/4"], same_number)
    assert vote == Vote("0.5", agreement=3 / 5, num_answered=5, num_rollouts=5, classes=(("7", 2), ("0.5", 3)))
    assert (vote.num_votes, vote.num_classes) == (3, 2)


def test_rollouts_without_answer_count_in_the_agreement():
    # one box in eight responses is 1/8, not unanimous
    vote = majority_vote([None, None, "3", None, None, None, None, None], same_number)
    assert vote == Vote("3", agreement=1 / 8, num_answered=1, num_rollouts=8, classes=(("3", 1),))


def test_tie_goes_to_the_class_that_came_first():
    assert majority_vote(["1", "2", "2", "1"], same_number).pseudo_label == "1"
    assert majority_vote(["2", "1", "2", "1"], same_number).pseudo_label == "2"
    assert majority_vote(["5", "1", "2", "2", "1"], same_number).pseudo_label == "1"


def test_order_does_not_matter_without_a_tie():
    answers = ["1/2", "3", "0.5", None, "4", "2/4", "3"]  # 1/2 has 3 votes, 3 has 2, 4 has 1
    rng = random.Random(0)
    for _ in range(100):
        rng.shuffle(answers)
        vote = majority_vote(answers, same_number)
        assert Fraction(vote.pseudo_label) == Fraction(1, 2)
        assert vote.agreement == 3 / 7


@pytest.mark.parametrize(
    ("min_agreement", "label"),
    [(0.0, "1"), (0.5, "1"), (0.51, None), (1.0, None)],  # "1" has 2 of 4
)
def test_minimum_agreement(min_agreement, label):
    vote = majority_vote(["1", "1", "2", None], same_number, min_agreement)
    assert vote.pseudo_label == label
    assert vote.agreement == 0.5  # reported whether or not it was enough


def test_groups_without_votes():
    assert majority_vote([], same_number) == Vote(None, 0.0, 0, 0)
    assert majority_vote([None, None], same_number) == Vote(None, 0.0, 0, 2)
    assert (Vote(None, 0.0, 0, 2).num_votes, Vote(None, 0.0, 0, 2).num_classes) == (0, 0)


@pytest.mark.parametrize("min_agreement", [-0.1, 1.1, float("nan")])
def test_minimum_agreement_must_be_a_share(min_agreement):
    with pytest.raises(ValueError, match=f"min_agreement is {min_agreement}"):
        majority_vote(["1"], same_number, min_agreement)
