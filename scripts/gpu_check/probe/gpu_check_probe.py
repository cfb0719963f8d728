# SPDX-License-Identifier: Apache-2.0
"""The shipped trainers with notes for the check (gpu_check_notes); their steps are unchanged.

Environment:

    GPU_CHECK_PLAN      "METHOD:STEPS METHOD:STEPS": methods that need the same models take turns in one start, because
                        a start takes minutes and a step seconds
    GPU_CHECK_RESTORED  "1": after the last step, validate with the student, the teacher and the student again

A method is set wherever the configured one is read; without a teacher, the teacher's rollouts are skipped.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from gpu_check_notes import card_mib, methods_of_plan, note
from omegaconf import DictConfig

from co_rewarding.algo import methods
from co_rewarding.training.rollout_io import Response
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_i.trainer import CoRewardingITrainer
from co_rewarding_ii.orders import TeacherAfterStudent


class Watched(GroupRewardTrainer):
    """Precedes one of our trainers in the method resolution order, and calls it in every method."""

    def __init__(self, config: DictConfig):
        note("trainer's process is up")
        self.plan = methods_of_plan(os.environ["GPU_CHECK_PLAN"])
        super().__init__(config)
        self.updates_own_suffice = self.has_own_old_log_probs  # while a method rewards no statistic
        self.answered: list[str] = []  # the responses of the last validation, in the order of the questions' texts

    def on_init_end(self) -> None:
        note("workers and vLLM are up")
        super().on_init_end()
        note("vLLM has the weights")

    def on_step_begin(self) -> None:
        super().on_step_begin()
        self.take_turn(self.plan[self.global_steps - 1])

    def take_turn(self, method: str) -> None:
        self.method = self.reward_manager.method = methods.method(method)
        self.has_own_old_log_probs = self.updates_own_suffice and not self.method.statistics

    def on_sample_end(self) -> None:
        awake = card_mib()
        self.finish_sampling()
        note("memory", step=self.global_steps, awake_mib=awake, asleep_mib=card_mib())

    def finish_sampling(self) -> None:
        super().on_sample_end()

    def on_step_end(self) -> None:
        super().on_step_end()
        note(f"step {self.global_steps} is done")

    def _dump_generations(self, inputs: list[str], outputs: list[str], *others: Any, **more: Any) -> None:
        self.answered = [output for _, output in sorted(zip(inputs, outputs, strict=True))]
        super()._dump_generations(inputs, outputs, *others, **more)


class WatchedI(Watched, CoRewardingITrainer):
    """Co-rewarding-I, and other rewards on the same two views."""


class WatchedII(Watched, TeacherAfterStudent):
    """Co-rewarding-II, and methods that take turns with it, for which the teacher neither moves nor rolls out."""

    def take_turn(self, method: str) -> None:
        super().take_turn(method)
        if not self.method.needs_teacher:
            self.timed, self._teacher_metrics = (), {}

    def finish_sampling(self) -> None:
        if self.method.needs_teacher:
            super().finish_sampling()
        else:
            GroupRewardTrainer.on_sample_end(self)

    def _responses_that_only_vote(self) -> list[Response]:
        return super()._responses_that_only_vote() if self.method.needs_teacher else []

    def _compute_metrics(self, *arguments: Any, **position: int) -> None:
        super()._compute_metrics(*arguments, **position)  # the step is over and timed
        if self.global_steps == self.total_training_steps and os.environ.get("GPU_CHECK_RESTORED") == "1":
            self._validate_as("student")
            self.checkpoint_manager.sleep_replicas()
            ray.get(self.actor_rollout_wg.send_weights(global_steps=self.global_steps))
            self._validate_as("teacher")
            self.checkpoint_manager.sleep_replicas()
            self.checkpoint_manager.update_weights(self.global_steps)
            self._validate_as("student again")

    def _validate_as(self, who: str) -> None:
        metrics = self._validate()
        accuracy = next(value for name, value in metrics.items() if "/acc/mean@" in name)
        note("validation", who=who, accuracy=accuracy, responses=self.answered)
