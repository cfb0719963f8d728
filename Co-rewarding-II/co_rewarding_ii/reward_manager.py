# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II's and III's reward (arXiv 2508.00410, Eq. 9–11): the teacher's vote rewards the student's rollouts.

    II     pseudo-label(x)  = majority answer of the teacher's rollouts on x
    III    pseudo-label(x)  = … on the rephrased x'      pseudo-label(x') = … on x

The reward of a student's response is 1 if its answer is equivalent to the pseudo-label of its prompt, else 0 (or as
co_rewarding.payout says: co_rewarding/algo/payout.py).
"""

from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Scores
from co_rewarding.training.reward_manager import GroupRewardManager


class TeacherRewardManager(GroupRewardManager):
    """The teacher votes, and the pseudo-label comes from the same view (II) or from the other one (III)."""

    num_views = (1, 2)
    has_teacher = True

    def vote(self, inputs: RewardInputs) -> Scores:
        return consensus_rewards(
            inputs.rollouts,
            voter="teacher",
            label_view=self.method.consensus.label_view,  # "same" in II, "other" in III
            same=inputs.same,
            min_agreement=inputs.min_agreement,
            payout=inputs.payout,
        )
