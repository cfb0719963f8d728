# SPDX-License-Identifier: Apache-2.0
"""Control: any answer is good.

    reward of y = 1 if y states an answer (a closed box), else 0

A gain under it is only a gain in format: more responses end in a box, not more are right.

Degenerate cases: once every response has an answer all rewards are 1 and no group has an advantage.
"""

from co_rewarding.algo.rewards import without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    return without_labels(inputs.rollouts, [float(row.answer is not None) for row in inputs.rollouts])
