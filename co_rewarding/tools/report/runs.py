# SPDX-License-Identifier: Apache-2.0
"""Reads the logs of a finished (or killed) run from its files (layout: storage.run_dir).

    metrics       one file per start of the run, one {"step", "data"} object a line (verl's file logger)
    rollouts      one rollout a line: step, question, view, voter, prompt, response, answer, label, reward
    validation    one validation response a line: input, output, gts, acc, step

A resumed start repeats steps: later logs of an earlier start belong to discarded weights and are dropped. A truncated
last line (killed run) is left out and reported; a broken line elsewhere is an error. A metric without data, or with
JSON null (verl's NaN), is absent, never 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from co_rewarding.algo.answer_format import recorded, truth_of
from co_rewarding.algo.methods import is_method
from co_rewarding.monitoring.held_out import PREFIX as HELD_OUT
from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES
from co_rewarding.tools.bootstrap import Interval, Verdicts, interval
from co_rewarding.tools.report.verdicts import right_shares, start_of

STEP_TIME = "timing_s/step"
"""Seconds of a training step (rollout, reward, update, checkpoint) without validation; logged only by trained steps."""

_ACCURACY = re.compile(r"val-core/(?P<source>.+)/acc/mean@(?P<responses>\d+)")


@dataclass(frozen=True)
class Subset:
    """A subset of questions: how many are validated, and how many of their training labels were right."""

    metric: str  # its accuracy in the steps of the run
    num_questions: int
    right_labels: int = 0
    num_labels: int = 0


@dataclass(frozen=True, eq=False)
class Run:
    """Everything logged by one run, all of its starts merged."""

    name: str
    steps: Mapping[int, Mapping[str, float]]
    """step → metric → value; step 0 is the validation before training."""
    starts: int
    verdicts: Mapping[str, Mapping[int, Verdicts]] = field(default_factory=dict)
    """Accuracy metric → step → start → question → share of right responses; for steps with a dump."""
    notes: tuple[str, ...] = ()
    method: str | None = None
    """As in its configuration (co_rewarding.algo.method_names); None if unknown."""
    subsets: Mapping[str, Subset] | None = None
    questions: Mapping[str, Mapping[str, int]] | None = None
    """Set of questions → outcome (co_rewarding.monitoring.questions) → count; None without a table."""

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row a step, one column a metric; NaN where a metric was not logged."""
        return pd.DataFrame.from_dict(dict(self.steps), orient="index", dtype=float).sort_index()

    def series(self, metric: str) -> tuple[list[int], list[float]]:
        """Steps and values of `metric`."""
        if metric not in self.metrics:
            return [], []
        points = self.metrics[metric].dropna()
        return points.index.tolist(), points.tolist()

    def until(self, step: int) -> Run:
        """The run up to `step`."""
        return replace(self, steps={at: data for at, data in self.steps.items() if at <= step})

    @property
    def trained_steps(self) -> list[int]:
        return self.series(STEP_TIME)[0]

    @cached_property
    def accuracy_metrics(self) -> dict[str, str]:
        """Data source → name of its validation accuracy."""
        return {match["source"]: name for name in sorted(self.metrics) if (match := _ACCURACY.fullmatch(name))}

    def held_out(self, name: str) -> dict[str, str]:
        """Data source → the metric of the label-free number `name` in its validations."""
        found = (re.fullmatch(f"{HELD_OUT}/(?P<source>.+)/{name}", metric) for metric in sorted(self.metrics))
        return {match["source"]: match[0] for match in found if match}

    def verdicts_at(self, accuracy_metric: str, step: int) -> Verdicts:
        """{} if unknown."""
        return self.verdicts.get(accuracy_metric, {}).get(step, {})

    def interval(self, accuracy_metric: str, step: int) -> Interval | None:
        """The 95 % interval of an accuracy over questions, and over starts for a mean over several."""
        verdicts = self.verdicts_at(accuracy_metric, step)
        return interval(verdicts) if verdicts else None

    @property
    def num_starts(self) -> int:
        """That its intervals are over; 0: none."""
        return max((len(verdicts) for steps in self.verdicts.values() for verdicts in steps.values()), default=0)

    def num_questions(self, accuracy_metric: str) -> int | None:
        """Of its last validation; None if unknown."""
        steps = self.verdicts.get(accuracy_metric, {})
        return len({q for of_start in steps[max(steps)].values() for q in of_start}) if steps else None


