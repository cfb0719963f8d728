#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the tiny language model of the embedded default: build it, train it to a middling accuracy, save it.

It is trained on generated questions that are in none of the data files, so what RL is measured on stays unseen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow.parquet as pq
import torch

from co_rewarding.tools.quickstart.arithmetic import Fact, fact_of
from co_rewarding.tools.quickstart.tiny_model import build_model, build_tokenizer, facts_outside, warm_up


def facts_of(path: Path) -> list[Fact]:
    rows = pq.read_table(path, columns=["extra_info"])["extra_info"].to_pylist()
    return [fact_of(row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("data/toy"), help="folder that make_data.py wrote")
    parser.add_argument("--output_dir", type=Path, default=Path("data/toy/model"), help="folder for the model")
    parser.add_argument("--target-accuracy", type=float, default=0.5, help="sampled accuracy to end at, 0 to 0.8")
    parser.add_argument("--max-minutes", type=float, default=6.0, help="give up after this many minutes")
    parser.add_argument(
        "--seed", type=int, default=1, help="chooses the weights to start from and the training questions"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; 1 gives the same model every time")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    held_out: list[Fact] = []
    for name in ("train", "test"):
        path = args.data_dir / f"{name}.parquet"
        if not path.is_file():
            parser.error(f"--data_dir {args.data_dir}: no {name}.parquet there; run scripts/toy/make_data.py first")
        held_out += facts_of(path)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    try:
        result = warm_up(
            model,
            tokenizer,
            facts_outside(held_out),
            target_accuracy=args.target_accuracy,
            max_minutes=args.max_minutes,
            seed=args.seed,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, TimeoutError) as error:
        sys.exit(f"make_model.py: {error}")
    model.save_pretrained(args.output_dir)
    tokenizer.save_pretrained(args.output_dir)
    print(
        f"{args.output_dir}: {result.num_updates} updates in {result.seconds:.0f} s; on unseen questions "
        f"{result.sampled_accuracy:.3f} sampled, {result.greedy_accuracy:.3f} greedy"
    )


if __name__ == "__main__":
    main()
