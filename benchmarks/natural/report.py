# SPDX-License-Identifier: Apache-2.0
"""Tables and figures of the finished runs: benchmarks/natural/summary.py defines the numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from co_rewarding.storage.files import atomic_write
from co_rewarding.tools.bootstrap import Interval, interval
from co_rewarding.tools.report.figures import LOOKS, METHODS_IN_ORDER, SETTINGS, Look
from co_rewarding.tools.report.verdicts import paired_interval
from co_rewarding.tools.tables import ABSENT, to_markdown

from .arms import ARMS, EARLY
from .start import REGIMES
from .summary import Runs, Shares, judged, of_starts, verdict

REFERENCE = "majority voting"
DRAWN = ("ground truth", "majority voting", "majority voting, both wordings", "I", "I, same wording twice", "II", "III")


def look_of(arm: str) -> Look:
    """As in the figures of real runs; arms of one method look alike."""
    return LOOKS[METHODS_IN_ORDER.index(ARMS[arm].name_in_product)]


def starts_table(folder: Path) -> str:
    """The agreement matrices of a regime's starts, in percent of the held-out questions."""
    rows = []
    for start, path in of_starts(folder, "matrix.json").items():
        matrix = json.loads(path.read_text())
        rows.append(
            {"start": str(start)}
            | {
                "sampled right": f"{100 * matrix['sampled']:.0f} / {100 * matrix['sampled_rephrased']:.0f}",
                "majority right": f"{100 * matrix['majority_right']:.0f} / "
                f"{100 * matrix['majority_right_rephrased']:.0f}",
            }
            | {name: f"{100 * matrix[name]:.0f}" for name in ("RR", "RW", "WR", "WW same", "WW different")}
            | {
                "both wrong / if independent": f"{100 * matrix['both_wrong']:.0f} / "
                f"{100 * matrix['both_wrong_if_independent']:.0f}"
            }
        )
    return to_markdown(pd.DataFrame(rows))


def arms_table(arms: Mapping[str, Runs]) -> str:
    rows = []
    for name, runs in arms.items():
        at = {step: interval(runs.accuracy(step)) for step in (0, EARLY, runs.last) if step in runs.validated}
        row = {"arm": name, "rollouts": f"{ARMS[name].rollouts} G", "starts": str(len(runs.verdicts))}
        row |= {f"accuracy at {step}": percent(found) for step, found in at.items()}
        if REFERENCE in arms and name != REFERENCE:
            difference = paired_interval(runs.accuracy(runs.last), arms[REFERENCE].accuracy(runs.last))
            row[f"− {REFERENCE}"] = bold(difference) if difference else ABSENT
        row["learned"], row["corrupted"] = (
            f"{100 * mean_of(runs.changed(before, not before)):.1f}" for before in (False, True)
        )
        labels = [share for share in runs.label_accuracy().values() if not math.isnan(share)]
        row["label accuracy"] = f"{100 * fmean(labels):.0f}" if labels else ABSENT
        row["agreement"] = f"{100 * mean_of(runs.mean('collapse/agreement', runs.last)):.0f}"
        row["collapse at step"] = ", ".join(ABSENT if step is None else str(step) for step in runs.collapse_steps())
        rows.append(row)
    return to_markdown(pd.DataFrame(rows).fillna(ABSENT))


