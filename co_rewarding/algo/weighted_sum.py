# SPDX-License-Identifier: Apache-2.0
"""A weighted sum of rewards.

    reward of y = Σ_t w_t · r_t(y)

GRPO (arXiv 2402.03300) normalises the sum in a group, not its terms: advantage = (reward − group mean) / group std. So
doubling all weights changes nothing; relative weights act through the scale of the terms in a group: 0.1 of a reward in
nats that varies by 10 equals a vote's 0 or 1. A term that is constant in the group adds nothing.

One of the terms may be a vote: its labels are the sum's. In a group without a label the vote's reward is 0 and only the
other terms distinguish the responses.

Degenerate cases: a row without a reward (None) in any term has none; without a vote the labels are those of the first
term that has any; a term of weight 0 changes nothing and is logged. A group whose label is withheld (label_flips.py)
earns 0, the other terms included; their rewards are still logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from co_rewarding.algo.rollouts import Scores


def weighted_sum(terms: Mapping[str, tuple[float, Scores]]) -> Scores:
    """From each term's weight and scores of the same N rows: the sum's scores, with each term's rewards."""
    rewards_of_term = {label: scores.rewards for label, (_, scores) in terms.items()}
    weights = [weight for weight, _ in terms.values()]
    rewards_N = tuple(
        None if None in row else sum(weight * reward for weight, reward in zip(weights, row, strict=True))
        for row in zip(*rewards_of_term.values(), strict=True)
    )
    labelled = min((scores for _, scores in terms.values()), key=lambda s: (s.voter is None, not s.group_labels))
    return replace(labelled, rewards=rewards_N, rewards_of_term=rewards_of_term)
