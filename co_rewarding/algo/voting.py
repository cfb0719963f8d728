# SPDX-License-Identifier: Apache-2.0
"""Majority vote over equivalence classes (arXiv 2508.00410, Eq. 8).

    y_v = the class with the most votes among the G answers of a group; ties go to the class that came first
    agreement = votes of that class / number of rollouts in the group

Legend: G rollouts of one question in one view by one voter.

A response without an answer casts no vote but counts in the agreement, so one box among eight responses is 1/8 and not
unanimous. An answer joins the first class whose first member it equals: if the relation is not transitive, that first
member decides. Degenerate cases: no answer, or an agreement below the minimum, gives no label; one rollout with an
answer agrees with itself (1.0); a group that lost rollouts votes with the rest.

Deliberately absent: use of the label (co_rewarding.algo.rewards), the reward of a class (co_rewarding.algo.payout), and
weights on votes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Vote:
    """The outcome of one group's vote."""

    pseudo_label: str | None  # the winning class's first member, as written; None: no label
    agreement: float  # 0-1: num_votes / num_rollouts, sufficient for a label or not
    num_answered: int  # rollouts that cast a vote
    num_rollouts: int  # rollouts in the group
    classes: tuple[tuple[str, int], ...] = ()  # first member and votes of each class, in order of appearance

    @property
    def num_votes(self) -> int:
        """Votes of the largest class."""
        return max((votes for _, votes in self.classes), default=0)

    @property
    def num_classes(self) -> int:
        """Different answers."""
        return len(self.classes)


def majority_vote(
    answers_G: Sequence[str | None], same: Callable[[str, str], bool], min_agreement: float = 0.0
) -> Vote:
    """Vote of one group.

    Args:
        answers_G: the rollouts' answers in order, None for a response without one.
        same: the equivalence of answers.
        min_agreement: 0-1, smallest agreement for a label; 0, as in the paper, keeps every plurality.

    Raises:
        ValueError: min_agreement is outside 0-1.
    """
    if not 0.0 <= min_agreement <= 1.0:
        raise ValueError(f"min_agreement is {min_agreement}: use a share between 0 and 1")
    first_members: list[str] = []
    votes: list[int] = []
    for answer in answers_G:
        if answer is None:
            continue
        for i, member in enumerate(first_members):
            if same(member, answer):
                votes[i] += 1
                break
        else:
            first_members.append(answer)
            votes.append(1)
    if not votes:
        return Vote(pseudo_label=None, agreement=0.0, num_answered=0, num_rollouts=len(answers_G))
    most = max(votes)
    agreement = most / len(answers_G)
    return Vote(
        pseudo_label=first_members[votes.index(most)] if agreement >= min_agreement else None,
        agreement=agreement,
        num_answered=sum(votes),
        num_rollouts=len(answers_G),
        classes=tuple(zip(first_members, votes, strict=True)),
    )
