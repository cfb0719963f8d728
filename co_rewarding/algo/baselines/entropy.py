# SPDX-License-Identifier: Apache-2.0
"""Entropy (arXiv 2508.00410, Appendix C.1): a response is good if the policy was certain throughout.

    reward = − mean over response tokens of H(π),   H(π) = −Σ_v π_v log π_v

π is the policy that rolled out, at the sampling temperature, top-p and top-k not applied. As with Self-Certainty there
is no vote and no answer is needed. Rewards are in nats, from −log |V| to 0; a reward that rises is the entropy falling,
so success of this method looks like collapse: watch repetition and accuracy too.

Degenerate cases: a teacher's row has no reward (None), and neither has a response without tokens, which has no place
for one: GRPO's group mean counts it as 0, the best possible, but no token of it is trained on, and vLLM always returns
one. Equal rewards in a group give no advantage.
"""

from co_rewarding.algo.rewards import without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    """Of `inputs.statistics` the mean entropy of each response, in nats (algo.token_statistics.response_means)."""
    return without_labels(
        inputs.rollouts, [None if value is None else -value for value in inputs.statistics["entropy"]]
    )
