# SPDX-License-Identifier: Apache-2.0
"""Methods side by side: what the runs of each came to, over its seeds.

A quantity is the mean over a method's runs, one a seed, with the sample standard deviation over them; with one seed,
an accuracy has the standard error of its questions instead, and everything else nothing. Warnings are found by watching
the logged metrics again, with the default window (monitoring.alarms). Labels are compared with the truth by spelling
and exact number.

Degenerate cases: what no run of a method logged is "–"; runs of different lengths are compared at their last step.
Deliberately absent: drawing (co_rewarding.tools.report.figures), which questions are special (the caller says).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.monitoring.alarms import CollapseMonitor
from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.report.runs import Run, read_run
from co_rewarding.tools.report.summary import ABSENT, ends, standard_error


@dataclass(frozen=True)
class Seeds:
    """The runs of one method."""

    method: str
    run_dirs: tuple[Path, ...]
    runs: tuple[Run, ...]


def read_methods(run_dirs: Sequence[Path]) -> list[Seeds]:
    """Runs in folders called <method>_seed<number>, gathered by method, in the order given.

    Raises:
        ValueError: a folder with another name, or without metrics.
    """
    gathered: dict[str, list[Path]] = {}
    for run_dir in run_dirs:
        method, separator, seed = run_dir.name.rpartition("_seed")
        if not separator or not seed.isdecimal():
            raise ValueError(f"{run_dir}: the name of a run must end in _seed<number>")
        gathered.setdefault(method, []).append(run_dir)
    return [Seeds(method, tuple(dirs), tuple(map(read_run, dirs))) for method, dirs in gathered.items()]


def table(methods: Sequence[Seeds], *, special: Callable[[str], bool] | None = None, special_name: str = "") -> str:
    """A Markdown table, one row a method.

    Args:
        special: whether a question, given as (the end of) its prompt, belongs to a kind that is shown apart.
        special_name: the heading of that kind's columns.
    """
    heads = ["method", "seeds", "accuracy before", "after", "best seen"]
    if special:
        heads += [f"{special_name}: before", "after", "their labels that are right"]
    heads += ["label accuracy", "reward", "response tokens", "warnings (first step)"]
    rows = []
    for seeds in methods:
        row = [f"`{seeds.method}`", str(len(seeds.runs)), *_accuracies(seeds)]
        if special:
            row += [*_special(seeds, special), _special_labels(seeds, special)]
        row += [_ends(seeds, "label/accuracy"), _ends(seeds, "reward/mean"), _ends(seeds, "response_length/mean", 1)]
        rows.append([*row, _warnings(seeds.runs)])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [heads, ["---"] * len(heads), *rows])


def special_accuracy(run_dir: Path, run: Run, special: Callable[[str], bool]) -> dict[int, tuple[float, int]]:
    """Step → accuracy on the special questions of that validation, and their number; only steps with a dump."""
    layout, found = RunDir(run_dir), {}
    for metric in list(run.accuracy_metrics.values())[:1]:
        for step in run.series(metric)[0]:
            path = layout.validation_file(step)
            if not path.is_file():
                continue
            rows = parse_jsonl(path.read_bytes(), str(path))[0]
            scores = [float(row["acc"]) for row in rows if special(row["input"])]
            if scores:
                found[step] = (fmean(scores), len(scores))
    return found


def warnings(run: Run) -> dict[str, int]:
    """Sign → the first step at which it was there."""
    monitor, first = CollapseMonitor(), {}
    for step in run.trained_steps:
        for alarm in monitor.observe(step, run.steps[step]):
            first.setdefault(alarm.signal.name, step)
    return first


def _accuracies(seeds: Seeds) -> list[str]:
    """Before, after and the best of all validations, each chosen in its run."""
    picked: list[list[tuple[float, int | None]]] = [[], [], []]
    for run in seeds.runs:
        for metric in list(run.accuracy_metrics.values())[:1]:
            values, n = run.series(metric)[1], run.num_questions(metric)
            for cell, value in zip(picked, (values[0], values[-1], max(values)), strict=True):
                cell.append((value, n))
    return [_with_spread(cell) for cell in picked]


def _special(seeds: Seeds, special: Callable[[str], bool]) -> list[str]:
    """Before and after: of the first and of the last validation, where it left a dump."""
    cells: list[list[tuple[float, int | None]]] = [[], []]
    for run_dir, run in zip(seeds.run_dirs, seeds.runs, strict=True):
        for metric in list(run.accuracy_metrics.values())[:1]:
            validated, found = run.series(metric)[0], special_accuracy(run_dir, run, special)
            for cell, step in zip(cells, (validated[0], validated[-1]), strict=True):
                cell += [found[step]] if step in found else []
    return [_with_spread(cell) for cell in cells]


def _special_labels(seeds: Seeds, special: Callable[[str], bool]) -> str:
    """Right labels / labels that the original wordings of such questions were given in training, of all seeds."""
    right = total = 0
    same = Equivalence().same
    for run_dir in seeds.run_dirs:
        layout = RunDir(run_dir)
        for path in map(layout.rollouts_file, layout.dumped_steps()):
            rows = parse_jsonl(path.read_bytes(), str(path))[0]
            labels = {
                row["question"]: same(row["label"], row["ground_truth"])
                for row in rows
                if row["view"] == "original" and row["label"] is not None and special(row["prompt"])
            }
            right, total = right + sum(labels.values()), total + len(labels)
    return f"{right} of {total}" if total else ABSENT


def _with_spread(cell: Sequence[tuple[float, int | None]]) -> str:
    """Mean of (accuracy, number of questions) over seeds ± their standard deviation, or one seed's standard error."""
    if not cell:
        return ABSENT
    mean = fmean(value for value, _ in cell)
    if len(cell) > 1:
        return f"{mean:.3f} ± {stdev(value for value, _ in cell):.3f}"
    n = cell[0][1]
    return f"{mean:.3f}" + (f" ± {standard_error(mean, n):.3f}" if n else "")


def _ends(seeds: Seeds, metric: str, digits: int = 2) -> str:
    """Mean over seeds of the means of the first and of the last steps."""
    curves = [ends(values) for run in seeds.runs if (values := run.series(metric)[1])]
    if not curves:
        return ABSENT
    first, last = (fmean(column) for column in zip(*curves, strict=True))
    return f"{first:.{digits}f} → {last:.{digits}f}".replace("-", "−")


def _warnings(runs: Sequence[Run]) -> str:
    """Each sign with the earliest step of any seed, and in how many seeds it was there if not in all."""
    seen: dict[str, list[int]] = {}
    for found in map(warnings, runs):
        for name, step in found.items():
            seen.setdefault(name, []).append(step)
    return ", ".join(_warning(name, steps, len(runs)) for name, steps in sorted(seen.items())) or "none"


def _warning(name: str, steps: Sequence[int], num_runs: int) -> str:
    return f"{name} ({min(steps)})" + (f" in {len(steps)} of {num_runs}" if len(steps) < num_runs else "")
