# SPDX-License-Identifier: Apache-2.0
"""Watches a run for collapse: changes of metrics that indicate a failing run, and what to try.

    start  = mean of the metric's first W values of the run          recent = mean of its last W values
    noise  = 2 √(s²_start / W + s²_recent / W),  s² the variance of the W values

A signal is a list of conditions that all hold (SIGNALS). A condition compares `recent` with a number, or with `start`,
in which case the two windows must not overlap and differ by more than `noise`. A metric that a run does not log, or has
not logged W times, satisfies no condition: missing data never raises an alarm. Signals and thresholds are this
project's choice, not the paper's, and an alarm is a hint, not a verdict: agreement that rises through learning looks
the same as agreement that rises through collapse.

Early stopping is optional and never uses a ground truth: signals that need one warn, but do not stop (`Signal.stops`),
or labels would select the run; they are marked (`Signal.needs_labels`). While a stopping signal holds, no checkpoint is
saved (`may_save`), so that the last good one is not rotated away.

Falling entropy and jumps of the KL are no signals: sound runs show them as often as bad ones (docs/METRICS.md).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Condition:
    """A condition on one metric: all given bounds must hold."""

    metric: str
    at_least: float | None = None  # recent ≥ this
    at_most: float | None = None  # recent ≤ this
    rise: float | None = None  # recent − start > this
    fall: float | None = None  # start − recent > this
    times_start: float | None = None  # recent ≥ this × start
    share_of_start: float | None = None  # recent ≤ this × start

    @property
    def compares_with_start(self) -> bool:
        return not (self.rise is self.fall is self.times_start is self.share_of_start is None)

    @property
    def needs_labels(self) -> bool:
        """Whether the metric needs ground truths, as every `accuracy` does (monitoring.metrics)."""
        return "accuracy" in self.metric.split("/")


@dataclass(frozen=True)
class Signal:
    """One way in which a run goes wrong."""

    name: str  # stable, for logs and state
    seen: str  # the numbers in words
    advice: str
    conditions: tuple[Condition, ...]
    stops: bool = False  # may end a run; only for signals that need no labels

    def __post_init__(self) -> None:
        if self.stops and self.needs_labels:
            raise ValueError(f"{self.name} needs labels: it may warn but not stop a run")

    @property
    def needs_labels(self) -> bool:
        """Whether a label-free method could not see it."""
        return any(condition.needs_labels for condition in self.conditions)


LOWER_THE_STEP = (
    "a smaller learning rate, a larger KL coefficient, labels from elsewhere (co_rewarding_I, II or III), or return "
    "to an earlier checkpoint"
)
SIGNALS: tuple[Signal, ...] = (
    Signal(
        "one_answer",
        "most questions have one and the same majority answer",
        LOWER_THE_STEP,
        (Condition("collapse/answer_concentration", at_least=0.5, rise=0.2),),
        stops=True,
    ),
    Signal(
        "fewer_answers",
        "the questions' majority answers are half as varied as at the start",
        LOWER_THE_STEP,
        (Condition("collapse/answer_entropy", share_of_start=0.5),),
        stops=True,
    ),
    Signal(
        "short_and_sure",
        "all rollouts of a question agree, in ever shorter responses: it may answer without reasoning",
        "a larger KL coefficient, more rollouts, harder questions; compare with validation accuracy, if there is one",
        (
            Condition("collapse/agreement", at_least=0.95),
            Condition("collapse/length", share_of_start=0.6),
        ),
        stops=True,
    ),
    Signal(
        "length_collapse",
        "responses have lost most of their length",
        LOWER_THE_STEP,
        (Condition("collapse/length", share_of_start=0.3),),
        stops=True,
    ),
    Signal(
        "length_limit",
        "most responses are cut off at the length limit",
        "read some of them: repetition means collapse (a larger KL coefficient), sense means that "
        "data.max_response_length is too small",
        (Condition("collapse/length_limit", at_least=0.5, rise=0.2),),
        stops=True,
    ),
    Signal(
        "repetition",
        "responses repeat themselves",
        LOWER_THE_STEP,
        (Condition("collapse/repetition", at_least=0.5, rise=0.2),),
        stops=True,
    ),
    Signal(
        "no_answers",
        "responses have stopped stating an answer",
        "read some of them; a smaller learning rate, a longer data.max_response_length",
        (Condition("answer/share", at_most=0.5, share_of_start=0.5),),
        stops=True,
    ),
    Signal(
        "not_worked_out",
        "many answers only state a computation (58+23): copying the question may have won the votes",
        LOWER_THE_STEP,
        (Condition("answer/unevaluated", at_least=0.2, rise=0.1),),
        stops=True,
    ),
    Signal(
        "entropy_rising",
        "the policy's entropy is rising: it drifts towards noise",
        "a smaller learning rate, a larger KL coefficient; for labels from few votes, co_rewarding.min_agreement",
        (Condition("actor/entropy", times_start=2.0, rise=0.2),),
    ),
    Signal(
        "illusion",
        "the reward rises while the labels become wrong",
        LOWER_THE_STEP,
        (Condition("reward/mean", rise=0.0), Condition("label/accuracy", fall=0.05)),
    ),
    Signal(
        "reward_without_accuracy",
        "the reward rises while the answers become wrong",
        LOWER_THE_STEP,
        (Condition("reward/mean", rise=0.0), Condition("answer/accuracy", fall=0.05)),
    ),
    Signal(
        "labels_flip",
        "most questions change their label from visit to visit: the reward is mostly noise",
        "more rollouts, co_rewarding.min_agreement above 0, a slower teacher",
        (Condition("collapse/label_flips", at_least=0.5),),
    ),
    Signal(
        "teacher_disagrees",
        "teacher and student disagree on most questions",
        "a smaller decay, so that the teacher follows faster, or a smaller learning rate",
        (Condition("label/voters_agree", at_most=0.5),),
    ),
    Signal(
        "few_labels",
        "few groups have a label; the others earn nothing",
        "a smaller co_rewarding.min_agreement, a larger co_rewarding.max_label_flips (-1: off), a longer "
        "data.max_response_length, a model that boxes its answers",
        (Condition("label/share", at_most=0.2),),
    ),
    Signal(
        "engine_gap",
        "rollout and training engine disagree on the probabilities of the same tokens: drift of the engines, not "
        "of the policy",
        "the same number type in both, actor_rollout_ref.rollout.enforce_eager=True; check that weights still arrive",
        (Condition("training/rollout_probs_diff_mean", at_least=0.03, times_start=2.0),),
    ),
)


@dataclass(frozen=True)
class Alarm:
    """A signal that holds, and its numbers."""

    signal: Signal
    since: int  # step at which it appeared, in one unbroken stretch with this one
    numbers: str
    new: bool  # appeared at this step

    def __str__(self) -> str:
        source = "needs labels: " if self.signal.needs_labels else ""
        return f"{source}{self.signal.seen} ({self.numbers}). Try: {self.signal.advice}"


class CollapseMonitor:
    """Tracks the metrics of a run. Its state belongs in the checkpoint, or a resumed run has the wrong start window.

    Args:
        window: W, steps, ≥ 2.
        stop_after: consecutive steps with a stopping signal after which `should_stop` is true; 0: never.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, window: int = 5, stop_after: int = 0, signals: Sequence[Signal] = SIGNALS) -> None:
        for name, value, least in (("window", window, 2), ("stop_after", stop_after, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: use a whole number from {least}")
        self.window, self.stop_after, self.signals = window, stop_after, tuple(signals)
        self._start: dict[str, list[float]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._counts: dict[str, int] = {}
        self._since: dict[str, int] = {}
        self._bad_since: int | None = None  # first of consecutive steps with a stopping signal
        self._bad_steps = 0

    def first_steps(self, metrics_of: Mapping[int, Mapping[str, Any]]) -> dict[Signal, int]:
        """Replay a finished run in order of steps: each signal that held → its first step."""
        first: dict[Signal, int] = {}
        for step, metrics in metrics_of.items():
            for alarm in self.observe(step, metrics):
                first.setdefault(alarm.signal, step)
        return first

    def observe(self, step: int, metrics: Mapping[str, Any]) -> tuple[Alarm, ...]:
        """Record one step's metrics and return the current alarms. Non-finite numbers are ignored."""
        for name in {condition.metric for signal in self.signals for condition in signal.conditions} & metrics.keys():
            value = float(metrics[name])
            if math.isfinite(value):
                self._counts[name] = self._counts.get(name, 0) + 1
                if len(start := self._start.setdefault(name, [])) < self.window:
                    start.append(value)
                self._recent.setdefault(name, deque(maxlen=self.window)).append(value)
        alarms = []
        for signal in self.signals:
            # only metrics of this step: one logged every few steps is judged when logged
            if all(condition.metric in metrics and self._holds(condition) for condition in signal.conditions):
                new = signal.name not in self._since
                self._since.setdefault(signal.name, step)
                numbers = "; ".join(self._numbers(condition) for condition in signal.conditions)
                alarms.append(Alarm(signal, self._since[signal.name], numbers, new))
            else:
                self._since.pop(signal.name, None)
        if any(alarm.signal.stops for alarm in alarms):
            self._bad_since = step if self._bad_since is None else self._bad_since
            self._bad_steps += 1
        else:
            self._bad_since, self._bad_steps = None, 0
        return tuple(alarms)

    @property
    def should_stop(self) -> bool:
        return 0 < self.stop_after <= self._bad_steps

    @property
    def may_save(self) -> bool:
        """False while a run with early stopping shows a stopping signal: saving now could remove a good checkpoint."""
        return self.stop_after == 0 or self._bad_steps == 0

    @property
    def good_until(self) -> int | None:
        """The last step before the window that first showed a stopping signal; 0: no such step; None: no signal now."""
        return None if self._bad_since is None else max(self._bad_since - self.window, 0)

    def state_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "window": self.window,
            "start": self._start,
            "recent": {name: list(values) for name, values in self._recent.items()},
            "counts": self._counts,
            "since": self._since,
            "bad_since": self._bad_since,
            "bad_steps": self._bad_steps,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Raises:
            ValueError: the state has another window.
        """
        if state["window"] != self.window:
            raise ValueError(f"the checkpoint has watch window {state['window']}, this run {self.window}")
        self._start = {name: list(values) for name, values in state["start"].items()}
        self._recent = {name: deque(values, maxlen=self.window) for name, values in state["recent"].items()}
        self._counts, self._since = dict(state["counts"]), dict(state["since"])
        self._bad_since, self._bad_steps = state["bad_since"], state["bad_steps"]

    def _holds(self, condition: Condition) -> bool:
        last_W = list(self._recent.get(condition.metric, ()))
        if len(last_W) < self.window:
            return False
        recent = fmean(last_W)
        if condition.at_least is not None and recent < condition.at_least:
            return False
        if condition.at_most is not None and recent > condition.at_most:
            return False
        if not condition.compares_with_start:
            return True
        if self._counts[condition.metric] < 2 * self.window:
            return False
        first_W = self._start[condition.metric]
        start = fmean(first_W)
        # statistics.variance computes with fractions, which took most of the time of a replay
        noise = 2 * math.sqrt((np.var(first_W, ddof=1) + np.var(last_W, ddof=1)) / self.window)
        return (
            abs(recent - start) > noise
            and (condition.rise is None or recent - start > condition.rise)
            and (condition.fall is None or start - recent > condition.fall)
            and (condition.times_start is None or recent >= condition.times_start * start)
            and (condition.share_of_start is None or recent <= condition.share_of_start * start)
        )

    def _numbers(self, condition: Condition) -> str:
        text = f"{condition.metric} {fmean(self._recent[condition.metric]):.3g} in the last {self.window} steps"
        if condition.compares_with_start:
            text += f", {fmean(self._start[condition.metric]):.3g} in the first {self.window}"
        return text
