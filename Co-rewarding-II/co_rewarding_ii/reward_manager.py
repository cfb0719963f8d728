# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II's reward (arXiv 2508.00410, Eq. 9–11): the teacher's vote rewards the student's rollouts.

    label(x) = majority answer of the teacher's rollouts on x       reward of y on x = 1 if ans(y) is equivalent to it

In the terms of `co_rewarding.methods`: the teacher votes, and the label comes from the same view.
"""

from co_rewarding.reward_manager import GroupRewardManager


class TeacherRewardManager(GroupRewardManager):
    method = "co_rewarding_II"
