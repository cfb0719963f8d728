# SPDX-License-Identifier: Apache-2.0
"""A vote that is stopped when it is decided has the label of the whole vote, whatever the answers and their order."""

import random
from collections.abc import Callable

import pytest

from co_rewarding.algo.decided import OpenVote
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.voting import majority_vote

SPELLINGS = [["1/2", "0.5", r"\frac{1}{2}"], ["4", "4.0", "4,"], ["x=3", "3"], ["-7"], [None]]


def eq(a: str, b: str) -> bool:
    return a == b


@pytest.mark.parametrize(
    ("answers", "num_rollouts", "min_agreement", "after"),
    [
        ("777", 4, 0.0, 3),  # 3 of 4: the fourth can do nothing
        ("77", 4, 0.0, None),  # 2 of 4 could be tied by 8, 8, of which one might come first by its number
        ("7777", 8, 0.0, None),  # half is not enough, for the same reason
        ("87777", 8, 0.0, None),
        ("8777787", 8, 0.0, 7),
        ("77777", 8, 0.625, 5),  # 5 / 8 is the agreement that is needed
        ("77777", 8, 0.626, None),  # which 5 do not show, and the label would be lost or not by the rest
        ("7777777", 8, 0.8, 7),
        ("7", 1, 1.0, 1),
        ("--7--77", 5, 0.0, 7),  # responses without an answer count for no class
    ],
)
def test_when_a_vote_is_decided(answers: str, num_rollouts: int, min_agreement: float, after: int | None) -> None:
    vote = OpenVote(num_rollouts, eq, min_agreement)
    decided = [vote.add(None if answer == "-" else answer) for answer in answers]
    assert decided.index(True) + 1 == after if after else not any(decided)


@pytest.fixture(scope="module")
def same() -> Callable[[str, str], bool]:
    return Equivalence("math").same


def spelled(draw: random.Random, spellings: list) -> str | None:
    return spellings[0] if draw.random() < 0.8 else draw.choice(spellings)


def test_the_label_is_that_of_the_whole_vote(same: Callable[[str, str], bool]) -> None:
    draw, cheap, num_stopped = random.Random(0), Equivalence("string").same, 0
    for _ in range(3000):
        num_rollouts = draw.randint(1, 16)
        # one class is often likelier than the others, or no vote would ever be decided
        weights = [draw.choice([1, 1, 20]) for _ in SPELLINGS]
        answers_G = [spelled(draw, draw.choices(SPELLINGS, weights)[0]) for _ in range(num_rollouts)]
        min_agreement = draw.choice([0.0, 0.0, 0.5, 0.625, 0.75, 1.0])
        order = draw.sample(range(num_rollouts), num_rollouts)  # in which they end
        failed = {place for place in range(num_rollouts) if draw.random() < 0.05}
        vote, done = OpenVote(num_rollouts, cheap, min_agreement), []
        for place in order:
            if place not in failed:
                done.append(place)
                if vote.add(answers_G[place]):
                    break
        # those that were stopped are rows without an answer, those that failed are no rows
        rows = [place for place in range(num_rollouts) if place not in failed]
        stopped = majority_vote([answers_G[p] if p in done else None for p in rows], same, min_agreement)
        whole = majority_vote([answers_G[p] for p in rows], same, min_agreement)
        num_stopped += len(done) < len(rows)
        assert (stopped.pseudo_label is None) == (whole.pseudo_label is None)
        assert whole.pseudo_label is None or same(stopped.pseudo_label, whole.pseudo_label)
        assert stopped.agreement <= whole.agreement
    assert num_stopped > 500


def test_spelling_joins_nothing_that_the_vote_keeps_apart(same: Callable[[str, str], bool]) -> None:
    cheap = Equivalence("string").same
    answers = [answer for spellings in SPELLINGS for answer in spellings if answer is not None]
    joined = [(a, b) for a in answers for b in answers if cheap(a, b)]
    assert all(same(a, b) for a, b in joined)
    assert len(joined) > len(answers), "some spellings are read as one, or there is nothing to see"
