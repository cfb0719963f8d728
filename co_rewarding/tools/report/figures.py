# SPDX-License-Identifier: Apache-2.0
"""Curves of runs against training steps: small panels on one page, runs overlaid.

Runs differ by colour and marker, the same for a method in all figures; metrics of a panel differ by line style, so
figures also work in grey print. Long curves are drawn twice: thin as logged, thick as a trailing mean. Accuracies have
95 % intervals: a band around a line, or bars at one or two unconnected points.

A metric that a run did not log has no line; a panel without lines is left out. A single point is a marker.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from co_rewarding.storage.files import atomic_write
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import distinct_names, over

METHODS_IN_ORDER = (
    "co_rewarding_I", "co_rewarding_II", "co_rewarding_III", "ground_truth", "majority_voting", "self_certainty",
    "entropy", "random", "format_only", "incorrect", "majority_voting_both_views", "co_rewarding_I_same_wording",
)  # fmt: skip
"""Each has the look at its index; new methods go last."""
# Okabe and Ito's palette without yellow, distinguishable with any colour vision; grey, brown and olive for the
# controls; wine and indigo of Tol's muted palette for those of co_rewarding_I
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#7A4B2A", "#8A8A00",
    "#882255", "#332288",
)  # fmt: skip
MARKERS = ("o", "s", "^", "*", "D", "v", "P", "X", "<", ">", "p", "h")
Style = str | tuple[float, tuple[float, ...]]
STYLES: tuple[Style, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)))
GREY = "#666666"
SMOOTH_FROM, WINDOW = 15, 5  # points; shorter curves are drawn unsmoothed
MARKERS_PER_LINE = 6
COLUMNS = 3
NEEDS_LABELS = "†"
FORMATS = (".png", ".svg", ".pdf")
SETTINGS = {
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


@dataclass(frozen=True)
class Panel:
    """One pair of axes. Without metrics: each data set's held-out number of that name, or validation accuracy."""

    title: str
    metrics: Mapping[str, str] = field(default_factory=dict)  # metric → its name if a panel has several, up to three
    is_share: bool = False  # between 0 and 1
    from_zero: bool = False
    held_out: str = ""  # name of a number in co_rewarding.monitoring.held_out

    def metrics_of(self, run: Run) -> list[tuple[str, str]]:
        """Those of the panel's metrics that the run logged, with their names."""
        of_sources = run.held_out(self.held_out) if self.held_out else run.accuracy_metrics
        metrics = self.metrics or {metric: source for source, metric in of_sources.items()}
        return [(metric, name) for metric, name in metrics.items() if metric in run.metrics]


class Look(NamedTuple):
    """The look of a run."""

    colour: str
    marker: str


LOOKS = tuple(
    Look(COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)])
    for i in range(len(COLOURS) * len(MARKERS))
)

ACCURACY = Panel("Held-out accuracy")
LABELS = Panel(f"Label accuracy {NEEDS_LABELS}", {"label/accuracy": ""}, is_share=True)
LENGTH = Panel("Response length (tokens)", {"response_length/mean": ""})
GAP = Panel("Rollout–training gap (mean |Δp|)", {"training/rollout_probs_diff_mean": ""}, from_zero=True)
ENTROPY = Panel("Policy entropy (nats a token)", {"actor/entropy": ""})
REWARD = Panel("Reward mean", {"reward/mean": ""})
REWARD_OF_SHARES = Panel("Reward mean (nats are off the scale)", {"reward/mean": ""}, is_share=True)
REWARD_AND_AGREEMENT = Panel(
    "Reward mean, label agreement", {"reward/mean": "reward", "label/agreement": "agreement"}, is_share=True
)
VOTES = {"label/accuracy": "label", "vote/accuracy/student": "student’s own vote"}
AGREEMENT = {"label/agreement": "with the label", "collapse/agreement": "with the student’s majority"}
ANSWERED = {"label/share": "groups with a label", "answer/share": "responses with an answer"}
SAME_VOTE = {"label/voters_agree": "teacher and student", "label/views_agree": "both views"}
RUNAWAY = {"collapse/repetition": "repetition", "collapse/length_limit": "responses at the limit"}
PANEL_SETS: dict[str, tuple[Panel, ...]] = {
    "main": (ACCURACY, LABELS, REWARD_AND_AGREEMENT, LENGTH, GAP, ENTROPY),
    "methods": (ACCURACY, LABELS, REWARD_OF_SHARES, LENGTH, ENTROPY),
    "all": (
        ACCURACY,
        Panel("Held-out agreement", is_share=True, held_out="agreement"),
        Panel("Held-out views agree", is_share=True, held_out="views_agree"),
        Panel("Held-out answers as last time", is_share=True, held_out="stability"),
        REWARD,
        Panel(f"Accuracy of votes {NEEDS_LABELS}", VOTES, is_share=True),
        Panel("Agreement inside a group", AGREEMENT, is_share=True),
        LENGTH,
        Panel("Labelled groups, answered responses", ANSWERED, is_share=True),
        Panel("Teacher’s decay α", {"teacher/decay": ""}),
        Panel("Teacher–student distance", {"teacher/distance": ""}),
        Panel("Votes agree", SAME_VOTE, is_share=True),
        Panel("Share of the most common answer", {"collapse/answer_concentration": ""}, is_share=True),
        Panel("Entropy of the questions’ answers (nats)", {"collapse/answer_entropy": ""}),
        Panel("Repetition, length limit", RUNAWAY, is_share=True),
        Panel("Labels changed since the last visit", {"collapse/label_flips": ""}, is_share=True),
        ENTROPY,
        Panel("KL to the reference (nats a token)", {"actor/kl_loss": ""}),
        GAP,
        Panel("Gradient norm", {"actor/grad_norm": ""}),
        Panel("Seconds a step", {"timing_s/step": ""}),
    ),
}
PANELS = PANEL_SETS["all"]


