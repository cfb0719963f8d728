# SPDX-License-Identifier: Apache-2.0
"""What a vote pays, for each of the four votes, written out by hand."""

from fractions import Fraction
from operator import eq

import pytest

from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.payout import PAYOUTS, pay
from co_rewarding.algo.rollouts import RewardInputs, Rollout
from co_rewarding.algo.voting import majority_vote

# One question; classes with their shares of the 4 rollouts, and the label.
#   student original  1 1 2 -   1: 1/2  2: 1/4   label 1      student rephrased  2 2 1 2   2: 3/4  1: 1/4   label 2
#   teacher original  3 3 1 3   3: 3/4  1: 1/4   label 3      teacher rephrased  2 1 1 -   1: 1/2  2: 1/4   label 1
GROUPS = {
    ("original", "student"): ["1", "1", "2", None],
    ("rephrased", "student"): ["2", "2", "1", "2"],
    ("original", "teacher"): ["3", "3", "1", "3"],
    ("rephrased", "teacher"): ["2", "1", "1", None],
}
ROLLOUTS = [Rollout("p", view, voter, answer) for (view, voter), answers in GROUPS.items() for answer in answers]


def rewards(name: str, payout: str, min_agreement: float = 0.0) -> tuple[list, list]:
    """Of the student's rollouts on the original question, and on the rephrased one."""
    inputs = RewardInputs(ROLLOUTS, eq, min_agreement=min_agreement, payout=payout)
    scores = score_rollouts(METHODS[name], inputs)
    assert scores.rewards[8:] == (None,) * 8  # the teacher's, never trained on
    return list(scores.rewards[:4]), list(scores.rewards[4:8])


@pytest.mark.parametrize(
    ("name", "original", "rephrased"),
    [
        # its own classes: 1 has 2/4, 2 has 1/4, no answer 0; and 2 has 3/4, 1 has 1/4
        ("majority_voting", [1 / 2, 1 / 2, 1 / 4, 0], [3 / 4, 3 / 4, 1 / 4, 3 / 4]),
        # 1 1 2 - among the rephrased 2 2 1 2, and 2 2 1 2 among the original 1 1 2 -
        ("co_rewarding_I", [1 / 4, 1 / 4, 3 / 4, 0], [1 / 4, 1 / 4, 1 / 2, 1 / 4]),
        # 1 1 2 - among the teacher's 3 3 1 3, none of which is 2; 2 2 1 2 among 2 1 1 -
        ("co_rewarding_II", [1 / 4, 1 / 4, 0, 0], [1 / 4, 1 / 4, 1 / 2, 1 / 4]),
        # 1 1 2 - among the teacher's rephrased 2 1 1 -; 2 2 1 2 among its original 3 3 1 3
        ("co_rewarding_III", [1 / 2, 1 / 2, 1 / 4, 0], [0, 0, 1 / 4, 0]),
    ],
)
def test_soft_pays_the_share_of_the_voters(name: str, original: list, rephrased: list) -> None:
    assert rewards(name, "soft") == (original, rephrased)


@pytest.mark.parametrize(
    ("name", "original", "rephrased"),
    [
        # of 4 rollouts a single vote is 1/4 and no tail; the tail is what no voter said, and no answer
        ("majority_voting", [1, 1, 0, -1], [1, 1, 0, 1]),
        ("co_rewarding_I", [0, 0, 1, -1], [0, 0, 1, 0]),
        ("co_rewarding_II", [0, 0, -1, -1], [0, 0, 1, 0]),  # the teacher's 3 3 1 3 has no 2
        ("co_rewarding_III", [1, 1, 0, -1], [-1, -1, 0, -1]),  # likewise
    ],
)
def test_negative_pays_minus_one_for_the_tail(name: str, original: list, rephrased: list) -> None:
    assert rewards(name, "negative") == (original, rephrased)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].is_consensus])
def test_hard_is_the_default(name: str) -> None:
    scores = score_rollouts(METHODS[name], RewardInputs(ROLLOUTS, eq))
    assert rewards(name, "hard") == (list(scores.rewards[:4]), list(scores.rewards[4:8]))
    assert scores.payout == "hard" and set(scores.rewards[:8]) == {0.0, 1.0}


