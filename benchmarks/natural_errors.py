#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Effect of the methods on natural errors: every arm from the same starts, in two regimes, on CPU.

Small models learn right solutions of three families of arithmetic questions, in four wordings each, and are stopped
when their majority answer meets the regime: easy (right on 75 % or more) or hard (right on 45 % or less). From each
start every arm (benchmarks/natural/arms.py) is trained by GRPO in plain torch, which is ten times as fast as through
Ray and vLLM; votes, rewards, the teacher's schedule and average, and the metrics are the project's own. `check`
compares a real run's dumps with them.

    python benchmarks/natural_errors.py run                      everything; the same command resumes
    python benchmarks/natural_errors.py run --regimes hard --starts 1 --arms "majority voting" II
    python benchmarks/natural_errors.py report                   tables and figures of the finished runs
    python benchmarks/natural_errors.py compare A.json B.json    which conclusions agree
    python benchmarks/natural_errors.py export hard 1 DIR        a start and its questions, for the run scripts
    python benchmarks/natural_errors.py check RUN_DIR --arm II   labels and rewards of a real run against this file's
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from natural.arms import ARMS, LEARNING_RATE, NUM_QUESTIONS, STEPS
from natural.matrix import agreement_matrix
from natural.questions import Split, split
from natural.real_run import check, export
from natural.report import arms_table, claims_table, compared, conclusions, draw, starts_table
from natural.signs import signs_table
from natural.start import REGIMES, Regime, make_start, tokenizer_of_all
from natural.summary import load
from natural.training import Curves, train
from transformers import LlamaForCausalLM

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.provenance import commit

OUTPUT = Path("runs/natural_errors")
NUM_HELD_OUT, NUM_TRAINED = 300, 600


def seed_of(regime: str, start: int) -> int:
    return zlib.crc32(f"{regime} {start}".encode())


def questions_of(regime: str, start: int) -> Split:
    return split(NUM_HELD_OUT, NUM_TRAINED, seed_of(regime, start))


def folder_of(output: Path, regime: str, start: int) -> Path:
    return output / regime / f"start{start}"


def make(output: Path, regime: Regime, start: int) -> str:
    """A start and its agreement matrix, unless they exist."""
    folder = folder_of(output, regime.name, start)
    if not (folder / "matrix.json").is_file():
        torch.set_num_threads(1)
        began, seed = time.monotonic(), seed_of(regime.name, start)
        parts = questions_of(regime.name, start)
        model, tokenizer, updates = make_start(regime, parts, seed)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        matrix = agreement_matrix(model, tokenizer, parts.held_out, torch.Generator().manual_seed(seed))
        matrix |= {"updates": updates, "seconds": round(time.monotonic() - began)}
        atomic_write_text(folder / "matrix.json", json.dumps(matrix, indent=1))
    return (folder / "matrix.json").read_text()


def run_arm(output: Path, regime: str, start: int, arm: str, steps: int, tells: bool = False) -> float:
    """Train one arm, with `tells` printing progress at every validation; return its seconds."""
    folder = folder_of(output, regime, start)
    torch.set_num_threads(1)
    began, tokenizer = time.monotonic(), tokenizer_of_all()
    model = LlamaForCausalLM.from_pretrained(folder / "model")

    def tell(so_far: Curves) -> None:
        if tells:
            seconds = time.monotonic() - began
            print(f"{seconds:4.0f} s, {arm}: {progress(so_far)} of {steps}", flush=True)

    curves = train(ARMS[arm], model, tokenizer, questions_of(regime, start), seed_of(regime, start), steps, tell)
    beside = folder / f".{arm}.{os.getpid()}"
    beside.mkdir(exist_ok=True)
    for name in ("metrics", "groups", "verdicts"):
        getattr(curves, name).to_parquet(beside / f"{name}.parquet", index=False)
    beside.rename(folder / arm)
    return time.monotonic() - began


def progress(so_far: Curves) -> str:
    """The last validation's greedy accuracy, and the mean reward since the one before."""
    *_, before, step = sorted(so_far.verdicts.step.unique())
    verdicts, metrics = so_far.verdicts, so_far.metrics
    right = verdicts[(verdicts.step == step) & (verdicts.how == "greedy")].right.mean()
    reward = metrics[metrics.step > before]["reward/mean"].mean()
    return f"accuracy {right:.2f}, reward {reward:.2f} at step {step}"


