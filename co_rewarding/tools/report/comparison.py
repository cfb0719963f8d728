# SPDX-License-Identifier: Apache-2.0
"""Methods side by side: what the runs of each came to, over its seeds.

A quantity is the mean over a method's runs, one a seed, with the sample standard deviation over them; with one seed,
an accuracy has the standard error of its questions instead, and everything else nothing. Warnings are found by watching
the logged metrics again, with the default window (monitoring.alarms). What no run of a method logged is "–"; runs of
different lengths are compared at their last step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pandas as pd

from co_rewarding.algo.methods import METHODS
from co_rewarding.monitoring.alarms import CollapseMonitor
from co_rewarding.tools.report.runs import Run
from co_rewarding.tools.report.summary import HELD_OUT, ends, legend, right_labels, with_error
from co_rewarding.tools.tables import ABSENT

Methods = dict[str, list[Run]]
"""Method → its runs, one a seed."""

ENDS = {"label accuracy": "label/accuracy", "reward": "reward/mean", "response tokens": "response_length/mean"}


def by_method(run_dirs: Sequence[Path], runs: Sequence[Run]) -> Methods:
    """Runs in folders called METHOD_seedN, gathered by method, in the order given.

    Raises:
        ValueError: a folder with another name.
    """
    methods: Methods = {}
    for run_dir, run in zip(run_dirs, runs, strict=True):
        name = re.fullmatch(r"(.+)_seed\d+", run_dir.resolve().name)
        if name is None:
            raise ValueError(f"{run_dir}: with --by_method the name of a run must end in _seed and a number")
        methods.setdefault(name[1], []).append(run)
    return methods


def mean_run(method: str, runs: Sequence[Run]) -> Run:
    """The curves of a method: of its only run, or the means over its runs at each step."""
    if len(runs) == 1:
        return replace(runs[0], name=method)
    at_step = pd.concat([run.metrics for run in runs]).groupby(level=0)
    steps = {step: row.dropna().to_dict() for step, row in at_step.mean().iterrows()}
    return replace(runs[0], name=f"{method} ({len(runs)} seeds)", steps=steps, deviations=at_step.std())


def is_control(method: str) -> bool:
    """Whether a method is not meant to work."""
    return method in METHODS and METHODS[method].is_control


def table(methods: Methods) -> pd.DataFrame:
    """One row a method; texts."""
    return pd.DataFrame([_row(method, runs) for method, runs in methods.items()]).fillna(ABSENT)


def methods_legend(methods: Methods) -> str:
    """What the signs in `table` mean."""
    seeds = [len(runs) for runs in methods.values()]
    words = ["standard error with one seed"] * (1 in seeds) + ["standard deviation over seeds"] * (max(seeds) > 1)
    return legend([run for runs in methods.values() for run in runs], ENDS.values(), " or ".join(words))


def warnings(run: Run) -> dict[str, int]:
    """Sign → the first step at which it was there."""
    monitor, first = CollapseMonitor(), {}
    for step in run.trained_steps:
        for alarm in monitor.observe(step, run.steps[step]):
            first.setdefault(alarm.signal.name, step)
    return first


def _row(method: str, runs: Sequence[Run]) -> dict[str, str]:
    validated = [(run, metric) for run in runs for metric in list(run.accuracy_metrics.values())[:1]]
    first, last, best = [], [], []  # of each run: which step, and its accuracy
    for run, metric in validated:
        steps, values = run.series(metric)
        first.append((run, metric, steps[0]))
        last.append((run, metric, steps[-1]))
        best.append((run, metric, steps[values.index(max(values))]))
    row = {"method": method, "seeds": str(len(runs))}
    if validated or not any(run.held_out("answer_share") for run in runs):  # else no answer is known to be right
        row |= {"accuracy before": _over_seeds(first), "accuracy after": _over_seeds(last)}
        row["best accuracy"] = _over_seeds(best)
    for name, words in HELD_OUT.items():
        metrics = {source: metric for run in runs for source, metric in run.held_out(name).items()}
        for source, metric in metrics.items():
            row[f"held-out {words}" + (f", {source}" if len(metrics) > 1 else "")] = _first_to_last(runs, metric)
    for name in dict.fromkeys(name for run in runs for name in run.subsets or {}):
        subsets = [run.subsets[name] for run in runs if run.subsets]
        heading = f"{name} ({max(subset.num_questions for subset in subsets)})"
        for when, points in (("before", first), ("after", last)):
            row[f"{heading} {when}"] = _over_seeds((run, subsets[0].metric, step) for run, _, step in points)
        counts = [(subset.right_labels, subset.num_labels) for subset in subsets]
        row[f"{name}: right labels"] = right_labels(*map(sum, zip(*counts, strict=True)))
    for name, metric in ENDS.items():
        row[f"{name} *"] = _ends(runs, metric, digits=1 if metric == "response_length/mean" else 2)
    return {**row, "warnings (first step)": _warnings(runs)}


def _over_seeds(points: Iterable[tuple[Run, str, int]]) -> str:
    """Mean of an accuracy at one step of each run, ± its standard deviation, or one seed's standard error."""
    values, errors = [], []
    for run, metric, step in points:
        steps, accuracies = run.series(metric)
        if step in steps:
            values.append(accuracies[steps.index(step)])
            errors.append((run.errors(metric) or [None] * len(steps))[steps.index(step)])
    if not values:
        return ABSENT
    return with_error(fmean(values), stdev(values) if len(values) > 1 else errors[0])


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


def _warnings(runs: Sequence[Run]) -> str:
    """Each sign with the earliest step of any seed, and in how many seeds it was there if not in all."""
    seen: dict[str, list[int]] = {}
    for found in map(warnings, runs):
        for name, step in found.items():
            seen.setdefault(name, []).append(step)
    texts = [
        f"{name} ({min(steps)})" + (f" in {len(steps)} of {len(runs)}" if len(steps) < len(runs) else "")
        for name, steps in sorted(seen.items())
    ]
    return ", ".join(texts) or "none"
