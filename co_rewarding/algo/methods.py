# SPDX-License-Identifier: Apache-2.0
"""The methods by their name in config, logs, commands and figures (arXiv 2508.00410, Appendix C.1).

A name stands for a rule: the two switches of a vote (Consensus, see co_rewarding.algo.rewards) or a function from
RewardInputs to Scores. ground_truth is the paper's GT-Reward; self_certainty and entropy reward the policy's own
distribution and so need its logits; random, format_only and incorrect are controls: on some models they improve a
benchmark too, and without them a gain proves little. majority_voting_both_views and co_rewarding_I_same_wording are
controls for co_rewarding_I, not from the paper: the same questions and as many rollouts, but each group labels itself,
or is labelled by another group on the same view.

`method` finds these, a user's function (algo/own_reward.py), and a weighted sum of several (algo/weighted_sum.py),
written as algo/method_names.py says. A function works in any run: on one view or two, with a teacher (whose rows it
sees, and which are never trained on) or without. It sees RewardInputs: answers, texts, prompts, lengths. A new reward
needs no edit here; one that becomes part of the project is a file like co_rewarding/algo/baselines/format_only.py and
an entry in METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from co_rewarding.algo.baselines import (
    entropy,
    format_only,
    ground_truth,
    incorrect,
    random_reward,
    self_certainty,
)
from co_rewarding.algo.method_names import Term, terms_of
from co_rewarding.algo.own_reward import OwnReward
from co_rewarding.algo.rewards import LabelView, consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Scores, Voter
from co_rewarding.algo.weighted_sum import weighted_sum

Reward = Callable[[RewardInputs], Scores]
SecondView = Literal["rephrased", "original"]
"""The second prompt of a question: the rephrased one, or the original again, for another group."""


@dataclass(frozen=True)
class Consensus:
    """The two switches of a vote, who votes and which view's vote labels a view, and the views it needs."""

    voter: Voter
    label_view: LabelView
    second_view: SecondView | None = None  # None: one view of each question


@dataclass(frozen=True)
class Sum:
    """Several rewards by their names in logs, each with its weight."""

    terms: Mapping[str, tuple[float, Method]]


@dataclass(frozen=True)
class Method:
    """One method, and what it needs of the data."""

    name: str
    rule: Consensus | Reward | Sum
    needs_labels: bool = False  # reads the ground truth for its reward
    statistics: tuple[str, ...] = ()  # of the policy's distribution, algo/token_statistics.py
    is_control: bool = False  # a control

    @property
    def consensus(self) -> Consensus | None:
        """The vote whose agreement is rewarded, alone or in a sum, which has at most one."""
        terms = [term for _, term in self.rule.terms.values()] if isinstance(self.rule, Sum) else [self]
        return next((term.rule for term in terms if isinstance(term.rule, Consensus)), None)

    @property
    def is_consensus(self) -> bool:
        return self.consensus is not None

    @property
    def needs_both_views(self) -> bool:
        return self.consensus is not None and self.consensus.second_view is not None

    @property
    def repeats_original(self) -> bool:
        """Whether both views are the original question."""
        return self.consensus is not None and self.consensus.second_view == "original"

    @property
    def needs_teacher(self) -> bool:
        return self.consensus is not None and self.consensus.voter == "teacher"

    @property
    def needs_logits(self) -> bool:
        """Whether the reward needs more than text."""
        return bool(self.statistics)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("co_rewarding_I", Consensus(voter="student", label_view="other", second_view="rephrased")),
        Method("co_rewarding_II", Consensus(voter="teacher", label_view="same")),
        Method("co_rewarding_III", Consensus(voter="teacher", label_view="other", second_view="rephrased")),
        Method("ground_truth", ground_truth.rewards, needs_labels=True),
        Method("majority_voting", Consensus(voter="student", label_view="same")),
        Method("self_certainty", self_certainty.rewards, statistics=("self_certainty",)),
        Method("entropy", entropy.rewards, statistics=("entropy",)),
        Method("random", random_reward.rewards, is_control=True),
        Method("format_only", format_only.rewards, is_control=True),
        Method("incorrect", incorrect.rewards, needs_labels=True, is_control=True),
        Method("majority_voting_both_views", Consensus(voter="student", label_view="same", second_view="rephrased")),
        Method("co_rewarding_I_same_wording", Consensus(voter="student", label_view="other", second_view="original")),
    )
}


def method(name: str) -> Method:
    """The method written as `name`: built in, a user's function, or a sum.

    Raises:
        ValueError: there is none, or the terms of a sum conflict.
    """
    terms = terms_of(name)
    if len(terms) == 1 and terms[0].weight == 1:
        return _of_term(terms[0])
    found = [_of_term(term) for term in terms]
    labels = [term.label for term in terms]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise ValueError(f"{name}: has two terms that are logged as {twice[0]}; give each function a different name")
    if len(votes := [term.name for term in found if term.is_consensus]) > 1:
        raise ValueError(f"{name}: {' and '.join(votes)} are votes; a sum may have only one")
    return Method(
        name,
        Sum(dict(zip(labels, zip([term.weight for term in terms], found, strict=True), strict=True))),
        needs_labels=any(term.needs_labels for term in found),
        statistics=tuple(statistic for term in found for statistic in term.statistics),
    )


def consensus_of(name: str) -> Consensus | None:
    """The vote of the method written as `name`, without loading a function; None: it has none."""
    built_in = [METHODS[term.name] for term in terms_of(name) if term.name in METHODS]
    return next((term.consensus for term in built_in if term.is_consensus), None)


def is_method(name: str) -> bool:
    """Whether `name` has the form of a method; a function need not exist (any more)."""
    try:
        return all(term.is_own or term.name in METHODS for term in terms_of(name))
    except ValueError:
        return False


def _of_term(term: Term) -> Method:
    if term.name in METHODS:
        return METHODS[term.name]
    if not term.is_own:
        raise ValueError(
            f"method {term.name!r} is unknown: use one of {', '.join(METHODS)}, path/to/file.py:function or "
            "package.module:function"
        )
    reward = OwnReward.at(term.name)
    return Method(term.name, reward, needs_labels=reward.needs_labels)


def score_rollouts(method: Method, inputs: RewardInputs, vote: Reward | None = None) -> Scores:
    """Rewards of all rows under any method, in their order.

    Args:
        vote: computes the method's vote, if it has one; a tree's rule (None: as METHODS says).

    Raises:
        ValueError: the method needs ground truths or statistics that the inputs do not have; see also its function.
    """
    if method.needs_labels and inputs.ground_truths is None:
        raise ValueError(f"method {method.name!r} needs ground truths: give one for each row")
    if missing := [name for name in method.statistics if name not in (inputs.statistics or {})]:
        raise ValueError(f"method {method.name!r} needs the policy's logits, for its {missing[0]}: text is not enough")
    match method.rule:
        case Consensus(voter, label_view):
            if vote is not None:
                return vote(inputs)
            return consensus_rewards(
                inputs.rollouts, voter, label_view, inputs.same, inputs.min_agreement, inputs.payout
            )
        case Sum(terms):
            return weighted_sum(
                {label: (weight, score_rollouts(term, inputs, vote)) for label, (weight, term) in terms.items()}
            )
        case reward:  # a label-free term of a sum sees no ground truth, even if another term needs it
            return reward(inputs if method.needs_labels else replace(inputs, ground_truths=None))
