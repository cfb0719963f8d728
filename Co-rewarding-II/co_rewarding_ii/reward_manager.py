# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II's and III's reward (arXiv 2508.00410, Eq. 9–11): the teacher's vote rewards the student's rollouts.

    II    label(x)  = majority answer of the teacher's rollouts on x     reward of y = 1 if ans(y) is equivalent to it
    III   label(x)  = … on the rephrased x'      label(x') = … on x

In the terms of `algo.methods`: the teacher votes; the label comes from the same view (II), the other one (III).
"""

from co_rewarding.training.reward_manager import GroupRewardManager


class TeacherRewardManager(GroupRewardManager):
    methods = ("co_rewarding_II", "co_rewarding_III")
