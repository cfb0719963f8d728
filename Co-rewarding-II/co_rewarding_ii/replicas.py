# SPDX-License-Identifier: Apache-2.0
"""Which vLLM replicas serve the teacher while the others serve the student.

    R replicas, G rollouts of a prompt by the student, G̃ by the teacher
    teacher's replicas = R · G̃ / (G + G̃), to the nearest whole number (a half up), from 1 to R − 1

Both answer the same number of prompts (II: each question; III: both views, or one each), so this is the teacher's share
of the work. The student has the first replicas, the teacher the others. With one replica the teacher rolls out after
the student.
"""

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from co_rewarding.training.preflight.machine import world_size
from co_rewarding.training.router import CONFIGURATION as PLAIN
from co_rewarding_ii.router import CONFIGURATION, among
from co_rewarding_ii.settings import AFTER, AUTO, BESIDE, TeacherSettings

ROLLOUT = "actor_rollout_ref.rollout"
SIZES = ("tensor_model_parallel_size", "data_parallel_size", "pipeline_model_parallel_size")  # product: GPUs


@dataclass(frozen=True)
class Replicas:
    """The replicas of a step, student's first."""

    students: int  # >= 1
    teachers: int  # >= 1

    @classmethod
    def shared(cls, count: int, student_rollouts: int, teacher_rollouts: int) -> "Replicas":
        """`count` >= 2 replicas, split by the number of rollouts of a prompt (>= 1 each)."""
        rollouts = student_rollouts + teacher_rollouts
        nearest = (2 * count * teacher_rollouts + rollouts) // (2 * rollouts)
        teachers = min(max(nearest, 1), count - 1)
        return cls(count - teachers, teachers)

    @property
    def of_student(self) -> dict[str, object]:
        """Sampling parameters of a request to the student."""
        return among(0, self.students)

    @property
    def of_teacher(self) -> dict[str, object]:
        return among(self.students, self.students + self.teachers)


def replicas_of(config: DictConfig) -> Replicas | None:
    """The replicas of student and teacher; None if the teacher rolls out after the student, on all of them.

    Raises:
        ValueError: it must roll out beside the student, and cannot.
    """
    settings, rollout = TeacherSettings.read(config), config.actor_rollout_ref.rollout
    count = world_size(config) // math.prod(rollout[name] for name in SIZES)
    if settings.rollout == AFTER:
        return None
    if (obstacle := _obstacle(config, count)) is None:
        return Replicas.shared(count, rollout.n, settings.n)
    if settings.rollout == BESIDE:
        raise ValueError(f"{settings.NAME}.rollout={BESIDE}: {obstacle}; leave it {AUTO}, or set it to {AFTER}")
    return None


def _obstacle(config: DictConfig, count: int) -> str | None:
    rollout = config.actor_rollout_ref.rollout
    if count < 2:
        return (
            f"needs at least two vLLM replicas, but there is one (trainer.n_gpus_per_node="
            f"{config.trainer.n_gpus_per_node}, {ROLLOUT}.tensor_model_parallel_size="
            f"{rollout.tensor_model_parallel_size})"
        )
    if rollout.disaggregation.enabled:
        return f"{ROLLOUT}.disaggregation.enabled=True builds a replica from several engines"
    if rollout.full_determinism:
        return f"{ROLLOUT}.full_determinism=True makes verl's own router choose the replicas"
    if rollout.router_config_path not in (None, str(PLAIN), str(CONFIGURATION)):
        return f"{ROLLOUT}.router_config_path={rollout.router_config_path} has no rule for the teacher's replicas"
    return None
