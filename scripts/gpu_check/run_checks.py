# SPDX-License-Identifier: Apache-2.0
"""Checks of a finished watched run.

    python scripts/gpu_check/run_checks.py FOLDER RUN_DIR TOY_MODEL gpu|cpu PLAN VLLM_SHARE [--only-start]

FOLDER is the stage's, with the notes of the run; PLAN as in gpu_check_notes; VLLM_SHARE of the card is vLLM's.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import rewards
import start_and_steps
import teacher
from gpu_check_notes import methods_of_plan, read_notes
from rows import Rows

from co_rewarding.storage.run_dir import RunDir, saved_steps
from co_rewarding.tools.report.runs import read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("folder", "run_dir", "toy_model"):
        parser.add_argument(name, type=Path)
    parser.add_argument("platform", choices=["gpu", "cpu"])
    parser.add_argument("plan")
    parser.add_argument("vllm_share", type=float)
    parser.add_argument("--only-start", action="store_true", help="the run failed: only report how far it got")
    args = parser.parse_args()
    rows, run_dir, notes = Rows(args.folder), RunDir(args.run_dir), read_notes(args.folder / "notes.jsonl")
    taken = {name: [entry for entry in notes if entry["note"] == name] for name in ("memory", "validation")}
    start_and_steps.report_start(rows, [entry for entry in notes if entry["note"] not in taken])
    if args.only_start:
        return
    run = read_run(args.run_dir)
    turns: dict[str, list[int]] = defaultdict(list)
    for step, method in enumerate(methods_of_plan(args.plan), start=1):
        turns[method].append(step)
    for method, steps in turns.items():
        with rows.section(f"{method}: rewards"):
            rewards.check(rows, run, run_dir, method, steps, args.toy_model, args.platform)
    if saved_steps(run_dir.checkpoints) and "co_rewarding_II" in turns:
        with rows.section("the teacher's average"):
            teacher.check_average(rows, run, run_dir, args.toy_model)
    with rows.section("vLLM's probabilities"):
        teacher.check_engines(rows, run)
    if taken["validation"]:
        with rows.section("student restored"):
            teacher.check_restored(rows, taken["validation"])
    with rows.section("memory"):
        start_and_steps.check_memory(rows, taken["memory"], notes[0]["card_mib"], args.vllm_share)
    for method, steps in turns.items():
        with rows.section(f"{method}: a step"):
            start_and_steps.report_phases(rows, run, method, steps)


if __name__ == "__main__":
    main()
