#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""DAPO-14k: the English part of DAPO-Math-17k (arXiv 2503.14476), without repetitions: 14,116 training questions.

    question = `prompt` as it is      ground truth = `solution`, always an integer

The published Co-rewarding files hold 14,109 of them: 7 were dropped when they were rephrased (extra_info.index
1308, 6331, 6836, 7695, 9827, 9844, 10655), and their data_source is MATH's; here it is the set's own.
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    return Example(row["prompt"], row["solution"], {})


SOURCE = Source(
    name="dapo",
    title="DAPO-14k",
    repo_id="open-r1/DAPO-Math-17k-Processed",
    config="en",
    revision="31dd309567e3da778038cc87d868b6097a3ccf68",
    licence="the processed set names none; its origin BytedTsinghua-SIA/DAPO-Math-17k is under Apache-2.0",
    licence_id="apache-2.0",
    columns=("prompt", "solution"),
    splits=(
        Split(
            name="train",
            num_rows=14116,
            hub_files="en/train-*.parquet",
            output="train_original.parquet",
            role="train",
        ),
    ),
    convert=convert,
)

if __name__ == "__main__":
    main(SOURCE)