def run(args: argparse.Namespace) -> None:
    settings = {"steps": args.steps, "questions": NUM_QUESTIONS, "learning_rate": LEARNING_RATE}
    path = args.output / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        sys.exit(f"error: {path} has {path.read_text()}, now it is {json.dumps(settings)}: use another --output")
    args.output.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(settings))
    starts = [(regime, start) for start in args.starts for regime in args.regimes]
    began = time.monotonic()
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        making = {pool.submit(make, args.output, REGIMES[regime], start): (regime, start) for regime, start in starts}
        for future in as_completed(making):
            matrix = json.loads(future.result())
            print(f"{' '.join(map(str, making[future]))}: majority right on {matrix['majority_right']:.2f}", flush=True)
        tasks = [(*start, arm) for arm in args.arms for start in starts]  # first all starts of the first arm
        left = [task for task in tasks if not (folder_of(args.output, *task[:2]) / task[2]).is_dir()]
        training = {pool.submit(run_arm, args.output, *task, args.steps, args.tell): task for task in left}
        began_training = time.monotonic()
        for done, future in enumerate(as_completed(training), start=1):
            passed = time.monotonic() - began_training
            print(
                f"{done} of {len(left)}: {' '.join(map(str, training[future]))}, {future.result():.0f} s; "
                f"about {passed / done * (len(left) - done) / 60:.0f} min left",
                flush=True,
            )
    print(f"{(time.monotonic() - began) / 60:.1f} min")


def report(args: argparse.Namespace) -> None:
    found = {regime: arms for regime in REGIMES if (arms := load(args.output / regime))}
    if not found:
        sys.exit(f"error: {args.output}: no finished arm there; run first")
    into = args.tables or args.output
    into.mkdir(parents=True, exist_ok=True)
    judged = {regime: conclusions(arms) for regime, arms in found.items()}
    atomic_write_text(into / "conclusions.json", json.dumps({"made_at": commit()} | judged, indent=1) + "\n")
    parts = ["# Natural errors", claims_table(judged)]
    for regime, arms in found.items():
        num_starts = max(len(runs.verdicts) for runs in arms.values())
        draw(arms, into / f"{regime}.png", f"{regime} regime, mean of {num_starts} starts")
        parts += [
            f"## {regime}",
            f"![Curves of the {regime} regime]({regime}.png)",
            "Starts, before any RL; percent of held-out questions, original / rephrased wording:",
            starts_table(args.output / regime),
            f"Arms, {next(iter(arms.values())).last} steps; percent of held-out questions, greedy, both wordings:",
            arms_table(arms),
            "Signs, on runs of all weights:",
            signs_table({name: runs for name, runs in arms.items() if not ARMS[name].lora_rank}),
        ]
    text = "\n\n".join(parts) + f"\n\nMade by `benchmarks/natural_errors.py report` at commit `{commit()}`.\n"
    atomic_write_text(into / "README.md", text)
    print(text)


def compare(args: argparse.Namespace) -> None:
    print(compared(*(json.loads(path.read_text()) for path in args.results)))


def export_start(args: argparse.Namespace) -> None:
    folder = folder_of(args.output, args.regime, args.start)
    if not (folder / "matrix.json").is_file():
        sys.exit(f"error: {folder}: no start; make it with `run --regimes {args.regime} --starts {args.start}`")
    export(folder, questions_of(args.regime, args.start), args.folder)


def check_run(args: argparse.Namespace) -> None:
    try:
        sys.exit(check(args.run_dir, args.arm) > 0)
    except ValueError as error:
        sys.exit(f"error: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run", help="train what is missing")
    command.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    command.add_argument("--starts", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    command.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    command.add_argument("--steps", type=int, default=STEPS)
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    command.add_argument("--tell", action="store_true", help="a line for each arm's every validation")
    command.set_defaults(function=run)
    command = commands.add_parser("report", help="tables and figures")
    command.add_argument("--tables", type=Path, help="folder for them; default: --output")
    command.set_defaults(function=report)
    command = commands.add_parser(
        "export", help="a start and its questions as files, and command lines to train on them"
    )
    command.add_argument("regime", choices=REGIMES)
    command.add_argument("start", type=int)
    command.add_argument("folder", type=Path, metavar="DIR")
    command.set_defaults(function=export_start)
    for command in commands.choices.values():
        command.add_argument("--output", type=Path, default=OUTPUT, help="default: %(default)s")
    command = commands.add_parser("compare", help="the claims of two reports")
    command.add_argument("results", nargs=2, type=Path, help="conclusions.json of each")
    command.set_defaults(function=compare)
    command = commands.add_parser("check", help="a real run against this file's arms")
    command.add_argument("run_dir", type=Path)
    command.add_argument("--arm", choices=ARMS, metavar="ARM", help="default: what the run's configuration says")
    command.set_defaults(function=check_run)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
