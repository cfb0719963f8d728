# SPDX-License-Identifier: Apache-2.0
"""Curves of runs against training steps: small panels on one page, several runs on top of each other.

What tells runs apart is colour and marker, what tells two metrics of a panel apart is line style; so a figure can also
be read in grey print. Long curves are drawn twice: thin as logged, thick as the mean of each value and those before it.

Degenerate cases: a metric that a run did not log has no line; a panel without any line is left out, or says "not
logged" where the caller wants all panels. A curve of one point is a marker. Without any panel left: ValueError.

Deliberately absent: reading runs (co_rewarding.tools.report.runs), pages (co_rewarding.tools.report.page).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import standard_error, trailing_mean

# Okabe and Ito's palette, told apart with any colour vision; with as many markers less one, 56 runs differ in the pair
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES: tuple[str | tuple[float, tuple[float, ...]], ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)))
GREY = "#666666"
SMOOTH_FROM, WINDOW = 15, 5  # points; shorter curves are drawn as they are
MARKERS_PER_LINE = 6
NEEDS_LABELS = "†"
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Panel:
    """One pair of axes. Without metrics: the validation accuracy of each data set, with its standard error."""

    title: str
    metrics: tuple[tuple[str, str], ...] = ()  # (metric, its name where a panel has several), at most len(STYLES)
    is_share: bool = False  # between 0 and 1


ACCURACY = Panel("Held-out accuracy (± standard error)", is_share=False)
PANELS: tuple[Panel, ...] = (
    ACCURACY,
    Panel("Reward mean", (("reward/mean", ""),)),
    Panel(
        f"Accuracy of votes {NEEDS_LABELS}",
        (("label/accuracy", "label"), ("vote/accuracy/student", "student’s own vote")),
        is_share=True,
    ),
    Panel(
        "Agreement inside a group",
        (("label/agreement", "with the label"), ("collapse/agreement", "with the student’s majority")),
        is_share=True,
    ),
    Panel("Response length (tokens)", (("response_length/mean", ""),)),
    Panel(
        "Labels and answers there are",
        (("label/share", "groups with a label"), ("answer/share", "responses with an answer")),
        is_share=True,
    ),
    Panel("Teacher’s decay α", (("teacher/decay", ""),)),
    Panel("Teacher from student (relative)", (("teacher/distance", ""),)),
    Panel(
        "Same vote",
        (("label/voters_agree", "teacher and student"), ("label/views_agree", "both wordings")),
        is_share=True,
    ),
    Panel("Questions with the commonest answer", (("collapse/answer_concentration", ""),), is_share=True),
    Panel("Entropy of the questions’ answers (nats)", (("collapse/answer_entropy", ""),)),
    Panel(
        "Repetition, length limit",
        (("collapse/repetition", "repetition"), ("collapse/length_limit", "responses at the limit")),
        is_share=True,
    ),
    Panel("Labels changed since the last visit", (("collapse/label_flips", ""),), is_share=True),
    Panel("Policy entropy (nats a token)", (("actor/entropy", ""),)),
    Panel("KL to the reference (nats a token)", (("actor/kl_loss", ""),)),
    Panel("Rollout–training gap (mean |Δp|)", (("training/rollout_probs_diff_mean", ""),)),
    Panel("Gradient norm", (("actor/grad_norm", ""),)),
    Panel("Seconds a step", (("timing_s/step", ""),)),
)


def draw(
    runs: Sequence[Run],
    path: Path,
    *,
    title: str = "",
    panels: Sequence[Panel] = PANELS,
    keep_empty: bool = False,
    window: int = WINDOW,
) -> None:
    """Write the figure to `path`, whose ending is one of `FORMATS`; the same runs give the same bytes.

    Raises:
        ValueError: another ending, or none of the panels has anything to show.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: the name of a figure must end in {', '.join(FORMATS)}")
    figure = _figure(runs, title, panels, keep_empty, window)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path, path.suffix)


