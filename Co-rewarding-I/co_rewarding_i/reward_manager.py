# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I's reward (arXiv 2508.00410, Eq. 6–8): the vote of one view rewards the rollouts of the other.

    pseudo-label(x)  = majority answer of the rollouts on x'
    pseudo-label(x') = majority answer of the rollouts on x

The reward of a response on either view is 1 if its answer is equivalent to that view's pseudo-label, else 0 (or as
co_rewarding.payout says: co_rewarding/algo/payout.py). In its control majority_voting_both_views the vote of a view
rewards that view's own rollouts.
"""

from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Scores
from co_rewarding.training.reward_manager import GroupRewardManager


class CrossViewRewardManager(GroupRewardManager):
    """The student votes, and the pseudo-label comes from the other view (in majority_voting_both_views the same)."""

    num_views = (2,)

    def vote(self, inputs: RewardInputs) -> Scores:
        return consensus_rewards(
            inputs.rollouts,
            voter="student",
            label_view=self.method.consensus.label_view,  # "other" in co_rewarding_I
            same=inputs.same,
            min_agreement=inputs.min_agreement,
            payout=inputs.payout,
        )