def draw(
    runs: Sequence[Run], path: Path, *, title: str = "", panels: Sequence[Panel] = PANELS, window: int = WINDOW
) -> None:
    """Write the figure to `path`, with an ending of `FORMATS`; the same runs give the same bytes.

    Raises:
        ValueError: another ending, or all panels are empty.
        OSError: it cannot be written; names `path`.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: the name of a figure must end in {', '.join(FORMATS)}")
    shown = shown_panels(runs, panels)
    if not shown:
        raise ValueError(f"nothing to draw: {', '.join(run.name for run in runs)} logged none of the requested metrics")
    with plt.rc_context(SETTINGS):
        figure = _figure(runs, title, shown, window)
        with atomic_write(path) as part:
            _save(figure, part, path.suffix)


def svg(runs: Sequence[Run], panel: Panel, window: int = WINDOW) -> bytes:
    """One panel as SVG."""
    content = io.BytesIO()
    with plt.rc_context(SETTINGS):
        figure, axis = plt.subplots(figsize=(4.2, 2.7), layout="constrained")
        _draw_panel(axis, runs, panel, window)
        axis.set_xlabel("training step", color=GREY)
        _save(figure, content, ".svg")
    return content.getvalue()


def shown_panels(runs: Sequence[Run], panels: Sequence[Panel]) -> list[Panel]:
    """The non-empty panels."""
    return [panel for panel in panels if any(panel.metrics_of(run) for run in runs)]


def notes(runs: Sequence[Run], panels: Sequence[Panel], window: int = WINDOW) -> list[str]:
    """Notes for the reader of these panels."""
    found = []
    metrics = [(run, metric) for run in runs for panel in panels for metric, _ in panel.metrics_of(run)]
    starts = {run.num_starts for run, metric in metrics if run.verdicts.get(metric)}
    if starts:
        found.append(f"accuracies: 95 % interval over {over(starts)}")
    if any(_is_smoothed(run, metric, window) for run, metric in metrics):
        found.append(f"thin: each step, thick: mean of {window}")
    if any(NEEDS_LABELS in panel.title for panel in panels):
        found.append(f"{NEEDS_LABELS} needs ground truth: a diagnostic that label-free methods never see")
    return found


def looks(runs: Sequence[Run]) -> list[Look]:
    """One look per run: its method's; without a method, or if taken by an earlier run, the next free one."""
    own: list[Look | None] = []
    for run in runs:
        look = LOOKS[METHODS_IN_ORDER.index(run.method)] if run.method in METHODS_IN_ORDER else None
        own.append(None if look in own else look)
    free = itertools.cycle(look for look in LOOKS if look not in own)
    return [look or next(free) for look in own]


def _save(figure: Figure, where: Path | IO[bytes], suffix: str) -> None:
    # no date and no version inside, so that the same run gives the same bytes
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(where, format=suffix[1:], dpi=200, metadata=metadata[suffix])
    plt.close(figure)