def claims_table(judged: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The claims, a line each, with their difference in points and verdict in each regime."""
    regimes = list(judged)
    rows = []
    for of_claim in zip(*judged.values(), strict=True):
        claim = of_claim[0]
        of = "" if claim["of"] == "accuracy" else f" ({claim['of']})"
        row = {"claim": claim["claim"], "difference": f"{claim['better']} − {claim['worse']}{of}"}
        for regime, found in zip(regimes, of_claim, strict=True):
            row[f"{regime}, in points"] = f"{in_points(found) or ABSENT}: {found['verdict']}"
        rows.append(row)
    return to_markdown(pd.DataFrame(rows))


def conclusions(arms: Mapping[str, Runs]) -> list[dict[str, Any]]:
    """The claims as data, to be compared with another machine's."""
    return [
        {"claim": claim.says, "better": claim.better, "worse": claim.worse, "of": claim.of, "verdict": verdict(found)}
        | ({} if found is None else {"value": found.value, "low": found.low, "high": found.high,
                                     "starts": found.num_starts, "questions": found.num_questions})
        for claim, found in judged(arms)
    ]  # fmt: skip


def compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The claims of two results (conclusions.json), each with both verdicts."""
    rows = []
    for regime in REGIMES:
        others = {(claim["better"], claim["worse"], claim["of"]): claim for claim in other.get(regime, [])}
        for claim in one.get(regime, []):
            again = others.get((claim["better"], claim["worse"], claim["of"]), {"verdict": "not run"})
            verdicts = claim["verdict"], again["verdict"]
            rows.append(
                {"regime": regime, "claim": claim["claim"], "first": in_points(claim), "second": in_points(again)}
                | {"": verdicts[0] if verdicts[0] == verdicts[1] else " / ".join(verdicts)}
            )
    return to_markdown(pd.DataFrame(rows))


def in_points(claim: Mapping[str, Any]) -> str | None:
    if "value" not in claim:
        return None
    return percent(Interval(claim["value"], claim["low"], claim["high"], claim["starts"], claim["questions"]), True)


def percent(found: Interval, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * found.value:{sign}.1f} [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]".replace(
        "-", "−"
    )


def bold(found: Interval) -> str:
    return f"**{percent(found, signed=True)}**" if found.excludes_zero else percent(found, signed=True)


def mean_of(shares: Shares) -> float:
    return fmean(share for of_start in shares.values() for share in of_start.values())


def draw(arms: Mapping[str, Runs], path: Path, title: str) -> None:
    """Accuracy with its interval, and the signs that need no label, each the mean over starts."""
    shown = {name: arms[name] for name in DRAWN if name in arms}
    panels = (
        ("Held-out accuracy, greedy", None),
        ("Reward", "reward/mean"),
        ("Label accuracy (needs labels)", "label"),
        ("Agreement of the student's rollouts", "collapse/agreement"),
        ("Response length (tokens)", "collapse/length"),
        ("Policy entropy (nats a token)", "actor/entropy"),
    )
    with plt.rc_context(SETTINGS), atomic_write(path) as part:
        figure, axes = plt.subplots(2, 3, figsize=(10.5, 5.6), layout="constrained")
        for axis, (heading, metric) in zip(axes.flat, panels, strict=True):
            axis.set_title(heading, loc="left", fontweight="bold")
            for name, runs in shown.items():
                if metric is None:
                    draw_accuracy(axis, runs, look_of(name).colour, name)
                else:
                    draw_metric(axis, runs, metric, look_of(name).colour)
        for axis in axes[1]:
            axis.set_xlabel("training step")
        figure.legend(loc="outside upper left", ncols=4, frameon=False, title=title, alignment="left",
                      title_fontproperties={"size": 12, "weight": "bold"})  # fmt: skip
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})
        plt.close(figure)


def draw_accuracy(axis: Axes, runs: Runs, colour: str, name: str, marker: str = "") -> None:
    steps = runs.validated
    found = [interval(runs.accuracy(step)) for step in steps]
    axis.plot(steps, [f.value for f in found], color=colour, label=name, lw=2, marker=marker, ms=4.5)
    axis.fill_between(steps, [f.low for f in found], [f.high for f in found], color=colour, alpha=0.12, lw=0)


def draw_metric(axis: Axes, runs: Runs, metric: str, colour: str, window: int = 10, marker: str = "") -> None:
    """The mean over starts, of `window` steps at a time, with a marker at every window's end."""
    if metric == "label":
        tables = [table[table.view == "original"] for table in runs.groups.values()]
        curves = [table.groupby("step").label_right.apply(lambda right: right.astype(float).mean()) for table in tables]
    else:
        curves = [table.set_index("step")[metric] for table in runs.metrics.values() if metric in table]
    if curves:
        curve = pd.concat(curves, axis=1).mean(axis=1).rolling(window, min_periods=1).mean()
        axis.plot(curve.index, curve, color=colour, lw=1.6, marker=marker, ms=4.5, markevery=(window - 1, window))
