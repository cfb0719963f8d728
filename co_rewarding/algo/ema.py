# SPDX-License-Identifier: Apache-2.0
"""The slow teacher: an exponential moving average of the student's weights (arXiv 2508.00410, Eq. 9).

    teacher ← α · teacher + (1 − α) · student                                    (Eq. 9; α: algo.ema_schedule)

The average is kept in twice the precision of float32, as the unevaluated sum high + low of two float32 numbers, because
one float32 is not enough: at α = 0.9999 and a student that moved by 1e-6, an update is 1e-10, far below the spacing of
float32 numbers near a weight of 0.02 (1.9e-9), so it would be rounded away, step after step. tests/algo/test_ema.py has
the figures. `high` is the parameter that serves (reference log-probabilities, rollouts) if that is a float32 one, so
the price is one float32 more a weight: 4 bytes, sharded like the weight. A bfloat16 parameter holds too few digits to
be `high`; then both are kept beside it, 8 bytes.

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
        """Resume from a saved average, to the last bit.

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
