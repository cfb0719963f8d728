# SPDX-License-Identifier: Apache-2.0
"""Control: a wrong answer is good.

    reward of y = 1 if y states an answer that is not the ground truth, else 0

A method that gains no more than this control has shown nothing about its labels.

Degenerate cases: no answer earns 0, like the true one; so does every answer to a question without a ground truth.
"""

from co_rewarding.algo.rewards import is_match, truths, without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    return without_labels(
        inputs.rollouts,
        [
            float(truth is not None and row.answer is not None and is_match(truth, row.answer, inputs.same) == 0.0)
            for truth, row in zip(truths(inputs), inputs.rollouts, strict=True)
        ],
    )
