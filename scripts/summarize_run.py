#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print what a run achieved, one example of what it rewarded, and draw its curves.

Several run directories are put side by side in the table and on top of each other in the curves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from co_rewarding.tools.report.figures import ACCURACY, FORMATS, Panel, draw
from co_rewarding.tools.report.runs import read_last_rollouts, read_run
from co_rewarding.tools.report.summary import example, table

PANELS = (
    ACCURACY,
    Panel("Label accuracy", (("label/accuracy", ""),), is_share=True),
    Panel("Reward mean, label agreement", (("reward/mean", "reward"), ("label/agreement", "agreement")), is_share=True),
    Panel("Response length (tokens)", (("response_length/mean", ""),)),
    Panel("Rollout–training gap (mean |Δp|)", (("training/rollout_probs_diff_mean", ""),)),
    Panel("Policy entropy (nats a token)", (("actor/entropy", ""),)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="e.g. runs/co-rewarding/my_run")
    parser.add_argument("--figure", type=Path, help="where the curves go (default: RUN_DIR/curves.png)")
    parser.add_argument("--title", default="", help="title of the figure (default: none)")
    args = parser.parse_args()
    if len(args.run_dirs) > 1 and args.figure is None:
        parser.error("several run directories: say where the figure goes, e.g. --figure compare.png")
    figure: Path = args.figure or args.run_dirs[0] / "curves.png"
    if figure.suffix not in FORMATS:
        parser.error(f"--figure {figure}: use a name that ends in {', '.join(FORMATS)}")

    try:
        runs = [read_run(run_dir) for run_dir in args.run_dirs]
        examples = [
            example(read_last_rollouts(run_dir, max(run.steps)))
            for run_dir, run in zip(args.run_dirs, runs, strict=True)
        ]
        print(table(runs))
        for run in runs:
            for note in run.notes:
                print(f"note: {note}")
        for run, text in zip(runs, examples, strict=True):
            if text:
                print(f"\n{f'[{run.name}] ' if len(runs) > 1 else ''}{text}")
        draw(runs, figure, title=args.title, panels=PANELS, keep_empty=True)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"\nCurves: {figure}")


if __name__ == "__main__":
    main()
