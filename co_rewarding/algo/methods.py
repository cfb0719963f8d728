# SPDX-License-Identifier: Apache-2.0
"""The methods by name: what config, logs, commands and figures call them (arXiv 2508.00410, Appendix C.1).

A name stands for a rule: the two switches of a vote (Consensus, see co_rewarding.algo.rewards) or a function from
RewardInputs to Scores. ground_truth is the paper's GT-Reward; self_certainty and entropy reward the policy's own
distribution and so need its logits; random, format_only and incorrect are controls: on some models they lift a
benchmark too, and without them a gain proves little.

A new label-free reward is one short file like co_rewarding/algo/baselines/format_only.py and its entry below. Such a
function runs wherever a training run gives it rows: on one view or two, with a teacher (whose rows it sees, and which
are never trained on) or without. What it may look at is RewardInputs: answers, texts, lengths. One that rewards a
statistic of the logits has the name of that statistic, which co_rewarding/algo/token_statistics.py computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from co_rewarding.algo.baselines import (
    entropy,
    format_only,
    ground_truth,
    incorrect,
    random_reward,
    self_certainty,
)
from co_rewarding.algo.rewards import LabelView, consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Scores, Voter


@dataclass(frozen=True)
class Consensus:
    """The two switches of a vote: whose answers vote, and which view's vote labels a view."""

    voter: Voter
    label_view: LabelView


@dataclass(frozen=True)
class Method:
    """One method, and what it needs of the data."""

    name: str
    rule: Consensus | Callable[[RewardInputs], Scores]
    needs_labels: bool = False  # reads the ground truth for its reward
    needs_logits: bool = False  # reads the policy's distribution: cannot be computed from text
    is_control: bool = False  # not meant to work

    @property
    def is_consensus(self) -> bool:
        """Whether the reward is agreement with a vote; such a method never sees a ground truth."""
        return isinstance(self.rule, Consensus)

    @property
    def needs_both_views(self) -> bool:
        return self.is_consensus and self.rule.label_view == "other"

    @property
    def needs_teacher(self) -> bool:
        return self.is_consensus and self.rule.voter == "teacher"


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("co_rewarding_I", Consensus(voter="student", label_view="other")),
        Method("co_rewarding_II", Consensus(voter="teacher", label_view="same")),
        Method("co_rewarding_III", Consensus(voter="teacher", label_view="other")),
        Method("ground_truth", ground_truth.rewards, needs_labels=True),
        Method("majority_voting", Consensus(voter="student", label_view="same")),
        Method("self_certainty", self_certainty.rewards, needs_logits=True),
        Method("entropy", entropy.rewards, needs_logits=True),
        Method("random", random_reward.rewards, is_control=True),
        Method("format_only", format_only.rewards, is_control=True),
        Method("incorrect", incorrect.rewards, needs_labels=True, is_control=True),
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


def score_rollouts(method: Method, inputs: RewardInputs) -> Scores:
    """Rewards of all rows under any method, in their order.

    Raises:
        ValueError: the method needs ground truths or statistics that the inputs do not have; see also its function.
    """
    if method.needs_labels and inputs.ground_truths is None:
        raise ValueError(f"method {method.name!r} needs ground truths: give one a row")
    if method.needs_logits and inputs.statistics is None:
        raise ValueError(f"method {method.name!r} needs the policy's logits: text alone does not decide its reward")
    if isinstance(method.rule, Consensus):
        voter, label_view = method.rule.voter, method.rule.label_view
        return consensus_rewards(inputs.rollouts, voter, label_view, inputs.same, inputs.min_agreement, inputs.payout)
    return method.rule(inputs)
