#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""MATH (Hendrycks et al., arXiv 2103.03874): 7,500 training and 5,000 test questions with worked solutions.

    question = `problem` as it is      ground truth = content of the last \boxed{} of `solution`

The hashes are those of the questions in the published Co-rewarding files, so that their rephrased file pairs up with
what this writes. Two training rows (5341, 5343) have no ground truth there. MATH-500 is part of the test split.
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.ground_truths import boxed_truth
from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    return Example(row["problem"], boxed_truth(row["solution"]), {"level": row["level"], "type": row["type"]})


SOURCE = Source(
    name="math",
    title="MATH",
    repo_id="DigitalLearningGmbH/MATH-lighteval",
    revision="0530c78699ea5e8eb5530600900e1f328b48acad",
    licence="MIT, as the authors' repository github.com/hendrycks/math says",
    licence_id="mit",
    columns=("problem", "solution", "level", "type"),
    splits=(
        Split(
            name="train",
            num_rows=7500,
            hub_files="data/train-*.parquet",
            output="train_original.parquet",
            role="train",
            questions_sha256="14bd4891872ebc7dec0ed3a13fead85b131f544968f84a8e81015d31769cf670",
        ),
        Split(
            name="test",
            num_rows=5000,
            hub_files="data/test-*.parquet",
            output="test.parquet",
            role="test",
            questions_sha256="9cfa795124e38097056e72092dc7e48f025d76d5b3b7140073d7bad65e78eb88",
        ),
    ),
    convert=convert,
    extra_columns=("level", "type"),
)

if __name__ == "__main__":
    main(SOURCE)
