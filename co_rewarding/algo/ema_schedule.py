# SPDX-License-Identifier: Apache-2.0
"""How slowly the teacher follows: the decay of its moving average, step by step (arXiv 2508.00410, Eq. 11).

    α_k = α_end − (α_end − α_start)/2 · (1 + cos(π k / K)),   k = 0 … K − 1 the steps of a run

α goes from α_start in the first step (k = 0) towards α_end (k = K, the end), as the paper's text and Table 5 say; Eq.
11 as printed gives 0.9901 → 1.0 for their values. The published script's `sliding_average.alpha_start=0.01,
alpha_end=1e-5` are weights of the *new* policy: decay = 1 − theirs, here decay_start=0.99, decay_end=0.99999.

The effect of a schedule depends on the number of steps: with these values the teacher still has 19 % of the starting
model after 330 steps and 91 % after 20, nearly a frozen teacher. `start_share` sets that share instead.

That share is Π α over the updates with a student that has moved. The update of step s uses the student at the beginning
of the step, after s − 1 updates of the student: in step 1 that is the starting model, and in step 2 too if the learning
rate of step 1 was 0, as with a warm-up. Such updates change nothing and are not counted; with an `update_interval` of 2
or more the student has moved before the first update.

Deliberately absent: the average itself (co_rewarding.algo.ema).
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DecaySchedule:
    """α for each step of a run (Eq. 11).

    Raises:
        ValueError: a value is out of range.
    """

    total_steps: int  # K, >= 1
    decay_start: float = 0.99  # 0–1, α of the first step
    decay_end: float = 0.9999  # 0–1, α towards the end; equal to decay_start for a constant
    update_interval: int = 1  # >= 1, steps between updates
    start_share: float | None = None  # 0–1 exclusive: share of the starting model at the end; see decay
    unmoved_steps: int = 1  # >= 1, first steps whose student is the starting model: 2 if the first learning rate is 0

    def __post_init__(self) -> None:
        for key in ("total_steps", "update_interval", "unmoved_steps"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}: must be a whole number from 1")
        for key in ("decay_start", "decay_end"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ValueError(f"{key}={getattr(self, key)}: must be a number from 0 to 1")
        if self.start_share is None:
            return
        if not 0.0 < self.start_share < 1.0:
            raise ValueError(f"start_share={self.start_share}: must be a number between 0 and 1, both excluded")
        if not (0.0 < self.decay_start < 1.0 and 0.0 < self.decay_end < 1.0):
            raise ValueError(
                f"start_share={self.start_share}: needs decay_start={self.decay_start} and decay_end={self.decay_end} "
                "between 0 and 1, both excluded; they define the schedule's shape"
            )
        if not self._moving_updates:
            raise ValueError(
                f"start_share={self.start_share}: update_interval={self.update_interval} leaves no update in "
                f"{self.total_steps} steps after the student has moved; leave start_share out, or train longer"
            )

    def decay(self, step: int) -> float:
        """α of step `step` = k + 1, from 1 to K; 1.0 (the teacher does not move) in a step without an update.

        With `start_share` every α of the cosine is raised to the same power, chosen so that the product of the counted
        ones is that share; the schedule keeps its shape.

        Raises:
            ValueError: the step is outside 1 to K.
        """
        if not 1 <= step <= self.total_steps:
            raise ValueError(f"step {step} is outside the schedule's 1 to {self.total_steps}")
        return 1.0 if step % self.update_interval else self._cosine(step) ** self._power

    @property
    def share_of_start(self) -> float:
        """Share of the starting model in the teacher after the last step, from 0 to 1."""
        return math.prod(self.decay(step) for step in self._moving_updates)

    @property
    def _moving_updates(self) -> list[int]:
        """The steps that update the teacher with a student that has moved."""
        updates = range(self.update_interval, self.total_steps + 1, self.update_interval)
        return [step for step in updates if step > self.unmoved_steps]

    def _cosine(self, step: int) -> float:
        span = self.decay_end - self.decay_start
        return self.decay_end - span / 2 * (1 + math.cos(math.pi * (step - 1) / self.total_steps))

    @property
    def _power(self) -> float:
        if self.start_share is None:
            return 1.0
        return math.log(self.start_share) / sum(math.log(self._cosine(step)) for step in self._moving_updates)
