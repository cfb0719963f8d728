#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time from a run's launch to the end of its first step, in several checkouts of this project, alternating.

Each repeat starts Co-rewarding-I's run script once in each checkout, on CPU with a tiny model and without validation,
and ends it when the first step is logged. All use the Python that runs this script. Prints the seconds of each start,
the CPU seconds of all its processes, the run's own breakdown if any, the medians, and their ratios to the first
checkout: compare the ratios, since seconds depend on the machine and its load. Ray's workers are nice (15), so other
work slows them more than the rest; CPU seconds depend less on it.

    python benchmarks/start.py --toy FOLDER OLD_CHECKOUT NEW_CHECKOUT

FOLDER has data/ and model/ from scripts/toy/make_data.py and make_model.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

LONGEST_S = 600
SETTINGS = {
    "PLATFORM": "cpu",
    "GPUS_PER_NODE": "1",
    "VAL_FILE": "",
    "TRAIN_BATCH_SIZE": "16",
    "NUM_ROLLOUTS": "4",
    "MAX_PROMPT_LENGTH": "64",
    "MAX_RESPONSE_LENGTH": "32",
    "LOGGER": "[file]",
    "SAVE_FREQ": "100",
    "RUN_NAME": "start",
}


@dataclass(frozen=True)
class Start:
    """Seconds from launch to the first line of metrics, CPU seconds of all its processes until then, seconds of the
    step in that line, and the run's own breakdown."""

    seconds: float
    cpu: float
    step: float
    told: str


def start(checkout: Path, toy: Path, runs: Path) -> Start:
    """
    Raises:
        RuntimeError: the run ended before its first step, or took longer than LONGEST_S.
    """
    path = os.pathsep.join(str(checkout / folder) for folder in ("", "Co-rewarding-I", "Co-rewarding-II"))
    environment = os.environ | SETTINGS | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": path,
        "RUNS_DIR": str(runs),
        "MODEL_PATH": str(toy / "model"),
        "TRAIN_FILE": str(toy / "data/train.parquet"),
        "TRAIN_AUG_FILE": str(toy / "data/train_rephrased.parquet"),
    }  # fmt: skip
    log = runs / "log"
    begun = time.monotonic()
    with log.open("wb") as output:
        run = subprocess.Popen(
            ["bash", checkout / "Co-rewarding-I/run_corewarding-I.sh", "trainer.total_training_steps=2"],
            cwd=runs, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    cpu: dict[psutil.Process, float] = {}
    try:
        while not (lines := logged(runs)):
            if run.poll() is not None or time.monotonic() - begun > LONGEST_S:
                raise RuntimeError(f"{checkout}: no first step\n{log.read_text(errors='replace')[-2000:]}")
            cpu |= cpu_seconds(run.pid)
            time.sleep(0.2)
        seconds = time.monotonic() - begun
        cpu |= cpu_seconds(run.pid)
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGTERM)
        run.wait()
    told = re.search(r"start: .*", log.read_text(errors="replace"))
    return Start(seconds, sum(cpu.values()), json.loads(lines[0])["data"]["timing_s/step"], told[0] if told else "")


def logged(runs: Path) -> list[str]:
    """Complete lines of metrics."""
    return [line for file in runs.rglob("metrics/*.jsonl") for line in file.open() if line.endswith("\n")]


def cpu_seconds(number: int) -> dict[psutil.Process, float]:
    """Of a process and its descendants."""
    found = {}
    with suppress(psutil.Error):
        for process in [psutil.Process(number), *psutil.Process(number).children(recursive=True)]:
            with suppress(psutil.Error):
                times = process.cpu_times()
                found[process] = times.user + times.system
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--toy", type=Path, required=True, help="a folder with data/ and model/")
    parser.add_argument("--repeats", type=int, default=3, help="starts of each checkout")
    args = parser.parse_args()
    toy, checkouts = args.toy.resolve(), [checkout.resolve() for checkout in args.checkouts]
    taken: dict[Path, list[Start]] = {checkout: [] for checkout in checkouts}
    for _ in range(args.repeats):
        for checkout in checkouts:
            with tempfile.TemporaryDirectory() as runs:
                load = os.getloadavg()[0]
                one = start(checkout, toy, Path(runs))
            taken[checkout].append(one)
            print(
                f"{checkout.name:<16} {one.seconds:6.1f} s   CPU {one.cpu:6.1f} s   step {one.step:5.1f} s   "
                f"load before {load:4.1f}   {one.told}",
                flush=True,
            )
    for name in ("seconds", "cpu"):
        first = median(getattr(one, name) for one in taken[checkouts[0]])
        for checkout in checkouts:
            values = [getattr(one, name) for one in taken[checkout]]
            spread = f"({min(values):.1f} to {max(values):.1f})"
            print(
                f"{checkout.name:<16} median {name:<8}{median(values):6.1f} {spread}   x {median(values) / first:.2f}"
            )


if __name__ == "__main__":
    main()
