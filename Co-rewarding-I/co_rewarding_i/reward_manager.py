# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I's reward (arXiv 2508.00410, Eq. 6–8): the vote of one view rewards the rollouts of the other.

    pseudo-label(x)  = majority answer of the rollouts on x'
    pseudo-label(x') = majority answer of the rollouts on x

The reward of a response on either view is 1 if its answer is equivalent to that view's pseudo-label, else 0 (or what
co_rewarding.payout says instead: co_rewarding/algo/payout.py).
"""

from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Scores
from co_rewarding.training.reward_manager import GroupRewardManager


class CrossViewRewardManager(GroupRewardManager):
    """The student votes, and the pseudo-label comes from the other view."""

    num_views = (2,)

    def rewards(self, inputs: RewardInputs) -> Scores:
        if not self.method.is_consensus:  # another reward of the same two views, by its name
            return super().rewards(inputs)
        return consensus_rewards(
            inputs.rollouts,
            voter="student",
            label_view="other",
            same=inputs.same,
            min_agreement=inputs.min_agreement,
            payout=inputs.payout,
        )
