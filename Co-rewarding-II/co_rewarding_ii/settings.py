# SPDX-License-Identifier: Apache-2.0
"""The configuration block `actor_rollout_ref.teacher`: how the teacher follows the student, and how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace

from omegaconf import DictConfig

from co_rewarding.algo.ema_schedule import DecaySchedule
from co_rewarding.training.settings import MAX_TEMPERATURE, ConfigBlock

ANCHORS = ("teacher", "start")
AUTO, BESIDE, AFTER = ORDERS = ("auto", "beside", "after")


@dataclass(frozen=True)
class TeacherSettings(ConfigBlock):
    """The block `actor_rollout_ref.teacher`, of II and III; the average itself is co_rewarding/algo/ema.py."""

    NAME = "actor_rollout_ref.teacher"

    n: int = 8  # >= 1, the teacher's rollouts of a question, in III of each view (the paper's G̃)
    temperature: float | None = None  # 0–2, of the teacher's rollouts; null: the student's (rollout.temperature)
    update: bool = True  # False: the teacher stays the starting model (the paper's ablation)
    decay_start: float = 0.99  # 0–1, α of the first step: weight of the old teacher; published alpha_start is 1 - α
    decay_end: float = 0.9999  # 0–1, α towards the end, as in the paper's text; published alpha_end=1e-5 is 0.99999
    update_interval: int = 1  # >= 1, steps between updates
    start_share: float | None = None  # 0–1: scale α so that this share of the start is left at the end; null: do not
    one_direction: bool = False  # III: the student answers one view, drawn at random, the teacher the other
    kl_anchor: str = "teacher"  # reference of the KL loss: teacher, or start (the frozen starting model)
    rollout: str = AUTO  # beside the student, on separate vLLM engines, or after it; auto: beside from two engines on
    stop_decided: bool = False  # True: stop a question's rollouts once more than half of all n state one answer
    check_log_probs: bool = False  # log how well vLLM and reference engine agree on the teacher; costs a forward pass

    def __post_init__(self) -> None:
        self.require("n", self.n >= 1, "a whole number from 1 (TEACHER_NUM_ROLLOUTS in the run script)")
        is_allowed = self.temperature is None or 0 <= self.temperature <= MAX_TEMPERATURE
        self.require("temperature", is_allowed, f"a number from 0 to {MAX_TEMPERATURE:g}, or null for the student's")
        self.require("kl_anchor", self.kl_anchor in ANCHORS, " or ".join(ANCHORS))
        self.require("rollout", self.rollout in ORDERS, "one of " + ", ".join(ORDERS))
        self.schedule(total_steps=3 * max(1, self.update_interval))  # long enough for any compatible values

    @classmethod
    def read(cls, config: DictConfig) -> TeacherSettings:
        """... with the resolved temperature."""
        block = super().read(config)
        if block.temperature is not None:
            return block
        return replace(block, temperature=config.actor_rollout_ref.rollout.temperature)

    @property
    def keeps_start(self) -> bool:
        """Whether the anchor is the starting model and the teacher moves."""
        return self.update and self.kl_anchor == "start"

    def schedule(self, total_steps: int, unmoved_steps: int = 1) -> DecaySchedule:
        """Raises: ValueError, a value is out of range, or values conflict (see DecaySchedule)."""
        try:
            return DecaySchedule(
                total_steps=total_steps,
                decay_start=self.decay_start,
                decay_end=self.decay_end,
                update_interval=self.update_interval,
                start_share=self.start_share,
                unmoved_steps=unmoved_steps,
            )
        except ValueError as error:
            raise ValueError(f"{self.NAME}.{error}") from error


def trains_adapter(config: DictConfig) -> bool:
    """Whether student and teacher are LoRA adapters of one model."""
    return config.actor_rollout_ref.model.lora_rank > 0


def unmoved_steps(config: DictConfig, total_steps: int) -> int:
    """Number of first steps whose student is the starting model: 2 if the first one learns nothing.

    With a warm-up the learning rate of verl 0.9.1's first update is 0. Rewards are not considered.
    """
    optim = config.actor_rollout_ref.actor.optim
    warmup = optim.lr_warmup_steps or 0
    if warmup <= 0:
        warmup = int(optim.lr_warmup_steps_ratio * total_steps)
    begins_at_0 = optim.lr_scheduler_type == "constant" or optim.zero_indexed_step
    return 2 if warmup > 0 and begins_at_0 else 1