def svg(runs: Sequence[Run], *, panels: Sequence[Panel] = PANELS, window: int = WINDOW) -> bytes:
    """The figure as SVG."""
    content = io.BytesIO()
    _save(_figure(runs, "", panels, False, window), content, ".svg")
    return content.getvalue()


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """The runs' names, with a number where two are called alike."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def _save(figure: Figure, where: Path | IO[bytes], suffix: str) -> None:
    # no date and no version inside, so that the same run gives the same bytes
    metadata = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(where, format=suffix[1:], dpi=200, metadata=metadata[suffix])
    plt.close(figure)


def _figure(runs: Sequence[Run], title: str, panels: Sequence[Panel], keep_empty: bool, window: int) -> Figure:
    shown = [panel for panel in panels if keep_empty or any(_has_data(run, panel) for run in runs)]
    if not shown:
        raise ValueError(f"nothing to draw: {', '.join(run.name for run in runs)} logged none of the metrics asked for")
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
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(10 * columns / 3 + 0.5, 0.5 + 2.35 * rows), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    last_step = max(step for run in runs for step in run.steps)
    for axis, panel in zip(axes.flat, shown, strict=False):
        axis.set_title(panel.title, loc="left", fontweight="bold")
        (_draw_metrics if panel.metrics else _draw_accuracy)(axis, runs, panel, window)
        if panel.is_share and axis.lines:
            axis.set_ylim(-0.02, 1.02)
        axis.set_xlim(-0.02 * max(last_step, 1), 1.02 * max(last_step, 1))
        axis.tick_params(length=2.5)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if not axis.lines:
            axis.text(0.5, 0.5, "not logged", transform=axis.transAxes, ha="center", va="center", color=GREY)
            axis.set_yticks([])
    for axis in list(axes.flat)[len(shown) :]:
        axis.remove()
    for column in range(columns):
        lowest = list(axes.flat)[max(i for i in range(len(shown)) if i % columns == column)]
        lowest.set_xlabel("training step", color=GREY)
    notes = []
    if window > 1 and any(len(run.trained_steps) >= SMOOTH_FROM for run in runs):
        notes.append(f"thin: each step, thick: mean of {window}")
    if any(NEEDS_LABELS in panel.title for panel in shown):
        notes.append(f"{NEEDS_LABELS} needs ground truth: a diagnostic that no label-free method sees")
    if notes:
        figure.supxlabel("   ".join(notes), x=0.01, ha="left", color=GREY, fontsize=8)
    if len(runs) > 1:
        handles = [
            plt.Line2D([], [], color=_colour(i), marker=_marker(i), ms=4.5, lw=2.2, label=name)
            for i, name in enumerate(distinct_names(runs))
        ]
        figure.legend(
            handles=handles, loc="outside upper left", ncols=min(4, len(runs)), frameon=False, fontsize=9,
            title=title or None, title_fontproperties={"size": 12, "weight": "bold"}, alignment="left",
        )  # fmt: skip
    elif title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _has_data(run: Run, panel: Panel) -> bool:
    return any(run.series(metric)[0] for metric, _ in panel.metrics) if panel.metrics else bool(run.accuracy_metrics)


def _draw_accuracy(axis: Axes, runs: Sequence[Run], panel: Panel, window: int) -> None:
    for i, run in enumerate(runs):
        for j, (source, metric) in enumerate(run.accuracy_metrics.items()):
            steps, values = run.series(metric)
            style = STYLES[j % len(STYLES)] if len(runs) > 1 else "-"
            colour = _colour(i if len(runs) > 1 else j)
            marker = _marker(i if len(runs) > 1 else j)
            axis.plot(steps, values, color=colour, ls=style, lw=1.8, marker=marker, ms=3.5, label=source)
            if n := run.num_questions(metric):
                low = [value - standard_error(value, n) for value in values]
                high = [value + standard_error(value, n) for value in values]
                axis.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    handles, names = axis.get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    if len(unique) > 1:
        axis.legend(unique.values(), unique.keys(), frameon=False, fontsize=8)


def _draw_metrics(axis: Axes, runs: Sequence[Run], panel: Panel, window: int) -> None:
    drawn = set()
    for i, run in enumerate(runs):
        for j, (metric, _) in enumerate(panel.metrics):
            steps, values = run.series(metric)
            if not steps:
                continue
            drawn.add(j)
            colour = _colour(i if len(runs) > 1 else j)
            smooth = window > 1 and len(values) >= SMOOTH_FROM
            if smooth:
                axis.plot(steps, values, color=colour, lw=0.7, alpha=0.3)
            marker = _marker(i) if len(runs) > 1 or len(values) == 1 else ""
            # in long curves runs carry their markers at different places, so that equal curves do not hide each other's
            every = max(1, len(values) // MARKERS_PER_LINE)
            axis.plot(
                steps, trailing_mean(values, window) if smooth else values, color=colour, ls=STYLES[j], lw=1.8,
                marker=marker, ms=3.5, markevery=(i * every // len(runs), every),
            )  # fmt: skip
    if len(panel.metrics) > 1 and drawn:
        handles = [
            plt.Line2D([], [], color=GREY if len(runs) > 1 else _colour(j), ls=STYLES[j], lw=1.8, label=name)
            for j, (_, name) in enumerate(panel.metrics)
            if j in drawn
        ]
        axis.legend(handles=handles, frameon=False, fontsize=8, handlelength=2.6)


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _marker(i: int) -> str:
    return MARKERS[i % len(MARKERS)]
