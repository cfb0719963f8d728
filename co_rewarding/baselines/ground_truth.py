# SPDX-License-Identifier: Apache-2.0
"""GT-Reward (arXiv 2508.00410, Appendix C.1): the true answer is the label. Supervised, the others' measure.

    reward of y = 1 if ans(y) is the same answer as the ground truth, else 0

Degenerate cases: no answer earns 0; a question without a ground truth is an error, not a reward of 0.
"""

from co_rewarding.rewards import Scores, Step, r, required_truths, trained_rows


def rewards(step: Step) -> Scores:
    """Raises: ValueError, a row that is trained on has no ground truth."""
    truths = required_truths(step)
    return Scores(
        labels=truths,
        rewards=trained_rows(
            step.rollouts,
            [r(truth, row.answer, step.same) for truth, row in zip(truths, step.rollouts, strict=True)],
        ),
        label_of={
            (row.question, row.view): truth
            for truth, row in zip(truths, step.rollouts, strict=True)
            if row.voter == "student"
        },
    )
