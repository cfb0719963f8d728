#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MATH-500 (Lightman et al., arXiv 2305.20050): 500 questions of MATH's test split, for evaluation.

    question = `problem` as it is      ground truth = `answer`

Part of data/math/test.parquet: a checkpoint chosen by that file is not judged independently by this one.
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    # The same two columns as MATH's files; the number 3 is "Level 3" there.
    return Example(row["problem"], row["answer"], {"level": f"Level {row['level']}", "type": row["subject"]})


SOURCE = Source(
    name="math500",
    title="MATH-500",
    repo_id="HuggingFaceH4/MATH-500",
    revision="ff5b20257d8185524591543f8ff5993951537bb8",
    licence="none on its page on the hub; its questions are MATH's, under MIT",
    licence_id="mit",
    columns=("problem", "answer", "level", "subject"),
    splits=(Split(name="test", num_rows=500, hub_files="test.jsonl", output="test.parquet", role="test"),),
    convert=convert,
    extra_columns=("level", "type"),
)

if __name__ == "__main__":
    main(SOURCE)
