# SPDX-License-Identifier: Apache-2.0
"""When a vote is decided before all of a group's rollouts are done.

    decided  ⇔  v > G / 2  and  v / G ≥ min_agreement          v votes of one class so far, G rollouts of the group

A class with more than half of all G cannot be overtaken or tied by the remaining rollouts in any order, and its
agreement stays sufficient: v can only grow, and failed rollouts only shrink the group. So the label is, as a class,
that of the full vote; its spelling may differ. A smaller lead could be tied, and ties go to the class that came first
(algo/voting.py).

`same` may separate answers that the vote joins, which delays the decision; it must never join answers that the vote
separates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from co_rewarding.algo.rollouts import Same


@dataclass
class OpenVote:
    """The votes of a group so far, in the order in which its rollouts end."""

    num_rollouts: int  # G, all requested
    same: Same
    min_agreement: float = 0.0  # 0-1, as majority_vote's
    _classes: list[tuple[str, int]] = field(default_factory=list)  # first member, votes

    def add(self, answer: str | None) -> bool:
        """Count a rollout's answer (None if it has none); return whether the vote is decided."""
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
