#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the curves of one or several runs from the logs that training writes, and with --html a page of rollouts.

    plot_runs.py runs/co-rewarding/my_run                              curves to my_run/figures.png
    plot_runs.py RUN_I RUN_II --figure compare.pdf                     runs on top of each other
    plot_runs.py RUN --html page.html --metric actor/pg_clipfrac       a page, and one more panel

The page needs nothing but itself: curves, and a random sample of questions with both wordings, answers, votes, rewards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from co_rewarding.tools.report.figures import FORMATS, PANELS, WINDOW, Panel, draw
from co_rewarding.tools.report.page import page, sample_rollouts
from co_rewarding.tools.report.runs import read_run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="e.g. runs/co-rewarding/my_run")
    parser.add_argument("--figure", type=Path, help=f"{', '.join(FORMATS)} (default, one run: RUN_DIR/figures.png)")
    parser.add_argument("--html", type=Path, metavar="OUT.html", help="also write a page with a sample of rollouts")
    parser.add_argument("--title", default="", help="title of figure and page")
    parser.add_argument("--window", type=int, default=WINDOW, help=f"steps in a mean (default {WINDOW}; 1: as logged)")
    parser.add_argument("--metric", nargs="+", default=[], metavar="NAME", help="more metrics, a panel each")
    parser.add_argument("--num_steps", type=int, default=6, help="steps sampled for the page (default 6)")
    parser.add_argument("--num_questions", type=int, default=8, help="questions sampled of each step (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the questions (default 0)")
    args = parser.parse_args(arguments)
    if len(args.run_dirs) > 1 and args.figure is None:
        parser.error("several run directories: say where the figure goes, e.g. --figure compare.png")
    figure: Path = args.figure or args.run_dirs[0] / "figures.png"
    for name, value in (
        ("window", args.window),
        ("num_steps", args.num_steps),
        ("num_questions", args.num_questions),
    ):
        if value < 1:
            parser.error(f"--{name} {value}: must be at least 1")

    try:
        runs = [read_run(run_dir) for run_dir in args.run_dirs]
        for run in runs:
            for note in run.notes:
                print(f"note: {note}")
        logged = {name for run in runs for data in run.steps.values() for name in data}
        if unknown := [name for name in args.metric if name not in logged]:
            raise ValueError(f"--metric {unknown[0]}: no run logged it; docs/METRICS.md lists what there is")
        panels = [*PANELS, *(Panel(name, ((name, ""),)) for name in args.metric)]
        draw(runs, figure, title=args.title, panels=panels, window=args.window)
        print(f"Curves: {figure}")
        if args.html:
            samples = [
                sample_rollouts(run_dir, max(run.steps), args.num_steps, args.num_questions, args.seed)
                for run_dir, run in zip(args.run_dirs, runs, strict=True)
            ]
            args.html.parent.mkdir(parents=True, exist_ok=True)
            args.html.write_text(page(runs, samples, args.title, panels, args.window), encoding="utf-8")
            print(f"Page: {args.html}")
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
