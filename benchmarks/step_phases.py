#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times of a training step: the median seconds of each phase over the steps of runs, side by side.

With two runs, the last column is the second minus the first, and as a share of the first one's whole step. Below the
phases are the fastest and the slowest step, which show the noise, and each run's step as a multiple of the first's: of
the medians, and of the fastest steps, which other processes disturb less. The first step of a run is left out as
warm-up. Memory is the most at the end of an update: of a card by torch, of the host by all programs, vLLM's cache
included. benchmarks/step_phases.sh makes such runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from co_rewarding.tools.report.runs import STEP_TIME, Run, read_run

NOT_IN_THE_STEP = ("testing", "step")
MEMORY = {"GiB of a card": "actor/perf/max_memory_reserved_gb", "GiB of the machine": "actor/perf/cpu_memory_used_gb"}


def phases(run: Run) -> dict[str, float]:
    """phase → median seconds over the trained steps but the first, and "step" for all of it."""
    steps = run.trained_steps[1:]
    names = dict.fromkeys(name for step in steps for name in run.steps[step] if name.startswith("timing_s/"))
    seconds = {
        name.partition("/")[2]: median(run.steps[step].get(name, 0.0) for step in steps)
        for name in names
        if name.partition("/")[2] not in NOT_IN_THE_STEP
    }
    return seconds | {"step": median(step_seconds(run))}


def step_seconds(run: Run) -> list[float]:
    """Of the trained steps but the first."""
    return [run.steps[step][STEP_TIME] for step in run.trained_steps[1:]]


def memory(run: Run, metric: str) -> float:
    """GiB, the greatest of all steps; 0: not logged, or no card."""
    return max((run.steps[step].get(metric, 0.0) for step in run.trained_steps), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    args = parser.parse_args()
    try:
        runs = [read_run(run_dir) for run_dir in args.run_dirs]
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    columns = [phases(run) for run in runs]
    names = [*dict.fromkeys(name for column in columns for name in column if name != "step"), "step"]
    print(f"{'median seconds':<20}" + "".join(f"{run.name[:18]:>20}" for run in runs))
    print(f"{'steps':<20}" + "".join(f"{len(run.trained_steps) - 1:>20}" for run in runs))
    for name in names:
        line = f"{name:<20}" + "".join(f"{column.get(name, 0.0):>20.3f}" for column in columns)
        if len(columns) == 2:
            more = columns[1].get(name, 0.0) - columns[0].get(name, 0.0)
            line += f"{more:>+12.3f} ({more / columns[0]['step']:+.1%})"
        print(line)
    steps = [step_seconds(run) for run in runs]
    for name, of in {"fastest step": min, "slowest step": max}.items():
        print(f"{name:<20}" + "".join(f"{of(seconds):>20.3f}" for seconds in steps))
    for name, of in {"step / first run's": median, "fastest / first's": min}.items():
        print(f"{name:<20}" + "".join(f"{of(seconds) / of(steps[0]):>20.2f}" for seconds in steps))
    for name, metric in MEMORY.items():
        if any(held := [memory(run, metric) for run in runs]):
            print(f"{name:<20}" + "".join(f"{gib:>20.2f}" for gib in held))


if __name__ == "__main__":
    main()