def _figure(runs: Sequence[Run], title: str, panels: Sequence[Panel], window: int) -> Figure:
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(10 * columns / 3 + 0.5, 0.5 + 2.35 * rows), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    for i, axis in enumerate(axes.flat):
        if i >= len(panels):
            axis.remove()
            continue
        _draw_panel(axis, runs, panels[i], window)
        if i + columns >= len(panels):  # the lowest of its column
            axis.set_xlabel("training step", color=GREY)
    if remarks := notes(runs, panels, window):
        figure.supxlabel("   ".join(remarks), x=0.01, ha="left", color=GREY, fontsize=8)
    if len(runs) > 1:
        handles = [
            Line2D([], [], color=look.colour, marker=look.marker, ms=4.5, lw=2.2, label=name)
            for look, name in zip(looks(runs), distinct_names(runs), strict=True)
        ]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=min(4, len(runs)), frameon=False, fontsize=9,
            title=title or None, title_fontproperties={"size": 12, "weight": "bold"}, alignment="left",
        )  # fmt: skip
    elif title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _draw_panel(axis: Axes, runs: Sequence[Run], panel: Panel, window: int) -> None:
    last_step = max([1, *(step for run in runs for step in run.steps)])
    axis.set_title(panel.title, loc="left", fontweight="bold")
    axis.set_xlim(-0.02 * last_step, 1.02 * last_step)
    axis.tick_params(length=2.5)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    logged = {name for run in runs for _, name in panel.metrics_of(run)}
    names = [name for name in panel.metrics.values() if name in logged] or sorted(logged)
    look_of = looks(runs)
    own = look_of if len(runs) > 1 else [*look_of, *(look for look in LOOKS if look not in look_of)]
    for i, run in enumerate(runs):
        for metric, name in panel.metrics_of(run):
            j = names.index(name)
            look = own[i if len(runs) > 1 else j]
            if _is_accuracy(run, metric):
                _draw_accuracy(axis, run, metric, look, STYLES[j % len(STYLES)], 0.03 * last_step, (i, len(runs)))
            else:
                _draw_curve(axis, run, metric, look, STYLES[j % len(STYLES)], window, (i, len(runs)))
    if panel.is_share:
        axis.set_ylim(-0.02, 1.02)
    elif panel.from_zero:
        axis.set_ylim(0, 1.1 * max(value for run in runs for name in panel.metrics for value in run.series(name)[1]))
    if len(names) > 1:
        handles = [
            Line2D([], [], color=GREY if len(runs) > 1 else own[j].colour, ls=STYLES[j % len(STYLES)], lw=1.8, label=n)
            for j, n in enumerate(names)
        ]
        axis.legend(handles=handles, frameon=False, fontsize=8, handlelength=2.6)


Place = tuple[int, int]  # index of the run, number of runs: markers of equal curves are offset


def _draw_accuracy(axis: Axes, run: Run, metric: str, look: Look, style: Style, apart: float, place: Place) -> None:
    steps, values = run.series(metric)
    intervals = [run.interval(metric, step) for step in steps]
    low, high = ([math.nan if of is None else getattr(of, bound) for of in intervals] for bound in ("low", "high"))
    if len(steps) > 2:
        axis.plot(steps, values, color=look.colour, ls=style, lw=1.8, marker=look.marker, ms=3.5)
        if any(intervals):
            axis.fill_between(steps, low, high, color=look.colour, alpha=0.18, lw=0)
        return
    i, num_runs = place  # runs are side by side, inwards from the ends of the axis
    middle = sum(axis.get_xlim()) / 2
    beside = [step + apart * (i if step < middle else i - num_runs + 1) for step in steps]
    errors = np.abs(np.array([low, high]) - values)  # NaN at a step without an interval: only a point
    axis.errorbar(beside, values, errors, color=look.colour, fmt=look.marker, ms=4.5, capsize=2.5, lw=1.2)


def _draw_curve(axis: Axes, run: Run, metric: str, look: Look, style: Style, window: int, place: Place) -> None:
    steps, values = run.series(metric)
    if _is_smoothed(run, metric, window):
        axis.plot(steps, values, color=look.colour, lw=0.7, alpha=0.3)
        values = run.metrics[metric].dropna().rolling(window, min_periods=1).mean().tolist()
    i, num_runs = place
    marker = look.marker if num_runs > 1 or len(steps) == 1 else ""
    every = max(1, len(values) // MARKERS_PER_LINE)
    marked = (i * every // num_runs, every)
    axis.plot(steps, values, color=look.colour, ls=style, lw=1.8, marker=marker, ms=3.5, markevery=marked)


def _is_accuracy(run: Run, metric: str) -> bool:
    return metric in run.accuracy_metrics.values() or metric.startswith("subset/")


def _is_smoothed(run: Run, metric: str, window: int) -> bool:
    return window > 1 and not _is_accuracy(run, metric) and len(run.series(metric)[0]) >= SMOOTH_FROM
