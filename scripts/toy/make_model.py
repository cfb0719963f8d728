#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the tiny language model of the embedded default: build it, train it to a medium accuracy, save it.

It is trained on generated questions that are in none of the data files, so the questions of RL stay unseen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from co_rewarding.storage.rows import read_rows
from co_rewarding.tools.cli import UserError, command, one_line
from co_rewarding.tools.options import Options, option, parse
from co_rewarding.tools.quickstart.arithmetic import Fact, fact_of
from co_rewarding.tools.quickstart.tiny_model import build_model, build_tokenizer, facts_outside, warm_up


class ModelOptions(Options):
    """model"""

    data_dir: Path = option(Path("data/toy"), "output folder of make_data.py")
    output_dir: Path = option(Path("data/toy/model"), "folder for the model")
    target_accuracy: float = option(0.5, "final sampled accuracy, 0 to 0.8")
    max_minutes: float = option(6.0, "give up after this many minutes", gt=0)
    seed: int = option(1, "seed of initial weights and training questions")
    threads: int = option(1, "CPU threads; 1 gives the same model every time", ge=1)


def facts_of(path: Path) -> list[Fact]:
    if not path.is_file():
        raise UserError(f"--data_dir {path.parent}: no {path.name}; run scripts/toy/make_data.py first")
    try:
        return [fact_of(row["extra_info"]) for row in read_rows(path)]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not written by scripts/toy/make_data.py ({one_line(error)})") from error


@command("make_model.py")
def main(arguments: Sequence[str]) -> None:
    (options,) = parse("make_model.py", __doc__, [ModelOptions], arguments)
    torch.set_num_threads(options.threads)
    held_out = [fact for name in ("train", "test") for fact in facts_of(options.data_dir / f"{name}.parquet")]
    options.output_dir.mkdir(parents=True, exist_ok=True)  # an error now, not after minutes
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, options.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    result = warm_up(
        model,
        tokenizer,
        facts_outside(held_out),
        target_accuracy=options.target_accuracy,
        max_minutes=options.max_minutes,
        seed=options.seed,
        report=lambda line: print(line, flush=True),
    )
    try:
        model.save_pretrained(options.output_dir)
        tokenizer.save_pretrained(options.output_dir)
    except SafetensorError as error:  # a full disk, for example
        raise UserError(f"{options.output_dir}: {one_line(error)}") from error
    print(
        f"{options.output_dir}: {result.num_updates} updates in {result.seconds:.0f} s; on unseen questions "
        f"{result.sampled_accuracy:.3f} sampled, {result.greedy_accuracy:.3f} greedy"
    )


if __name__ == "__main__":
    sys.exit(main())
