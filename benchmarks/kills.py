# SPDX-License-Identifier: Apache-2.0
"""Kills a run repeatedly and checks that each start resumes from exactly the saved state.

A tiny run on the CPU through the shipped run script, every step saved and validated, two checkpoints kept. SIGKILL ends
all processes of every start: half of them at a random moment, the others while a checkpoint is written. Checked at
every start: it resumes from the checkpoint that the pointer names; validation, greedy, gives exactly the responses of
the killed start at that step (weights and sampler); every file of the checkpoint loads. Checked at the end, over all
that was saved: the teacher is the average of the students, computed in float64; no question comes twice in an epoch;
the label history has every used question with its latest label; metrics have every step once.

    python benchmarks/kills.py --tree II --kills 15 --toy FOLDER --work FOLDER
"""

import argparse
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tests"))
import e2e_runs  # noqa: E402

from co_rewarding.storage.run_dir import RunDir, checkpoint_folder  # noqa: E402
from co_rewarding.tools.report.runs import read_run  # noqa: E402
from co_rewarding.training.checkpoint import pointed_step  # noqa: E402

QUESTIONS, TOTAL_STEPS, START_S = 256, 400, 400


class Archive(threading.Thread):
    """Hard links to student, teacher and state of every checkpoint that the pointer ever names."""

    def __init__(self, run: RunDir, folder: Path) -> None:
        super().__init__(daemon=True)
        self.run_dir, self.folder, self.on = run, folder, True

    def run(self) -> None:
        while self.on:
            time.sleep(0.02)
            try:
                step = pointed_step(self.run_dir.checkpoints)
            except ValueError as error:
                print(f"WRONG: {error}", flush=True)
                continue
            if step is None or (self.folder / str(step)).exists():
                continue
            source, part = checkpoint_folder(self.run_dir.checkpoints, step), self.folder / f"{step}.part"
            shutil.rmtree(part, ignore_errors=True)
            for file in [*source.glob("*/model_*.pt"), *source.glob("*/average_*.pt"), source / "co_rewarding.json"]:
                target = part / file.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, target)
            part.rename(self.folder / str(step))


def wait(until: Callable[[], bool], seconds: float, interval_s: float = 0.02) -> bool:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(interval_s)
    return True


def load_all(folder: Path) -> None:
    """Every file of a checkpoint can be read completely."""
    for file in folder.rglob("*.pt"):
        torch.load(file, weights_only=False)
    json.loads((folder / "co_rewarding.json").read_text())


def one_life(options: argparse.Namespace, run: RunDir, number: int, draw: random.Random) -> list[str]:
    """Start or resume, train for a step or more, be killed; return the faults."""
    wrong, log = [], options.work / "kills.log"
    before = pointed_step(run.checkpoints)
    greedy = run.validation_file(before).read_bytes() if before and run.validation_file(before).exists() else None
    if greedy is not None:
        run.validation_file(before).unlink()  # the start validates again before it trains
    if before is not None:
        load_all(checkpoint_folder(run.checkpoints, before))
    for step in range((before or 0) + 1, (before or 0) + 4):  # removed: the code below waits for this start's
        run.rollouts_file(step).unlink(missing_ok=True)
    begun = time.monotonic()
    process = e2e_runs.start(
        options.tree, options.toy, "kills", f"trainer.total_training_steps={TOTAL_STEPS}",
        "trainer.max_actor_ckpt_to_keep=2", "trainer.val_before_train=True", RUNS_DIR=str(options.work),
        SAVE_FREQ="1", TEST_FREQ="1", TOTAL_EPOCHS="100",
    )  # fmt: skip
    first = (before or 0) + 1
    target = first + draw.randrange(3)
    aims_at_save = number % 2 == 1

    def dead() -> bool:
        return process.poll() is not None

    folder = checkpoint_folder(run.checkpoints, target)
    if not wait(
        lambda: dead() or (folder.exists() if aims_at_save else run.rollouts_file(target).exists()), START_S, 0.002
    ):
        wrong.append("no step in time")
    if dead():
        wrong.append(f"ended by itself with {process.returncode}, see {log}")
    time.sleep(draw.uniform(0, 0.4 if aims_at_save else 4.0))
    if not dead():
        e2e_runs.kill(process)
    after = pointed_step(run.checkpoints)
    if before is not None:
        again = run.validation_file(before)
        if greedy is not None and not (again.exists() and answers(again.read_bytes()) == answers(greedy)):
            wrong.append(f"validation at step {before} differs after the restart")
        if after is None or after < before:
            wrong.append(f"the pointer went from {before} to {after}")
    print(
        f"kill {number}: {'aimed at a save' if aims_at_save else 'any moment'}, from {before} to {after}, "
        f"{time.monotonic() - begun:.0f} s: {'; '.join(wrong) or 'good'}",
        flush=True,
    )
    return wrong