# 5 has 3/8, 6 has 2/8, 7 and 8 have 1/8 each, which is less than 0.15; one states nothing
EIGHT = ["5", "5", "5", "6", "6", "7", "8", None]


@pytest.mark.parametrize(
    ("payout", "min_agreement", "expected"),
    [
        ("hard", 3 / 8, [1, 1, 1, 0, 0, 0, 0, 0]),
        ("soft", 3 / 8, [3 / 8, 3 / 8, 3 / 8, 1 / 4, 1 / 4, 1 / 8, 1 / 8, 0]),
        ("negative", 3 / 8, [1, 1, 1, 0, 0, -1, -1, -1]),
        # 3/8 is not enough for a label: hard and soft abstain, negative knows what is wrong
        ("hard", 0.5, [0] * 8),
        ("soft", 0.5, [0] * 8),
        ("negative", 0.5, [0, 0, 0, 0, 0, -1, -1, -1]),
    ],
)
def test_weak_consensus(payout: str, min_agreement: float, expected: list) -> None:
    vote = majority_vote(EIGHT, eq, min_agreement)
    assert [pay(payout, vote, answer, eq) for answer in EIGHT] == expected


def test_the_tail_begins_below_its_share() -> None:
    # 3 of 20 is 0.15 and no tail, 2 of 20 is; without a label neither can be paid for
    vote = majority_vote(["1"] * 15 + ["2"] * 3 + ["3"] * 2, eq, min_agreement=0.8)
    assert [pay("negative", vote, answer, eq) for answer in "123"] == [0, 0, -1]


@pytest.mark.parametrize("payout", PAYOUTS)
def test_voters_that_say_nothing_pay_nothing(payout: str) -> None:
    for vote in (None, majority_vote([], eq), majority_vote([None, None], eq)):
        assert [pay(payout, vote, answer, eq) for answer in ("1", None)] == [0, 0]


def test_classes_are_equivalence_classes() -> None:
    def same_number(a: str, b: str) -> bool:
        return Fraction(a) == Fraction(b)

    vote = majority_vote(["0.5", "1/2", "3", "2/4"], same_number)
    assert [pay("soft", vote, answer, same_number) for answer in ("4/8", "3.0", "7")] == [3 / 4, 1 / 4, 0]


def test_where_the_relation_is_not_transitive_an_answer_earns_the_class_that_it_joined() -> None:
    # near numbers are the same: 2 joins 1 and not 3, so 1: 1 2, and 3: 3 3 3
    near = lambda a, b: abs(int(a) - int(b)) <= 1  # noqa: E731
    vote = majority_vote(["1", "2", "3", "3", "3"], near)
    assert vote.classes == (("1", 2), ("3", 3))
    assert [pay("soft", vote, answer, near) for answer in "123"] == [2 / 5, 2 / 5, 3 / 5]


def test_equivalences_asked() -> None:
    """Hard asks once an answer, as without a choice of payouts; the others at most once a class and answer."""
    asked = []

    def counting(a: str, b: str) -> bool:
        asked.append((a, b))
        return a == b

    vote = majority_vote(EIGHT, counting)
    # the vote: 5 5 5 ask 0 1 1, 6 6 ask 1 2, 7 asks 2, 8 asks 3
    assert len(asked) == 10
    for payout, most in (("hard", 7), ("soft", 7 * 4), ("negative", 7 * 5)):
        asked.clear()
        for answer in EIGHT:
            pay(payout, vote, answer, counting)
        assert len(asked) <= most
    asked.clear()
    for answer in EIGHT:
        pay("hard", vote, answer, counting)
    assert asked == [("5", answer) for answer in EIGHT if answer is not None]


def test_an_unknown_payout() -> None:
    with pytest.raises(ValueError, match="payout 'half' is unknown: use one of hard, soft, negative"):
        score_rollouts(METHODS["majority_voting"], RewardInputs(ROLLOUTS, eq, payout="half"))
