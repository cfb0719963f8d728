# SPDX-License-Identifier: Apache-2.0
"""Monitors a run: metrics of the votes, signs of collapse, progress lines, early stopping. Checkpoints save its state
(STATE_FILE).

It never affects a reward.
"""

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from pathlib import Path
from statistics import median
from typing import Any

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.rollouts import Same, Scores
from co_rewarding.monitoring.alarms import CollapseMonitor
from co_rewarding.monitoring.collapse import LabelHistory, collapse_metrics
from co_rewarding.monitoring.duration import duration
from co_rewarding.monitoring.held_out import PREFIX as HELD_OUT
from co_rewarding.monitoring.held_out import HeldOutResponse, held_out_metrics
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import STATE_FILE, RunDir, checkpoint_folder
from co_rewarding.training.checkpoint import latest_checkpoint_before, set_resume_checkpoint
from co_rewarding.training.console import say
from co_rewarding.training.rollout_io import Response
from co_rewarding.training.settings import Settings

STEP_TIME = "timing_s/step"  # verl's; includes a checkpoint, excludes validation
FEW_ANSWERS = 0.05  # share of responses with an answer, below which the first step prints a warning
STEPS_REMEMBERED = 5  # for the time left
_ACCURACY = re.compile(r"val-core/(.+)/acc/mean@\d+")


class RunMonitor:
    """Collects metrics of one run and derives alarms, progress lines and early stopping.

    Args:
        settings: the run's.
        max_response_length: tokens at which a response is cut off.
        checkpoints: the folder of the run's checkpoints.
    """

    def __init__(self, settings: Settings, max_response_length: int, checkpoints: Path):
        self.max_response_length, self.checkpoints = max_response_length, checkpoints
        self.collapse = CollapseMonitor(settings.watch_window, settings.early_stop_after)
        self.label_history = LabelHistory()
        self.held_out_history = LabelHistory()
        self.step_times: deque[float] = deque(maxlen=STEPS_REMEMBERED)
        self.last_metrics: dict[str, float] = {}  # of the step that the run resumed from

    def step_metrics(self, responses: Sequence[Response], scores: Scores, same: Same) -> dict[str, float]:
        """Metrics of a step's votes and rewards, with its signs of collapse; records the step's labels."""
        rollouts_N = [response.rollout for response in responses]
        metrics = group_metrics(rollouts_N, scores, [response.truth for response in responses], same)
        return metrics | collapse_metrics(
            rollouts_N,
            scores,
            [response.tokens_T for response in responses],
            self.max_response_length,
            same,
            self.label_history,
        )

    def held_out_metrics(self, responses: Sequence[HeldOutResponse], equivalence: Equivalence) -> dict[str, float]:
        """Metrics of one validation that need no ground truth; records its majority answers."""
        answers: dict[tuple[str, str], list[str]] = {}
        for row in responses:
            if row.answer is not None:
                answers.setdefault((row.source, row.question or row.prompt), []).append(row.answer)
        equivalence.prepare(answers.values())
        return held_out_metrics(responses, self.max_response_length, equivalence.same, self.held_out_history)

    def observe(self, step: int, metrics: dict[str, Any]) -> None:
        """Record all metrics of a step and print new alarms; at step 1 also warn if hardly any response has an answer,
        since a run without answers has no labels and learns nothing."""
        if step == 1 and (share := metrics.get("answer/share", 1.0)) < FEW_ANSWERS:
            say(
                f"WARNING step 1: {share:.1%} of the responses state an answer, so there is almost nothing to learn "
                "from: does the prompt ask for the right format (co_rewarding.answer_format, or the data's column "
                "answer_format), are responses cut off (collapse/length_limit), is the model able to? Read some "
                "in rollouts/1.jsonl"
            )
        for alarm in self.collapse.observe(step, metrics):
            if alarm.new:
                say(f"WARNING step {step}: {alarm}")

    def progress(self, step: int, total: int, metrics: dict[str, Any]) -> None:
        """Print the line of a step that is done, or of a validation.

        The time left is the number of remaining steps times the median of this start's last few, so one checkpoint does
        not distort it. Validation is not included.
        """
        left = None
        if STEP_TIME in metrics:
            self.step_times.append(metrics[STEP_TIME])
            left = (total - step) * median(self.step_times)
        say(progress_line(step, total, metrics, left))

    def stop_if_collapsed(self, step: int) -> bool:
        """Whether the run should end after `step`; if so, the last good checkpoint becomes the one to resume from."""
        if not self.collapse.should_stop:
            return False
        good_until = self.collapse.good_until
        good = latest_checkpoint_before(self.checkpoints, good_until)
        if good is not None:
            set_resume_checkpoint(good)
        say(
            f"stopping early at step {step}: signs of collapse for {self.collapse.stop_after} steps; step {good_until} "
            "was the last one without; "
            + (f"the last good checkpoint is {good}" if good else "no checkpoint is that old")
        )
        return True

    def may_save(self, step: int) -> bool:
        """Whether a checkpoint may be saved; says so if not."""
        if not self.collapse.may_save:
            say(f"step {step}: not saved because of signs of collapse")
        return self.collapse.may_save

    def save(self, step: int, steps_per_epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write the run's metrics, monitor state and steps per epoch into the checkpoint of `step`."""
        state = {
            "labels": self.label_history.state_dict(),
            "held_out": self.held_out_history.state_dict(),
            "watch": self.collapse.state_dict(),
            "steps_per_epoch": steps_per_epoch,
            "metrics": {name: float(value) for name, value in metrics.items() if isinstance(value, Real)},
        }
        atomic_write_text(checkpoint_folder(self.checkpoints, step) / STATE_FILE, json.dumps(state, ensure_ascii=False))

    def load(self, folder: Path) -> None:
        """Read it back; a checkpoint without the file, or of another window, only restarts the counting."""
        if not (folder / STATE_FILE).is_file():
            say(f"{folder} has no {STATE_FILE}: signs of collapse are counted from this step on")
            return
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        self.label_history.load_state_dict(state["labels"])
        self.held_out_history.load_state_dict(state.get("held_out", []))  # older checkpoints have none
        self.last_metrics = state.get("metrics", {})  # older checkpoints have none, too
        try:
            self.collapse.load_state_dict(state["watch"])
        except ValueError as error:  # another co_rewarding.watch_window
            say(f"{error}: signs of collapse are counted from this step on")


def is_logged(run: RunDir, step: int) -> bool:
    """Whether some start of a run has logged the training of a step."""
    for file in run.metrics.glob("*.jsonl"):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):  # the last line of a start that was killed
                row = json.loads(line)
                if row["step"] == step and STEP_TIME in row["data"]:
                    return True
    return False


