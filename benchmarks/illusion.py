#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rise and fall of majority voting against II and the true answers: one figure, and a summary of three lines.

scripts/illusion.sh trains the runs from one start; finished runs of benchmarks/natural_errors.py work too; several
starts are averaged.

    python benchmarks/illusion.py runs/natural_errors/hard --starts 1 --figure figs/illusion.png

The compared steps are fixed: none, a quarter and all, since a peak chosen afterwards is above later values by chance
alone. A fall is only called one if the 95 % interval of the difference is below 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from natural.report import draw_accuracy, draw_metric, look_of, mean_of, percent
from natural.summary import LAST, Runs, load

from co_rewarding.storage.files import atomic_write
from co_rewarding.tools.bootstrap import Interval, interval
from co_rewarding.tools.report.figures import GREY, SETTINGS

TITLE_OF = {"majority voting": "Majority voting", "II": "Co-rewarding-II", "ground truth": "True answers"}
VOTING, TEACHER, TRUTH = TITLE_OF


def quarter(runs: Runs) -> int:
    """The first validation after a quarter of the steps."""
    return min(step for step in runs.validated if 4 * step >= runs.last)


def change(found: Interval) -> str:
    """A difference in words, unless its interval contains 0."""
    word = "fell" if found.high < 0 else "rose" if found.low > 0 else "neither rose nor fell for certain"
    return f"{word} ({percent(found, signed=True)} points)"


def lines(arms: Mapping[str, Runs]) -> list[str]:
    """Summary of the figure, a line for each arm. Accuracies and rewards in percent."""
    voting, teacher, truth = (arms[name] for name in TITLE_OF)
    last, early = voting.last, quarter(voting)
    steps = sorted({0, early, last})

    def course(name: str) -> str:
        found = [f"{100 * mean_of(arms[name].accuracy(step)):.0f}" for step in steps]
        return f"{TITLE_OF[name]}: accuracy {' → '.join(found)} % (steps {', '.join(map(str, steps))})"

    def since_early(runs: Runs) -> str:
        return change(interval(runs.accuracy(last), runs.accuracy(early)))

    def reward(step: int) -> str:
        return f"{100 * mean_of(voting.mean('reward/mean', step)):.0f}"

    def corrupted(runs: Runs) -> str:
        return f"{100 * mean_of(runs.changed(before=True, after=False)):.1f} %"

    def against(a: Runs, b: Runs) -> str:
        return f"{percent(interval(a.accuracy(last), b.accuracy(last)), signed=True)} points"

    return [
        f"{course(VOTING)}. After step {early} it {since_early(voting)}; its reward went from {reward(early)} to "
        f"{reward(last)} %.",
        f"{course(TEACHER)}. After step {early} it {since_early(teacher)}; in the end {against(teacher, voting)} "
        f"against majority voting. {corrupted(teacher)} of the questions went from right to wrong, there "
        f"{corrupted(voting)}.",
        f"{course(TRUTH)}. In the end {against(truth, teacher)} against {TITLE_OF[TEACHER]}: what labels would add.",
    ]


def caveat(arms: Mapping[str, Runs]) -> str:
    found = interval(arms[VOTING].accuracy(0))
    of_starts = f"{found.num_starts} starts" if found.num_starts > 1 else "one start, and of no other"
    return (
        f"Accuracy: 95 % intervals over {found.num_questions} questions of {of_starts}. Reward: mean of {LAST} steps. "
        "Other starts and machines differ."
    )


def draw(arms: Mapping[str, Runs], path: Path) -> None:
    """Accuracy and reward side by side. Raises OSError: it cannot be written."""
    with plt.rc_context(SETTINGS), atomic_write(path) as part:
        figure, (accuracy, reward) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
        accuracy.set_title("Held-out accuracy", loc="left", fontweight="bold")
        reward.set_title("Training reward", loc="left", fontweight="bold")
        for name, title in TITLE_OF.items():
            look = look_of(name)
            draw_accuracy(accuracy, arms[name], look.colour, title, look.marker)
            draw_metric(reward, arms[name], "reward/mean", look.colour, LAST, look.marker)
        for axis in (accuracy, reward):
            axis.set_xlabel("training step", color=GREY)
            axis.set_xlim(0, 1.02 * arms[VOTING].last)
        figure.legend(
            *accuracy.get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False, fontsize=9,
            title="Rewarded by", alignment="left", title_fontproperties={"size": 12, "weight": "bold"},
        )  # fmt: skip
        figure.supxlabel(caveat(arms), x=0.01, ha="left", color=GREY, fontsize=8)
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a regime: has start1/ and perhaps more")
    parser.add_argument("--starts", nargs="+", type=int, help="default: all with three finished arms")
    parser.add_argument("--figure", type=Path, required=True, help="a .png")
    args = parser.parse_args()
    found = load(args.folder)
    if missing := [name for name in TITLE_OF if name not in found]:
        sys.exit(f"error: {args.folder} has no finished run of {', '.join(missing)}: train it first")
    common = set.intersection(*(set(found[name].verdicts) for name in TITLE_OF))
    starts = sorted(common if args.starts is None else args.starts)
    if not starts or not common.issuperset(starts):
        sys.exit(f"error: --starts {starts}: the three arms are finished from {sorted(common)}")
    arms = {name: of_starts(found[name], starts) for name in TITLE_OF}
    draw(arms, args.figure)
    print("\n".join([*lines(arms), caveat(arms), f"picture: {args.figure}"]))


def of_starts(runs: Runs, starts: list[int]) -> Runs:
    tables = ("metrics", "groups", "verdicts")
    return replace(runs, **{name: {start: getattr(runs, name)[start] for start in starts} for name in tables})


if __name__ == "__main__":
    main()
