#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""OpenRS (Dang and Ngo, arXiv 2503.16219): 7,000 training questions.

    question = `problem` as it is      ground truth = `answer`

One answer is null; its row is kept, with the ground truth "".
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    return Example(row["problem"], "" if row["answer"] is None else row["answer"], {})


SOURCE = Source(
    name="openrs",
    title="OpenRS",
    repo_id="knoveleng/open-rs",
    revision="8de2b2d11162d97b45c7606902eae2bb1ff629b4",
    licence="MIT, as its page on the hub says",
    licence_id="mit",
    columns=("problem", "answer"),
    splits=(
        Split(
            name="train",
            num_rows=7000,
            hub_files="data/train-*.parquet",
            output="train_original.parquet",
            role="train",
        ),
    ),
    convert=convert,
)

if __name__ == "__main__":
    main(SOURCE)
