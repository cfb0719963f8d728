# SPDX-License-Identifier: Apache-2.0
"""Methods side by side: results of their runs over seeds.

A quantity is the mean over a method's runs, one a seed. An accuracy has its 95 % interval over (seed, question), the
bootstrap's (co_rewarding/tools/bootstrap.py), and so has its difference to a reference method, on the seeds and
questions of both; with one seed the interval covers only questions, not other starts. Accuracies are from the first and
the last validation: the best one would be selected by labels.

Warnings come from replaying the logged metrics with the default window (monitoring.alarms); those that need labels are
separate. Missing metrics are "–"; runs of different lengths are compared at their last step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pandas as pd

from co_rewarding.algo.methods import METHODS
from co_rewarding.monitoring.alarms import CollapseMonitor, Signal
from co_rewarding.tools.bootstrap import Verdicts, interval
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import HELD_OUT, ends, legend, right_labels, with_interval
from co_rewarding.tools.report.verdicts import SEED, merged, paired_interval
from co_rewarding.tools.tables import ABSENT

Methods = dict[str, list[Run]]
"""Method → its runs, one a seed."""

ENDS = {"label accuracy": "label/accuracy", "reward": "reward/mean", "response tokens": "response_length/mean"}

REFERENCE = "majority_voting"
"""The method that a label-free method should beat."""


def by_method(run_dirs: Sequence[Path], runs: Sequence[Run]) -> Methods:
    """Runs in folders called METHOD_seedN, grouped by method, in the order given.

    Raises:
        ValueError: a folder with another name, or a seed of a method twice.
    """
    methods: Methods = {}
    for run_dir, run in zip(run_dirs, runs, strict=True):
        named = SEED.fullmatch(run.name)
        if named is None:
            raise ValueError(f"{run_dir}: with --by_method the name of a run must end in _seed and a number")
        methods.setdefault(named["method"], []).append(run)
    if twice := [name for name, count in Counter(run.name for run in runs).items() if count > 1]:
        raise ValueError(f"{twice[0]} is given twice: with --by_method a method has one run a seed")
    return methods


def reference_of(methods: Methods, chosen: str) -> str | None:
    """The reference method; None: none.

    Raises:
        ValueError: there is no run of the chosen method.
    """
    if chosen and chosen not in methods:
        raise ValueError(f"--reference {chosen}: no run of it is given, only of {', '.join(methods)}")
    return chosen or (REFERENCE if REFERENCE in methods else None)


def mean_run(method: str, runs: Sequence[Run]) -> Run:
    """The curves of a method: those of its only run, or means over its runs at each step."""
    if len(runs) == 1:
        return replace(runs[0], name=method)
    at_step = pd.concat([run.metrics for run in runs]).groupby(level=0)
    steps = {step: row.dropna().to_dict() for step, row in at_step.mean().iterrows()}
    verdicts = {
        metric: {
            step: merged(of_runs)
            for step, logged in steps.items()
            if metric in logged
            # of all runs in the mean
            and all(of_runs := [run.verdicts_at(metric, step) for run in runs if metric in run.steps.get(step, {})])
        }
        for metric in runs[0].verdicts
    }
    return replace(runs[0], name=f"{method} ({len(runs)} seeds)", steps=steps, verdicts=verdicts)


def is_control(method: str) -> bool:
    """Whether a method is a control."""
    return method in METHODS and METHODS[method].is_control


def table(methods: Methods, reference: str | None = None) -> pd.DataFrame:
    """One row per method; texts."""
    compared = methods[reference] if reference else None
    rows = [_row(method, runs, compared, reference) for method, runs in methods.items()]
    return pd.DataFrame(rows).fillna(ABSENT)


def methods_legend(methods: Methods) -> str:
    """The legend of `table`."""
    starts = {mean_run(method, runs).num_starts for method, runs in methods.items()}
    return legend([run for runs in methods.values() for run in runs], ENDS.values(), starts)


def warnings(run: Run) -> dict[Signal, int]:
    """Signal → the first step at which it held."""
    return CollapseMonitor().first_steps({step: run.steps[step] for step in run.trained_steps})


def _row(method: str, runs: Sequence[Run], compared: Sequence[Run] | None, reference: str | None) -> dict[str, str]:
    row = {"method": method, "seeds": str(len(runs))}
    accuracies = [list(run.accuracy_metrics.values())[:1] for run in runs]
    if any(accuracies) or not any(run.held_out("answer_share") for run in runs):  # else no ground truth is known
        row |= _accuracies("accuracy ", None, runs, compared, reference)
    for name, words in HELD_OUT.items():
        metrics = {source: metric for run in runs for source, metric in run.held_out(name).items()}
        for source, metric in metrics.items():
            row[f"held-out {words}" + (f", {source}" if len(metrics) > 1 else "")] = _first_to_last(runs, metric)
    for name in dict.fromkeys(name for run in runs for name in run.subsets or {}):
        subsets = [run.subsets[name] for run in runs if run.subsets]
        heading = f"{name} ({max(subset.num_questions for subset in subsets)}) "
        row |= _accuracies(heading, subsets[0].metric, runs, compared, reference)
        counts = [(subset.right_labels, subset.num_labels) for subset in subsets]
        row[f"{name}: right labels"] = right_labels(*map(sum, zip(*counts, strict=True)))
    for name, metric in ENDS.items():
        row[f"{name} *"] = _ends(runs, metric, digits=1 if metric == "response_length/mean" else 2)
    seen = [warnings(run) for run in runs]
    row["warnings (first step)"] = _warnings(seen, needs_labels=False)
    row["warnings that need labels"] = _warnings(seen, needs_labels=True)
    return row


End = tuple[list[float], Verdicts | None]
"""Accuracies of runs at one end, and their verdicts; None if one of them has none."""


def _accuracies(
    heading: str, metric: str | None, runs: Sequence[Run], compared: Sequence[Run] | None, reference: str | None
) -> dict[str, str]:
    """Cells of one metric (None: each run's validation accuracy): first, last, and against the reference."""
    (before, after), others = (_end(runs, metric, i) for i in (0, -1)), compared and _end(compared, metric, -1)
    row = {f"{heading}before": _mean(before), f"{heading}after": _mean(after)}
    if compared is not None:
        row[f"{heading}after − {reference}"] = "reference" if compared is runs else _difference(after, others)
    return row


def _end(runs: Sequence[Run], metric: str | None, which: int) -> End:
    """Cells at the first (0) or the last (-1) validation of each run."""
    values, verdicts = [], []
    for run in runs:
        for accuracy in list(run.accuracy_metrics.values())[:1]:
            step = run.series(accuracy)[0][which]
            value = run.steps[step].get(metric or accuracy)
            if value is not None:
                values.append(value)
                verdicts.append(run.verdicts_at(metric or accuracy, step))
    return values, merged(verdicts) if all(verdicts) and verdicts else None


def _mean(end: End) -> str:
    values, verdicts = end
    return with_interval(fmean(values), interval(verdicts) if verdicts else None) if values else ABSENT


def _difference(a: End, b: End) -> str:
    """On the seeds and questions of both; shows the number of seeds if not all are shared."""
    if a[1] is None or b[1] is None or (found := paired_interval(a[1], b[1])) is None:
        return ABSENT
    text = with_interval(found.value, found, "+")
    if found.num_starts == len(a[1]) == len(b[1]):
        return text
    return f"{text} ({found.num_starts} seed{'s' * (found.num_starts > 1)} of both)"


def _first_to_last(runs: Sequence[Run], metric: str) -> str:
    """Means over seeds of the first value and of the last."""
    curves = [values for run in runs if (values := run.series(metric)[1])]
    return " → ".join(f"{fmean(curve[i] for curve in curves):.2f}" for i in (0, -1))


def _ends(runs: Sequence[Run], metric: str, digits: int) -> str:
    """Means over seeds of the means of the first and of the last steps."""
    curves = [ends(values) for run in runs if (values := run.series(metric)[1])]
    if not curves:
        return ABSENT
    columns = zip(*((curve * 2)[: max(map(len, curves))] for curve in curves), strict=True)
    return " → ".join(f"{fmean(column):.{digits}f}" for column in columns).replace("-", "−")


def _warnings(of_runs: Sequence[dict[Signal, int]], *, needs_labels: bool) -> str:
    """Each signal with its earliest step over seeds, and the number of seeds if not all."""
    seen: dict[str, list[int]] = {}
    for found in of_runs:
        for signal, step in found.items():
            if signal.needs_labels == needs_labels:
                seen.setdefault(signal.name, []).append(step)
    texts = [
        f"{name} ({min(steps)})" + (f" in {len(steps)} of {len(of_runs)}" if len(steps) < len(of_runs) else "")
        for name, steps in sorted(seen.items())
    ]
    return ", ".join(texts) or "none"
