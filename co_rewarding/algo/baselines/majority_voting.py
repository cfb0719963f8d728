# SPDX-License-Identifier: Apache-2.0
"""Majority-Voting (TTRL, arXiv 2504.16084; arXiv 2508.00410, Appendix C.1): the policy agrees with itself.

    label(x) = majority answer of the policy's own rollouts on x     reward of y = 1 if ans(y) is it, else 0

It is Co-rewarding-I without the second wording, and Co-rewarding-II with the policy for a teacher. An answer votes for
its own reward, so that the certain way to more reward is to agree on any answer, right or wrong.

Degenerate cases: a group without a label (nobody answered, or fewer agreed than min_agreement) earns 0; a tie goes to
the answer that came first.
"""

from co_rewarding.algo.rewards import Scores, Step, consensus_rewards


def rewards(step: Step) -> Scores:
    return consensus_rewards(step.rollouts, "majority_voting", step.same, step.min_agreement)
