# SPDX-License-Identifier: Apache-2.0
"""Entropy (arXiv 2508.00410, Appendix C.1): a response is good if the policy left little to chance on the way.

    reward = − mean over response tokens of H(π),   H(π) = −Σ_v π_v log π_v

π is the policy that rolled out, at the sampling temperature, top-p and top-k not applied. As with Self-Certainty nobody
votes and no answer is needed. Rewards are in nats, from −log |V| to 0; a reward that rises is the entropy falling, so
this method's own success looks like collapse: watch repetition and accuracy beside it.

Degenerate cases: a response without tokens and a teacher's row have no reward (None), and not 0, which would be the
best there is; equal rewards in a group make no advantage.
"""

from collections.abc import Sequence

from co_rewarding.rewards import Rollout, Scores

COLUMN = "entropy"


def entropy_rewards(rollouts: Sequence[Rollout], entropy_N: Sequence[float | None]) -> Scores:
    """Rewards of N rollouts from their mean entropy (co_rewarding.logits.response_means), in nats."""
    rewards = [
        -value if row.voter == "student" and value is not None else None
        for row, value in zip(rollouts, entropy_N, strict=True)
    ]
    return Scores(labels=(None,) * len(rewards), rewards=tuple(rewards))
