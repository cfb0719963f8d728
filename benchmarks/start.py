#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a run takes from its launch to the end of its first step, in checkouts of this project, in turn.

Each repeat starts Co-rewarding-I's run script once in each checkout, on CPU with a tiny model and without validation,
and ends it when the first step is logged. All use the Python that runs this script. Printed are the seconds of each
start, where the run itself says where they went, the medians, and each checkout's share of the first one's: compare
those, since seconds are of the machine and of what else it does. The load beside each start is printed, too.

    python benchmarks/start.py --toy FOLDER OLD_CHECKOUT NEW_CHECKOUT

FOLDER has data/ and model/ as scripts/toy/make_data.py and make_model.py write them.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

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


def start(checkout: Path, toy: Path, runs: Path) -> tuple[float, str]:
    """Seconds from launch to the first line of metrics, and what the run says of them.

    Raises:
        RuntimeError: the run ended before, or took longer than LONGEST_S.
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
    try:
        while not any(file.stat().st_size for file in runs.rglob("metrics/*.jsonl")):
            if run.poll() is not None or time.monotonic() - begun > LONGEST_S:
                raise RuntimeError(f"{checkout}: no first step\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        seconds = time.monotonic() - begun
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGTERM)
        run.wait()
    told = re.search(r"start: .*", log.read_text(errors="replace"))
    return seconds, told[0] if told else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="CHECKOUT")
    parser.add_argument("--toy", type=Path, required=True, help="a folder with data/ and model/")
    parser.add_argument("--repeats", type=int, default=3, help="starts of each checkout")
    args = parser.parse_args()
    toy, checkouts = args.toy.resolve(), [checkout.resolve() for checkout in args.checkouts]
    taken: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
    for _ in range(args.repeats):
        for checkout in checkouts:
            with tempfile.TemporaryDirectory() as runs:
                load = os.getloadavg()[0]
                seconds, told = start(checkout, toy, Path(runs))
            taken[checkout].append(seconds)
            print(f"{checkout.name:<20} {seconds:6.1f} s   load before {load:4.1f}   {told}", flush=True)
    first = median(taken[checkouts[0]])
    for checkout, seconds in taken.items():
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        print(f"{checkout.name:<20} median {median(seconds):6.1f} s ({spread})   x {median(seconds) / first:.2f}")


if __name__ == "__main__":
    main()
