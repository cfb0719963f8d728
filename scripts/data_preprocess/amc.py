#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AMC: 83 questions of the contests AMC 12 of 2022 and 2023 whose answers are numbers, for evaluation.

    question = `problem` as it is      ground truth = `answer`, a float column: 142.0 is "142"

The questions are the Mathematical Association of America's: this script downloads them for use here and refuses to
share them.
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.ground_truths import number_truth
from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    return Example(row["problem"], number_truth(row["answer"]), {})


SOURCE = Source(
    name="amc",
    title="AMC 12, 2022 and 2023",
    repo_id="AI-MO/aimo-validation-amc",
    revision="8ef249608d65c2de7763ca7525f438e540ba285e",
    licence="none on its page on the hub; the questions are the Mathematical Association of America's",
    licence_id="other",
    columns=("problem", "answer"),
    splits=(Split(name="train", num_rows=83, hub_files="data/train-*.parquet", output="test.parquet", role="test"),),
    convert=convert,
)

if __name__ == "__main__":
    main(SOURCE)
