# SPDX-License-Identifier: Apache-2.0
"""GT-Reward (arXiv 2508.00410, Appendix C.1): the true answer is the label. Supervised upper reference for the others.

    reward of y = 1 if ans(y) is the same answer as the ground truth, else 0

Degenerate cases: no answer earns 0; a question without a ground truth (MATH has two) has no label, so its whole group
earns 0, as in a vote without a label. Data without any ground truth is refused before the start.
"""

from co_rewarding.algo.rewards import is_match, trained_rows, truths
from co_rewarding.algo.rollouts import RewardInputs, Scores


def rewards(inputs: RewardInputs) -> Scores:
    labels_N = truths(inputs)
    return Scores(
        row_labels=labels_N,
        rewards=trained_rows(
            inputs.rollouts,
            [is_match(label, row.answer, inputs.same) for label, row in zip(labels_N, inputs.rollouts, strict=True)],
        ),
        group_labels={
            (row.question, row.view): label
            for label, row in zip(labels_N, inputs.rollouts, strict=True)
            if row.voter == "student"
        },
    )
