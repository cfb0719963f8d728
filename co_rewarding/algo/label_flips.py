# SPDX-License-Identifier: Apache-2.0
"""Leaving out questions whose pseudo-label flips: a label that changes from visit to visit teaches noise.

    flips(g) = 0 at the first visit of g, and if its label is that of the previous visit; otherwise one more than then
    if flips(g) > max_flips the label is withheld, and the whole group earns 0

Legend: a group g is a trained (question, view); a visit is a step in which it has a label.

So consecutive flips count. With max_flips = 0 a label that differs from the last visit's is withheld until the next
visit confirms it; with 1 one change is allowed, a second in a row is not.

Source: the first term of the reward scaling in TTRL-Guard (arXiv 2605.19444, and its code), which multiplies a
question's rewards by 1 - λ · flip, with flip = 1 where the majority answer is not that of the question's last visit:
max_flips = 0 is λ = 1. Leaving out examples whose predictions fluctuate from epoch to epoch is older (Self-Filtering,
arXiv 2208.11351, for noisy labels of images). Counting in a row is this project's choice: a total over the run would
permanently drop a question whose answer has improved.

Degenerate cases:
- a step in which a group has no label is no visit: the last label and the number of flips are kept;
- a withheld label is remembered like any other, so the next visit is compared with it;
- if a step uses only one view of a question (one-direction III), each view has its own visits;
- questions are visited once an epoch, so more than max_flips + 1 epochs are needed before a label can be withheld.

Deliberately absent: flips as a sign of collapse (co_rewarding.monitoring.collapse), which affects no reward; the other
terms of TTRL-Guard.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from co_rewarding.algo.rollouts import Rollout, Same, Scores, View

Group = tuple[Hashable, View]


@dataclass(frozen=True)
class Visit:
    """A group's label at a visit."""

    label: str
    flips: int = 0  # changes of the label in a row, up to this visit


def visits(last: Mapping[Group, Visit], labels: Mapping[Group, str | None], same: Same) -> dict[Group, Visit]:
    """This step's visits.

    Args:
        last: the last visit of every group that had one.
        labels: this step's, None for a group without one.
        same: the equivalence of answers.
    """

    def flips(group: Group, label: str) -> int:
        before = last.get(group)
        return 0 if before is None or same(before.label, label) else before.flips + 1

    return {group: Visit(label, flips(group, label)) for group, label in labels.items() if label is not None}


def withhold(rollouts: Sequence[Rollout], scores: Scores, groups: Collection[Group]) -> Scores:
    """The scores without the labels of some groups, which earn 0."""
    held_N = [(row.question, row.view) in groups for row in rollouts]
    return replace(
        scores,
        row_labels=tuple(None if held else label for held, label in zip(held_N, scores.row_labels, strict=True)),
        rewards=tuple(
            0.0 if held and reward is not None else reward for held, reward in zip(held_N, scores.rewards, strict=True)
        ),
        group_labels={group: None if group in groups else label for group, label in scores.group_labels.items()},
        withheld={
            group: label for group, label in scores.group_labels.items() if group in groups and label is not None
        },
    )
