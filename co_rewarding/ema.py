# SPDX-License-Identifier: Apache-2.0
"""The slow teacher: an exponential moving average of the student's weights (arXiv 2508.00410, Eq. 9-11).

    teacher ← α_k · teacher + (1 − α_k) · student                                            (Eq. 9)
    α_k = α_end − (α_end − α_start)/2 · (1 + cos(π k / K)),   k = 0 … K − 1 the steps of a run   (Eq. 11)

α goes from α_start in the first step (k = 0) towards α_end (k = K, the end), as the paper's text and Table 5 say; Eq.
11 as printed gives 0.9901 → 1.0 for their values. The published script's `sliding_average.alpha_start=0.01,
alpha_end=1e-5` are weights of the *new* policy: decay = 1 − theirs, here decay_start=0.99, decay_end=0.99999.

The average is kept in twice the precision of float32, as the unevaluated sum high + low of two float32 numbers, because
one float32 is not enough: at α = 0.9999 and a student that moved by 1e-6, an update is 1e-10, far below the spacing of
float32 numbers near a weight of 0.02 (1.9e-9), so it would be rounded away, step after step. tests/test_ema.py has the
figures. `high` is the parameter that serves (reference log-probabilities, rollouts) if that is a float32 one, so the
price is one float32 more a weight: 4 bytes, sharded like the weight. A bfloat16 parameter holds too few digits to be
`high`; then both are kept beside it, 8 bytes.

Works on the local shards of FSDP2's DTensors: elementwise, so there is nothing to gather. Teacher and student may lie
on different devices (verl keeps the reference in host memory): the arithmetic is done on the student's.

Deliberately absent: buffers (they do not learn), and who calls it when (Co-rewarding-II).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

CHUNK_BYTES = 1 << 28  # of float64 working copies at a time


@dataclass(frozen=True)
class DecaySchedule:
    """α for each step of a run (Eq. 11).

    Raises:
        ValueError: a value out of its range.
    """

    total_steps: int  # K, >= 1
    decay_start: float = 0.99  # 0–1, α of the first step
    decay_end: float = 0.9999  # 0–1, α towards the end; equal to decay_start for a constant
    update_interval: int = 1  # >= 1, steps between updates
    start_share: float | None = None  # 0–1 exclusive: what is to be left of the starting model; see decay

    def __post_init__(self) -> None:
        for key in ("total_steps", "update_interval"):
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
                "between 0 and 1, both excluded; they give the schedule its shape"
            )
        if self.update_interval > self.total_steps:
            raise ValueError(
                f"start_share={self.start_share}: update_interval={self.update_interval} leaves no update in "
                f"{self.total_steps} steps"
            )

    def decay(self, step: int) -> float:
        """α of step `step` = k + 1, from 1 to K; 1.0 (the teacher stands still) in a step without an update.

        With `start_share` every α of the cosine is raised to the same power, the one that makes their product that
        share; the shape of the schedule stays.

        Raises:
            ValueError: a step outside 1 to K.
        """
        if not 1 <= step <= self.total_steps:
            raise ValueError(f"step {step} is outside the schedule's 1 to {self.total_steps}")
        return 1.0 if step % self.update_interval else self._cosine(step) ** self._power

    @property
    def share_of_start(self) -> float:
        """Π α_k: how much of the starting model is in the teacher after the last step, from 0 to 1.

        The first step's update changes nothing (the student still is the starting model) and is counted all the same.
        """
        return math.prod(self.decay(step) for step in range(1, self.total_steps + 1))

    def _cosine(self, step: int) -> float:
        span = self.decay_end - self.decay_start
        return self.decay_end - span / 2 * (1 + math.cos(math.pi * (step - 1) / self.total_steps))

    @property
    def _power(self) -> float:
        if self.start_share is None:
            return 1.0
        updates = range(self.update_interval, self.total_steps + 1, self.update_interval)
        return math.log(self.start_share) / sum(math.log(self._cosine(step)) for step in updates)


@dataclass(frozen=True)
class Distance:
    """Squared L2 norms over one process's shards; they add up over processes that hold different shards."""

    difference: float  # ‖student − teacher‖²
    student: float  # ‖student‖²

    @staticmethod
    def relative(parts: Iterable[Distance]) -> float:
        """‖student − teacher‖ / ‖student‖ over all shards; 0.0 for a student that is all zeros and its own teacher."""
        parts = list(parts)
        difference, student = sum(part.difference for part in parts), sum(part.student for part in parts)
        return math.sqrt(difference / student) if student else math.inf if difference else 0.0


