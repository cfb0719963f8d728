# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-I's reward (arXiv 2508.00410, Eq. 6–8): the vote of one wording rewards the rollouts of the other.

    label(x)  = majority answer of the rollouts on x'        reward of y on x  = 1 if ans(y) is equivalent to label(x)
    label(x') = majority answer of the rollouts on x         reward of y on x' = 1 if ans(y) is equivalent to label(x')

In the terms of `co_rewarding.algo.methods`: the student votes, and the label comes from the other view.
"""

from co_rewarding.training.reward_manager import GroupRewardManager


class CrossViewRewardManager(GroupRewardManager):
    methods = ("co_rewarding_I",)
