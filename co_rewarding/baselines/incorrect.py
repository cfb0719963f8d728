# SPDX-License-Identifier: Apache-2.0
"""Control: a wrong answer is good.

    reward of y = 1 if y states an answer that is not the ground truth, else 0

A method whose gain this one shares has shown nothing about its labels.

Degenerate cases: no answer earns 0, like the true one; a question without a ground truth is an error.
"""

from co_rewarding.rewards import Scores, Step, r, required_truths, without_labels


def rewards(step: Step) -> Scores:
    """Raises: ValueError, a row that is trained on has no ground truth."""
    return without_labels(
        step.rollouts,
        [
            float(row.answer is not None and r(truth, row.answer, step.same) == 0.0)
            for truth, row in zip(required_truths(step), step.rollouts, strict=True)
        ],
    )
