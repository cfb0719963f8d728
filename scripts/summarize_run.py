#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print what a run achieved, one example of what it rewarded, and draw its curves.

Several run directories are put side by side in the table and on top of each other in the curves.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from co_rewarding.report import Run, example, read_last_rollouts, read_run, standard_error, table, trailing_mean

# Okabe and Ito's palette, told apart with any colour vision; line styles tell apart metrics of one run
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", (0, (4, 1.6)))
GREY = "#666666"
SMOOTH_FROM, WINDOW = 15, 5  # points; shorter curves are drawn as they are

# title, [(metric, its name where a panel has two)], is it a share between 0 and 1?
PANELS: tuple[tuple[str, tuple[tuple[str, str], ...], bool], ...] = (
    ("Label accuracy", (("label/accuracy", ""),), True),
    ("Reward mean, label agreement", (("reward/mean", "reward"), ("label/agreement", "agreement")), True),
    ("Response length (tokens)", (("response_length/mean", ""),), False),
    ("Rollout–training gap (mean |Δp|)", (("training/rollout_probs_diff_mean", ""),), False),
    ("Policy entropy (nats a token)", (("actor/entropy", ""),), False),
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
    if figure.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--figure {figure}: use a name that ends in .png, .svg or .pdf")

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
        draw(runs, figure, args.title)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"\nCurves: {figure}")


def draw(runs: list[Run], path: Path, title: str) -> None:
    """Six small panels against training steps; a metric that no run logged says so in its panel."""
    plt.rcParams.update(
        {
            "font.size": 8.5,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.linewidth": 0.8,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.6,
            "text.parse_math": False,
            "svg.hashsalt": "co-rewarding",
        }
    )
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.2), sharex=True, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    panels = list(axes.flat)
    _draw_accuracy(panels[0], runs)
    for axis, (name, metrics, is_share) in zip(panels[1:], PANELS, strict=True):
        axis.set_title(name, loc="left", fontweight="bold")
        _draw_metrics(axis, runs, metrics)
        if is_share and axis.lines:
            axis.set_ylim(-0.02, 1.02)
    for axis in panels:
        axis.tick_params(length=2.5)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if not axis.lines:
            axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", va="center", color=GREY)
            axis.set_yticks([])
    smoothed = any(len(run.trained_steps) >= SMOOTH_FROM for run in runs)
    for axis in axes[1]:
        axis.set_xlabel("training step", color=GREY)
    if smoothed:
        axes[1, 0].set_xlabel(f"training step (thin: each, thick: mean of {WINDOW})", color=GREY)
    if len(runs) > 1:
        handles = [plt.Line2D([], [], color=_colour(i), lw=2.2, label=run.name) for i, run in enumerate(runs)]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(runs)), frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    # no date and no version inside: the same run gives the same bytes
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(path, dpi=200, metadata=metadata[path.suffix])
    plt.close(figure)


def _draw_accuracy(axis: Axes, runs: list[Run]) -> None:
    axis.set_title("Held-out accuracy (± standard error)", loc="left", fontweight="bold")
    num_sources = max(len(run.accuracy_metrics) for run in runs)
    for i, run in enumerate(runs):
        for j, (source, metric) in enumerate(run.accuracy_metrics.items()):
            steps, values = run.series(metric)
            colour = _colour(i if len(runs) > 1 else j)
            style = STYLES[j % 2] if len(runs) > 1 else "-"
            axis.plot(steps, values, color=colour, ls=style, lw=1.8, marker="o", ms=3.5, label=source)
            if n := run.num_questions(metric):
                low = [value - standard_error(value, n) for value in values]
                high = [value + standard_error(value, n) for value in values]
                axis.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    if num_sources > 1:
        handles, names = axis.get_legend_handles_labels()
        unique = dict(zip(names, handles, strict=True))
        axis.legend(unique.values(), unique.keys(), frameon=False, fontsize=8)


def _draw_metrics(axis: Axes, runs: list[Run], metrics: tuple[tuple[str, str], ...]) -> None:
    for i, run in enumerate(runs):
        for j, (metric, _) in enumerate(metrics):
            steps, values = run.series(metric)
            if not steps:
                continue
            colour = _colour(i if len(runs) > 1 else j)
            smooth = len(values) >= SMOOTH_FROM
            if smooth:
                axis.plot(steps, values, color=colour, lw=0.8, alpha=0.35)
            shown = trailing_mean(values, WINDOW) if smooth else values
            axis.plot(steps, shown, color=colour, ls=STYLES[j], lw=1.8, marker="" if len(values) > 1 else "o", ms=3.5)
    if len(metrics) > 1 and axis.lines:
        handles = [
            plt.Line2D([], [], color=GREY if len(runs) > 1 else _colour(j), ls=STYLES[j], lw=1.8, label=name)
            for j, (_, name) in enumerate(metrics)
        ]
        axis.legend(handles=handles, frameon=False, fontsize=8, handlelength=2.6)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


if __name__ == "__main__":
    main()
