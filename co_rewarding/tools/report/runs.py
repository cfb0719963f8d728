# SPDX-License-Identifier: Apache-2.0
"""What a finished (or killed) run logged, read from the files that it left (their places: storage.run_dir).

    metrics       one file per start of the run, one {"step", "data"} object a line (verl's file logger)
    rollouts      one rollout a line: step, question, view, voter, prompt, response, answer, label, reward
    validation    one validation response a line: input, output, gts, score, step

A start that was resumed from a checkpoint repeats steps: what an earlier start logged from there on is of weights that
were thrown away, so it is dropped. A last line that is cut off (killed run) is left out and reported; a broken line
elsewhere is an error. A metric without data, or with JSON null (verl's NaN), is absent, never 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.run_dir import RunDir

STEP_TIME = "timing_s/step"
"""Seconds of a training step (rollout, reward, update, checkpoint) without validation; only trained steps log it."""

_ACCURACY = re.compile(r"val-core/(?P<source>.+)/acc/mean@(?P<responses>\d+)")


@dataclass(frozen=True)
class Run:
    """Everything logged by one run, all of its starts merged."""

    name: str
    steps: Mapping[int, Mapping[str, float]]
    """step → metric → value; step 0 is the validation before training."""
    starts: int
    num_validation: int | None
    """Validation responses that were graded, None if that is unknown."""
    notes: tuple[str, ...] = ()

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """The steps at which `metric` was logged and its values there."""
        points = [(step, data[metric]) for step, data in self.steps.items() if metric in data]
        return [step for step, _ in points], [value for _, value in points]

    @property
    def trained_steps(self) -> list[int]:
        return self.series(STEP_TIME)[0]

    @property
    def accuracy_metrics(self) -> dict[str, str]:
        """Data source → name of its validation accuracy."""
        names = {name for data in self.steps.values() for name in data}
        return {match["source"]: name for name in sorted(names) if (match := _ACCURACY.fullmatch(name))}

    def num_questions(self, accuracy_metric: str) -> int | None:
        """n of the standard error; None without a validation dump, or with several sources, which it does not tell."""
        match = _ACCURACY.fullmatch(accuracy_metric)
        if match is None or self.num_validation is None or len(self.accuracy_metrics) > 1:
            return None
        return self.num_validation // int(match["responses"]) or None


def merge_starts(starts: Iterable[Sequence[Mapping[str, Any]]]) -> dict[int, dict[str, float]]:
    """step → metric → value of all starts of a run, earliest first; see the module's text for steps that were repeated.

    A start that only validates (its first step before training, or an evaluation afterwards) replaces those metrics
    alone. Values that are no finite number are left out.

    Raises:
        ValueError: a row without an integer "step" or without "data".
    """
    merged: dict[int, dict[str, float]] = {}
    for rows in starts:
        logged: dict[int, dict[str, float]] = {}
        for row in rows:
            step, data = row.get("step"), row.get("data")
            if not isinstance(step, int) or not isinstance(data, dict):
                raise ValueError(f'a metrics row has step={step!r}: needs an integer "step" and an object "data"')
            logged.setdefault(step, {}).update({k: float(v) for k, v in data.items() if is_number(v)})
        trained = [step for step, data in logged.items() if STEP_TIME in data]
        if trained:
            merged = {step: data for step, data in merged.items() if step < min(trained)}
        for step, data in logged.items():
            merged.setdefault(step, {}).update(data)
    return dict(sorted(merged.items()))


def read_run(run_dir: Path) -> Run:
    """Read the metrics of a run directory.

    Raises:
        ValueError: one line saying what is missing or broken.
    """
    if not run_dir.is_dir():
        raise ValueError(f"{run_dir}: no such directory; give that of a run, e.g. runs/co-rewarding/co_rewarding_I")
    layout = RunDir(run_dir)
    paths = [layout.metrics_file(start) for start in layout.starts()]
    starts, notes = [], []
    for path in paths:
        rows, cut_off = parse_jsonl(path.read_bytes(), str(path))
        if cut_off:
            notes.append(f"{path}: the last line is cut off (killed run?) and was left out")
        if rows:
            starts.append(rows)
    steps = merge_starts(starts)
    if not any(steps.values()):
        where = "holds none" if paths else "has no *.jsonl"
        raise ValueError(f"no metrics found: {layout.metrics} {where}; did the run log to trainer.logger=[file]?")
    validated = [step for step, data in steps.items() if any(map(_ACCURACY.fullmatch, data))]
    num_validation = None
    if validated:
        num_validation = _count_validation(layout, validated)
        if num_validation is None:
            notes.append(f"no standard errors: {layout.validation} has no dump of a validated step")
    run = Run(run_dir.resolve().name, steps, len(starts), num_validation, tuple(notes))
    if len(run.accuracy_metrics) > 1:
        note = f"no standard errors: {len(run.accuracy_metrics)} data sets, whose sizes validation/ does not tell apart"
        run = Run(run.name, steps, run.starts, num_validation, (*notes, note))
    return run


def read_last_rollouts(run_dir: Path, last_step: int) -> list[dict[str, Any]]:
    """Rows of the newest rollout dump of a step up to `last_step`; empty if there is none."""
    layout = RunDir(run_dir)
    steps = [step for step in layout.dumped_steps() if step <= last_step]
    if not steps:
        return []
    path = layout.rollouts_file(steps[-1])
    return parse_jsonl(path.read_bytes(), str(path))[0]


def _count_validation(layout: RunDir, steps: Sequence[int]) -> int | None:
    # every validation of a run asks the same questions, so one dump is enough (they can be large)
    dumped = [step for step in layout.validated_steps() if step in steps]
    if not dumped:
        return None
    path = layout.validation_file(dumped[-1])
    rows, _ = parse_jsonl(path.read_bytes(), str(path))
    return sum(row.get("gts") not in (None, "") for row in rows) or None


def is_number(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