@dataclass(frozen=True)
class Rollout:
    """One line of a rollout dump, converted to these types."""

    question: str
    view: str
    voter: str
    prompt: str
    response: str
    answer: str | None
    label: str | None
    reward: float | None  # None: only votes
    ground_truth: str | None
    only_votes: bool = False  # a student's rollout that is not trained on
    stopped: bool = False  # stopped when the vote was decided

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Rollout:
        texts = {name: str(row.get(name, "")) for name in ("question", "view", "voter", "prompt", "response")}
        spec = str(row.get(ANSWER_FORMAT) or "")
        known = {
            name: recorded(None if row.get(name) is None else str(row[name]), spec) for name in ("answer", "label")
        }
        choices = [str(choice) for choice in row.get(CHOICES) or ()]
        truth = None if row.get("ground_truth") in (None, "") else truth_of(str(row["ground_truth"]), spec, choices)
        reward = float(row["reward"]) if is_number(row.get("reward")) else None
        only_votes = row.get("trained") is False and texts["voter"] == "student"
        stopped = row.get("stopped") is True
        return cls(**texts, **known, reward=reward, ground_truth=truth, only_votes=only_votes, stopped=stopped)


def merge_starts(starts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The metrics of all starts of a run, earliest first; repeated steps: see the module docstring.

    A start that only validates (before training, or an evaluation afterwards) replaces only those metrics.
    """
    merged = pd.DataFrame()
    for start in starts:
        if STEP_TIME in start and (trained := start[STEP_TIME].first_valid_index()) is not None:
            merged = merged[merged.index < trained]
        merged = start.combine_first(merged)
    return merged


def read_run(run_dir: Path) -> Run:
    """Read the metrics of a run directory.

    Raises:
        ValueError: names what is missing or broken.
    """
    if not run_dir.is_dir():
        raise ValueError(f"{run_dir}: no such directory; give a run's, e.g. runs/co-rewarding/my_run")
    layout, name = RunDir(run_dir), run_dir.resolve().name
    paths = [layout.metrics_file(start) for start in layout.starts()]
    starts, notes = [], []
    for path in paths:
        start, is_cut_off = _read_start(path)
        starts += [start] if len(start) else []
        notes += [f"{path}: the last line is incomplete (killed run?) and was skipped"] if is_cut_off else []
    metrics = merge_starts(starts)
    steps = {step: {k: v for k, v in row.items() if v == v} for step, row in metrics.to_dict("index").items()}
    if not any(steps.values()):
        where = "holds none" if paths else "has no *.jsonl"
        raise ValueError(f"no metrics found: {layout.metrics} {where}; did the run log to trainer.logger=[file]?")
    run = Run(name, steps, len(starts), method=_method(layout, name))
    match list(run.accuracy_metrics.values()):
        case [metric]:
            of_step = right_shares(layout, run.series(metric)[0])
            run = replace(
                run, verdicts={metric: {step: {start_of(name): of_step[step]} for step in of_step if of_step[step]}}
            )
            if not run.verdicts[metric]:
                notes.append(f"no intervals: {layout.validation} has no verdicts of a validated step")
        case [_, *_] as several:
            notes.append(f"no intervals: {len(several)} data sets, which validation/ does not distinguish")
    return replace(run, notes=tuple(notes))


def read_rollouts(run_dir: Path, step: int) -> list[Rollout]:
    """The dump of one step.

    Raises:
        ValueError: a broken line; names file and line.
    """
    path = RunDir(run_dir).rollouts_file(step)
    return [Rollout.of(row) for row in parse_jsonl(path.read_bytes(), str(path))[0]]


def dumped_steps(run_dir: Path, run: Run) -> list[int]:
    """The steps of `run` with dumped rollouts, without dropped steps."""
    return [step for step in RunDir(run_dir).dumped_steps() if step <= max(run.steps)]


def is_number(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_start(path: Path) -> tuple[pd.DataFrame, bool]:
    """The metrics of one start, and whether its last line was incomplete. Non-finite values are absent."""
    rows, is_cut_off = parse_jsonl(path.read_bytes(), str(path))
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("step"), int) or not isinstance(row.get("data"), dict):
            what = f'step={row.get("step")!r}: needs an integer "step" and an object "data"'
            raise ValueError(f"{path}, metrics row {number}: {what}")
    data = [{name: value for name, value in row["data"].items() if is_number(value)} for row in rows]
    frame = pd.DataFrame(data, index=[row["step"] for row in rows], dtype=float)
    return frame.groupby(level=0).last(), is_cut_off  # the last value of a metric logged twice in a step


def setting(layout: RunDir, name: str, otherwise: Any) -> Any:
    """`co_rewarding.NAME` of the newest configuration of a run."""
    for path in list(layout.configurations().values())[-1:]:
        with suppress(OSError, UnicodeError, yaml.YAMLError, LookupError, TypeError):
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            return yaml.load(path.read_text(encoding="utf-8"), loader)["co_rewarding"][name]
    return otherwise


def _method(layout: RunDir, name: str) -> str | None:
    """From the newest configuration, else from a name like METHOD or METHOD_seed1."""
    found = setting(layout, "method", re.sub(r"_seed\d+$", "", name))
    return str(found) if is_method(str(found)) else None