class TeacherAverage:
    """The moving average behind a teacher's parameters, in twice float32's precision.

    Args:
        teacher: the serving parameters by name, floating point, plain or DTensor; their values are the average's
            starting values and follow it from now on, in place. Tied weights come once, as `named_parameters` has them.
    """

    def __init__(self, teacher: Mapping[str, torch.Tensor]):
        self._teacher = dict(teacher)
        with torch.no_grad():
            self._high = {
                name: _shard(parameter) if parameter.dtype == torch.float32 else _shard(parameter).float()
                for name, parameter in self._teacher.items()
            }
            self._low = {name: torch.zeros_like(high) for name, high in self._high.items()}

    @torch.no_grad()
    def update(self, student: Mapping[str, torch.Tensor], decay: float) -> Distance:
        """teacher ← decay · teacher + (1 − decay) · student; 1.0 changes nothing.

        Args:
            student: parameters of the same names, shapes and shards, on any device.
            decay: α, from 0 to 1.

        Returns:
            how far apart the two are afterwards.

        Raises:
            ValueError: a parameter is missing, is one too many, or has another shape or layout; nothing was changed.
        """
        self._check(student)
        difference = norm = 0.0
        for names in self._chunks():
            student_shards = [_shard(student[name]) for name in names]
            devices = [shard.device for shard in student_shards]
            # float64 has 53 binary digits, more than the 48 of a pair: a chunk's exact value fits
            student64 = [shard.double() for shard in student_shards]
            exact = [self._high[name].to(device).double() for name, device in zip(names, devices, strict=True)]
            torch._foreach_add_(exact, [self._low[name].to(d).double() for name, d in zip(names, devices, strict=True)])
            if decay < 1.0:
                torch._foreach_lerp_(exact, student64, 1.0 - decay)
                for name, value in zip(names, exact, strict=True):
                    self._store(name, value)
            norm += sum(float(value) ** 2 for value in torch._foreach_norm(student64))
            torch._foreach_sub_(student64, exact)
            difference += sum(float(value) ** 2 for value in torch._foreach_norm(student64))
        return Distance(difference, norm)

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        """What the serving parameters do not hold of the average, as local shards by name (not copied).

        "low" of every parameter, "high" of those that do not serve in float32.
        """
        served = {name for name, parameter in self._teacher.items() if parameter.dtype == torch.float32}
        return {"low": dict(self._low), "high": {name: t for name, t in self._high.items() if name not in served}}

    @torch.no_grad()
    def load_state_dict(
        self, state: Mapping[str, Mapping[str, torch.Tensor]], serving: Mapping[str, torch.Tensor]
    ) -> None:
        """Go on exactly where another average was.

        Args:
            state: what its `state_dict` returned.
            serving: its serving parameters, plain or DTensor; names beside the teacher's are ignored (a module's
                `state_dict` has buffers, and tied weights twice).

        Raises:
            ValueError: names or shapes differ; nothing was changed.
        """
        saved = {name: _shard(serving[name]) for name in self._teacher if name in serving} | dict(state["high"])
        _check_same(self._high, saved, "the saved teacher")
        _check_same(self._low, state["low"], "the saved teacher's remainder")
        for name, parameter in self._teacher.items():
            self._high[name].copy_(saved[name])
            self._low[name].copy_(state["low"][name])
            if parameter.dtype != torch.float32:
                _shard(parameter).copy_(self._high[name])

    def _store(self, name: str, exact: torch.Tensor) -> None:
        high = exact.float()
        self._low[name].copy_(exact - high)  # exact - high is computed in float64 and is exact
        self._high[name].copy_(high)
        if self._teacher[name].dtype != torch.float32:
            _shard(self._teacher[name]).copy_(high)

    def _check(self, student: Mapping[str, torch.Tensor]) -> None:
        _check_same(self._teacher, student, "the student")
        for name, parameter in self._teacher.items():
            ours, theirs = _shard(parameter), _shard(student[name])
            if ours.shape != theirs.shape or _layout(parameter) != _layout(student[name]):
                raise ValueError(
                    f"parameter {name}: the teacher's shard {tuple(ours.shape)} {_layout(parameter)} is not the "
                    f"student's {tuple(theirs.shape)} {_layout(student[name])}; give both the same fsdp_config"
                )

    def _chunks(self) -> Iterator[list[str]]:
        """Names in groups whose float64 working copies fit CHUNK_BYTES (a larger parameter is a group of its own)."""
        names: list[str] = []
        size = 0
        for name, high in self._high.items():
            if names and size + 8 * high.numel() > CHUNK_BYTES:
                yield names
                names, size = [], 0
            names.append(name)
            size += 8 * high.numel()
        if names:
            yield names


def _shard(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part, sharing the tensor's memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _layout(tensor: torch.Tensor) -> tuple:
    return tuple(tensor.placements) if isinstance(tensor, DTensor) else ()


def _check_same(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], who: str) -> None:
    if ours.keys() != theirs.keys():
        missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
        raise ValueError(
            f"parameters of the teacher and of {who} differ: {len(missing)} missing {missing[:3]}, {len(extra)} too "
            f"many {extra[:3]}"
        )
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            raise ValueError(
                f"parameter {name}: {who} has shape {tuple(theirs[name].shape)}, the teacher {tuple(tensor.shape)}"
            )
