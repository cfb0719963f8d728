#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write train.parquet, train_rephrased.parquet and test.parquet of generated arithmetic questions (verl's schema).

Those of train and test that are plain differences with a borrow, whose most common answer is wrong at the start, are in
plain_borrows.parquet, too. The same arguments give the same bytes (for one version of pyarrow, which writes its version
into each file).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.tools.quickstart.arithmetic import Operation, borrows, make_pairs, split_facts, to_rows

# Written out rather than inferred, so that the files' types do not depend on their content.
SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {"index": pa.int64(), "split": pa.string(), "a": pa.int64(), "b": pa.int64(), "operation": pa.string()}
        ),
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--local_dir", type=Path, default=Path("data/toy"), help="folder to write to")
    parser.add_argument("--num_train", type=int, default=2048, help="training questions (pairs of wordings)")
    parser.add_argument("--num_test", type=int, default=500, help="held-out questions")
    parser.add_argument("--seed", type=int, default=1, help="chooses questions and wordings")
    parser.add_argument(
        "--operation", choices=get_args(Operation), help="of these questions, keep the sums or the differences alone"
    )
    args = parser.parse_args()

    try:
        train_facts, test_facts = split_facts(args.num_train, args.num_test, args.seed)
    except ValueError as error:
        parser.error(str(error))
    if args.operation:
        train_facts, test_facts = (
            [fact for fact in facts if fact.operation == args.operation] for facts in (train_facts, test_facts)
        )
        if not (train_facts and test_facts):
            parser.error(f"--operation {args.operation} leaves no questions: make --num_train and --num_test larger")
    train = make_pairs(train_facts, args.seed, "train")
    test = make_pairs(test_facts, args.seed, "test")
    args.local_dir.mkdir(parents=True, exist_ok=True)
    originals = [original for original, _ in [*train, *test]]
    slipped = [question for question in originals if question.family == "plain" and borrows(question.fact)]
    for name, rows in (
        ("train", to_rows([original for original, _ in train], "train")),
        ("train_rephrased", to_rows([rephrased for _, rephrased in train], "train")),
        ("test", to_rows([original for original, _ in test], "test")),
        *([("plain_borrows", to_rows(slipped, "train and test"))] if slipped else []),
    ):
        path = args.local_dir / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="snappy")
        print(f"{path}: {len(rows)} questions, e.g. {rows[0]['prompt'][1]['content']!r}")


if __name__ == "__main__":
    main()