def progress_line(step: int, total: int, metrics: dict[str, Any], left_s: float | None = None) -> str:
    """One readable line: the known numbers of a step in a fixed order; unknown ones are left out.

    Args:
        left_s: seconds to the end of the run.
    """
    shown = {
        "reward": metrics.get("reward/mean"),
        "label accuracy": metrics.get("label/accuracy"),
        "views agree": metrics.get("label/views_agree"),
        "teacher agrees": metrics.get("label/voters_agree"),
        "response tokens": metrics.get("response_length/mean"),
        "seconds": metrics.get(STEP_TIME),
    }
    parts = [f"{name} {value:.3g}" for name, value in shown.items() if value is not None]
    parts += [f"left {duration(left_s)}"] if left_s else []
    return f"step {step}/{total}: " + ", ".join(parts + _validated(metrics))


def _validated(metrics: dict[str, Any]) -> list[str]:
    """Accuracy of each data source; without ground truths its agreement, or the share with an answer."""
    accuracies = {match[1]: value for key, value in metrics.items() if (match := _ACCURACY.fullmatch(key))}
    parts = [f"validation accuracy {value:.3f} ({source})" for source, value in accuracies.items()]
    for key in metrics:
        source = key.removeprefix(f"{HELD_OUT}/").removesuffix("/answer_share")
        if key != f"{HELD_OUT}/{source}/answer_share" or source in accuracies:
            continue
        agreement = metrics.get(f"{HELD_OUT}/{source}/agreement")
        number = f"answered {metrics[key]:.3f}" if agreement is None else f"agreement {agreement:.3f}"
        parts.append(f"validation {number} ({source})")
    return parts
