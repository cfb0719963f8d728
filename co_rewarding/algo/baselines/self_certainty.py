# SPDX-License-Identifier: Apache-2.0
"""Self-Certainty (arXiv 2508.00410, Appendix C.1): a response is good if the policy was sure of every token.

    reward = mean over response tokens of KL(U ‖ π) = −(1/|V|) Σ_v log(|V| π_v)

π is the policy that rolled out, at the sampling temperature, top-p and top-k not applied. There is no vote and no
answer is needed: a response without an answer is rewarded like any other, and so is endless repetition, the easiest way
to be certain. Rewards are in nats, from 0 upwards (about 10 to 20 for language models), not 0 or 1; only differences
inside a group count, since GRPO normalises them.

Degenerate cases: a response without tokens and a teacher's row have no reward (None); equal rewards in a group give no
advantage.
"""

from co_rewarding.algo.rewards import without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    """Of `inputs.statistics` the mean self-certainty of each response, in nats (token_statistics.response_means)."""
    return without_labels(inputs.rollouts, inputs.statistics["self_certainty"])
