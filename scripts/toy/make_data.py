#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write train.parquet, train_rephrased.parquet and test.parquet of generated arithmetic questions (verl's schema).

Plain differences with a borrow of both splits, whose most common answer is wrong at the start, are also in
plain_borrows.parquet. The same arguments give the same bytes (for one version of pyarrow, which writes its version into
each file).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from co_rewarding.storage.rows import write_rows
from co_rewarding.tools.cli import UserError, command
from co_rewarding.tools.options import Options, option, parse
from co_rewarding.tools.quickstart.arithmetic import SCHEMA, Operation, borrows, make_pairs, split_facts, to_rows


class QuestionOptions(Options):
    """questions"""

    local_dir: Path = option(Path("data/toy"), "folder to write to")
    num_train: int = option(2048, "training questions (pairs)")
    num_test: int = option(500, "held-out questions")
    seed: int = option(1, "seed of questions and wordings")
    operation: Operation | None = option(None, "keep only the sums or only the differences")


@command("make_data.py")
def main(arguments: Sequence[str]) -> None:
    (options,) = parse("make_data.py", __doc__, [QuestionOptions], arguments)
    train, test = (
        [fact for fact in facts if options.operation in (None, fact.operation)]
        for facts in split_facts(options.num_train, options.num_test, options.seed)
    )
    if not (train and test):
        raise UserError(f"--operation {options.operation} leaves no questions: make --num_train and --num_test larger")
    pairs = make_pairs(train, options.seed, "train")
    held_out = [original for original, _ in make_pairs(test, options.seed, "test")]
    originals, rephrased = [original for original, _ in pairs], [rephrased for _, rephrased in pairs]
    slipped = [q for q in originals + held_out if q.family == "plain" and borrows(q.fact)]
    for name, questions, split in (
        ("train", originals, "train"),
        ("train_rephrased", rephrased, "train"),
        ("test", held_out, "test"),
        ("plain_borrows", slipped, "train and test"),
    ):
        if questions:
            path = options.local_dir / f"{name}.parquet"
            write_rows(to_rows(questions, split), path, SCHEMA)
            print(f"{path}: {len(questions)} questions, e.g. {questions[0].text!r}")


if __name__ == "__main__":
    sys.exit(main())
