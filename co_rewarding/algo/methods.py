# SPDX-License-Identifier: Apache-2.0
"""The methods by name: what config, logs, commands and figures call them (METHODS.md; arXiv 2508.00410).

The consensus methods are one idea with two switches, who votes and on which view (Eq. 6-11, Appendix C.1):

                     label from the same view     label from the other view
    student votes    majority_voting              co_rewarding_I
    teacher votes    co_rewarding_II              co_rewarding_III

The other baselines are ground_truth (GT-Reward), and self_certainty and entropy, which reward the policy's own
distribution and so need its logits. random, format_only and incorrect are controls: on some models they lift a
benchmark too, and without them a gain proves little.

A new label-free reward is a line below and a file of its name in algo/baselines; what it may look at (answers,
texts, lengths) is co_rewarding.algo.rewards.Step.

Deliberately absent: how rewards are computed (co_rewarding.algo.rewards, co_rewarding.algo.baselines).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

View = Literal["original", "rephrased"]
Voter = Literal["student", "teacher"]
VIEWS: tuple[View, ...] = get_args(View)
VOTERS: tuple[Voter, ...] = get_args(Voter)


def other_view(view: View) -> View:
    return "rephrased" if view == "original" else "original"


@dataclass(frozen=True)
class Method:
    """One method, and what it needs of the data."""

    name: str
    voter: Voter | None = None  # whose answers vote; None: no vote is taken
    label_view: Literal["same", "other"] | None = None  # the view whose vote labels a view; None with voter None
    needs_labels: bool = False  # reads the ground truth for its reward
    needs_logits: bool = False  # reads the policy's distribution: cannot be computed from text
    is_control: bool = False  # not meant to work

    @property
    def is_consensus(self) -> bool:
        """Whether the reward is agreement with a vote; such a method never sees a ground truth."""
        return self.voter is not None

    @property
    def is_baseline(self) -> bool:
        """Whether its reward is co_rewarding/algo/baselines/<name>.py: one wording, no teacher."""
        return not self.needs_both_views and not self.needs_teacher

    @property
    def needs_both_views(self) -> bool:
        return self.label_view == "other"

    @property
    def needs_teacher(self) -> bool:
        return self.voter == "teacher"


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("co_rewarding_I", voter="student", label_view="other"),
        Method("co_rewarding_II", voter="teacher", label_view="same"),
        Method("co_rewarding_III", voter="teacher", label_view="other"),
        Method("ground_truth", needs_labels=True),
        Method("majority_voting", voter="student", label_view="same"),
        Method("self_certainty", needs_logits=True),
        Method("entropy", needs_logits=True),
        Method("random", is_control=True),
        Method("format_only", is_control=True),
        Method("incorrect", needs_labels=True, is_control=True),
    )
}


def method(name: str) -> Method:
    """The method called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown: use one of {', '.join(METHODS)}")
    return METHODS[name]
