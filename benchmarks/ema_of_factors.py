#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The teacher of a run with LoRA, whose factors are averaged, against the average of the products (algo/ema.py).

    LORA_RANK=8 SAVE_FREQ=1 bash Co-rewarding-II/run_corewarding-II.sh trainer.max_actor_ckpt_to_keep=null
    python benchmarks/ema_of_factors.py RUN_DIR

Reads the student's adapter of every step from the run's checkpoints and the decays from its metrics, computes both
averages in float64, and prints for each step, as norms over all adapted weights (the scale alpha / r cancels):

    moved        ‖product of the averages − start‖: movement of the teacher
    behind       ‖student − product of the averages‖ / moved
    difference   ‖average of the products − product of the averages‖ / moved
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

import torch
import torch.distributed.tensor  # with it, a DTensor counts as a tensor for weights_only

from co_rewarding.storage.run_dir import ACTOR, RunDir, checkpoint_folder, saved_steps, shard_file
from co_rewarding.tools.report.runs import read_run

FACTOR = re.compile(r"(.+)\.lora_([AB])\.default\.weight")
Factors = dict[str, dict[str, torch.Tensor]]  # adapted weight → A and B, float64


def factors_of(folder: Path) -> Factors:
    """The adapter in the shard of a run of one process."""
    shard = torch.load(folder / shard_file(0, 1), map_location="cpu", weights_only=True)
    found: Factors = {}
    for name, weight in shard.items():
        if match := FACTOR.fullmatch(name):
            found.setdefault(match[1], {})[match[2]] = getattr(weight, "_local_tensor", weight).double()
    return found


def products(factors: Factors) -> dict[str, torch.Tensor]:
    return {name: pair["B"] @ pair["A"] for name, pair in factors.items()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float((one[name] - other[name]).pow(2).sum()) for name in one))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    run = RunDir(parser.parse_args().run_dir)
    steps, logged = saved_steps(run.checkpoints), read_run(run.path).steps
    decays = {step: row["teacher/decay"] for step, row in logged.items() if "teacher/decay" in row}
    if not steps or steps != list(range(1, len(steps) + 1)) or not decays:
        sys.exit(f"error: {run.path}: needs a checkpoint of each step (SAVE_FREQ=1) and a teacher that moves")
    students = {step: factors_of(checkpoint_folder(run.checkpoints, step) / ACTOR) for step in steps}
    if not students[1]:
        sys.exit(f"error: {run.path}: has no adapter (LORA_RANK)")
    # the student of the first step is the start, with B = 0; that of step k + 1 is saved in step k
    factors = {name: {"A": pair["A"], "B": torch.zeros_like(pair["B"])} for name, pair in students[1].items()}
    start = average = products(factors)
    print("| step | decay | moved | behind | difference |\n|---|---|---|---|---|")
    for step in steps[1:]:
        decay, student = decays[step], students[step - 1]
        for name, pair in factors.items():
            factors[name] = {side: decay * pair[side] + (1 - decay) * student[name][side] for side in pair}
        new = products(student)
        average = {name: decay * weight + (1 - decay) * new[name] for name, weight in average.items()}
        served = products(factors)
        moved = apart(served, start)
        shares = [value / moved for value in (apart(new, served), apart(average, served))] if moved else [0.0, 0.0]
        print(f"| {step} | {decay:.4f} | {moved:.2e} | {shares[0]:.3f} | {shares[1]:.2e} |")


if __name__ == "__main__":
    main()
