# SPDX-License-Identifier: Apache-2.0
"""When a vote is decided before all of a group's rollouts are done.

    decided  ⇔  v > G / 2  and  v / G ≥ min_agreement          v votes of one class so far, G rollouts of the group

A class with more than half of all G can be neither overtaken nor tied by what is still to come, whatever that is and in
whatever order, and has its label whatever agreement it ends with: v can only grow, and rollouts that fail only make
the group smaller. So the label of the vote without the rest is, as a class, that of the whole vote; which of its
spellings is written may differ. A smaller lead could be tied, and ties go to who comes first (algo/voting.py).

`same` may tell apart what the vote counts as one, which delays the decision; it must never join what the vote
keeps apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from co_rewarding.algo.rollouts import Same


@dataclass
class OpenVote:
    """The votes of a group so far, in the order in which its rollouts end."""

    num_rollouts: int  # G, all that were asked for
    same: Same
    min_agreement: float = 0.0  # 0-1, as majority_vote's
    _classes: list[tuple[str, int]] = field(default_factory=list)  # first member, votes

    def add(self, answer: str | None) -> bool:
        """Count a rollout's answer, None if it has none; whether the vote is decided."""
        if answer is not None:
            for place, (member, votes) in enumerate(self._classes):
                if self.same(member, answer):
                    self._classes[place] = member, votes + 1
                    break
            else:
                self._classes.append((answer, 1))
        return self.is_decided

    @property
    def is_decided(self) -> bool:
        most = max((votes for _, votes in self._classes), default=0)
        return 2 * most > self.num_rollouts and most / self.num_rollouts >= self.min_agreement
