#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""GSM8K (Cobbe et al., arXiv 2110.14168): its 1,319 test questions, for evaluation.

question = `question` as it is      ground truth = what follows #### in `answer`, without thousands separators
"""

from collections.abc import Mapping
from typing import Any

from co_rewarding.tools.data.ground_truths import hash_mark_truth
from co_rewarding.tools.data.prepare import main
from co_rewarding.tools.data.sources import Example, Source, Split


def convert(row: Mapping[str, Any]) -> Example:
    return Example(row["question"], hash_mark_truth(row["answer"]), {})


SOURCE = Source(
    name="gsm8k",
    title="GSM8K",
    repo_id="openai/gsm8k",
    config="main",
    revision="e53f048856ff4f594e959d75785d2c2d37b678ee",
    licence="MIT, as its page on the hub says",
    licence_id="mit",
    columns=("question", "answer"),
    splits=(Split(name="test", num_rows=1319, hub_files="main/test-*.parquet", output="test.parquet", role="test"),),
    convert=convert,
)

if __name__ == "__main__":
    main(SOURCE)