def answers(dump: bytes) -> list[tuple[str, str]]:
    return sorted((row["input"], row["output"]) for row in map(json.loads, dump.splitlines()))


def check_whole(options: argparse.Namespace, run: RunDir, archive: Path) -> list[str]:
    """Faults of the complete run, up to the last checkpoint."""
    wrong, last = [], pointed_step(run.checkpoints)
    found = read_run(run.path)
    trained = [step for step in found.steps if step >= 1]
    if [step for step in sorted(trained) if step <= last] != list(range(1, last + 1)):
        wrong.append(f"metrics have the steps {sorted(trained)}")
    for name in ("reward/mean", "response_length/mean", "actor/lr", "timing_s/step", *found.accuracy_metrics.values()):
        if missing := [step for step in range(1, last + 1) if name not in found.steps.get(step, {})]:
            wrong.append(f"{name} is missing at the steps {missing}")
    if missing := [step for step in range(1, last + 1) if not run.rollouts_file(step).exists()]:
        return [*wrong, f"rollouts of the steps {missing} are missing"]
    per_epoch = QUESTIONS // e2e_runs.QUESTIONS
    epoch: set[str] = set()
    labels: dict[tuple[str, str], str] = {}
    for step in range(1, last + 1):
        rows = e2e_runs.rows_of(run.rollouts_file(step))
        asked = {row["question"] for row in rows}
        if (step - 1) % per_epoch == 0:
            epoch = set()
        if asked & epoch or len(asked) != e2e_runs.QUESTIONS:
            wrong.append(f"step {step}: {len(asked)} questions, {len(asked & epoch)} of them a second time")
        epoch |= asked
        for row in rows:
            if row["voter"] != "teacher" and row["label"] is not None:
                labels[row["question"], row["view"]] = row["label"]
    state = json.loads((checkpoint_folder(run.checkpoints, last) / "co_rewarding.json").read_text())
    history = {(question, view): label for question, view, label in state["labels"]}
    print(f"label history: {len(history)} of {len(labels)} labelled groups")
    if history != labels:
        wrong.append("the label history is not that of the dumps")
    if options.tree != "I":
        wrong += check_teacher(options, archive, last)
    return wrong


def check_teacher(options: argparse.Namespace, archive: Path, last: int) -> list[str]:
    from safetensors.torch import load_file

    start = {name: value.double() for name, value in load_file(options.toy / "model/model.safetensors").items()}
    teacher, student, worst = dict(start), start, 0.0
    for step in range(1, last + 1):
        decay = 0.9999 - (0.9999 - 0.99) / 2 * (
            1 + torch.cos(torch.tensor(torch.pi * (step - 1) / TOTAL_STEPS).double()).item()
        )
        teacher = {name: decay * value + (1 - decay) * student[name] for name, value in teacher.items()}
        saved = e2e_runs.shards_of(archive / str(step) / "teacher", "model")
        student = {k: v.double() for k, v in e2e_runs.shards_of(archive / str(step) / "actor", "model").items()}
        off = sum(float((saved[name].double() - value).pow(2).sum()) for name, value in teacher.items())
        worst = max(worst, (off / sum(float(value.pow(2).sum()) for value in teacher.values())) ** 0.5)
    moved = sum(float((teacher[name] - value).pow(2).sum()) for name, value in start.items()) ** 0.5
    print(f"teacher over {last} steps: relative error {worst:.1e}; moved by {moved:.1e} from its start")
    return [] if worst < 1e-6 and moved > 0 else [f"the teacher is not the average of the students ({worst:.1e})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=("I", "II", "III"), default="II")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toy", type=Path, required=True, help="data/ and model/, created if missing")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for the run")
    options = parser.parse_args()
    if not options.toy.exists():
        e2e_runs.make_toy(options.toy)
    archive = options.work / "archive"
    archive.mkdir(parents=True)
    run, draw = RunDir(options.work / "co-rewarding/kills"), random.Random(options.seed)
    links = Archive(run, archive)
    links.start()
    wrong = [fault for number in range(options.kills) for fault in one_life(options, run, number, draw)]
    time.sleep(0.2)
    links.on = False
    wrong += check_whole(options, run, archive)
    print("\n".join(f"WRONG: {fault}" for fault in wrong) or f"{options.kills} kills, {options.kills} correct starts")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
