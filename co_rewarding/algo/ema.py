# SPDX-License-Identifier: Apache-2.0
"""The slow teacher: an exponential moving average of the student's weights (arXiv 2508.00410, Eq. 9).

    teacher ← α · teacher + (1 − α) · student                                    (Eq. 9; α: algo.ema_schedule)

The average is kept in twice the precision of float32, as the unevaluated sum high + low of two float32 numbers, because
one float32 is not enough: at α = 0.9999 and a student that moved by 1e-6, an update is 1e-10, far below the spacing of
float32 numbers near a weight of 0.02 (1.9e-9), so it would be rounded away, step after step. tests/algo/test_ema.py has
the figures. `high` is the parameter that serves (reference log-probabilities, rollouts) if that is a float32 one, so
the price is one float32 more a weight: 4 bytes, sharded like the weight. A bfloat16 parameter holds too few digits to
be `high`; then both are kept beside it, 8 bytes.

The least an update can move is 20 bytes a weight: student, high and low are read, high and low written. It moves no
more, because one slice after another goes through all of

    d = student − (high + low)      exact = (high + low) + (1 − α) d      high = float32(exact)      low = exact − high

in float64, in two buffers of a slice: on a CPU they stay in its cache, to an accelerator the slice is copied and back.
Nothing as large as a parameter is allocated. Their distance afterwards is α ‖d‖, without another pass.

float64 has 53 binary digits, more than the 48 of a pair, so it does not matter which of high and low is larger. Pairs
of float32 numbers would need no fewer steps: with a plain float32 d (seven steps) every update is off by up to 1e-7 of
itself, and recovering those digits takes more steps than float64.

Where the student is an adapter W + s · B A (LoRA), its factors are averaged, each as above, and the teacher's product
is that of the averages b, a, not the average of the products. With w_i what is left of the i-th student (0 is the
start, Σ w_i = 1) they differ by

    Σ w_i B_i A_i − b a = Σ w_i (B_i − b)(A_i − a)        b = Σ w_i B_i, a = Σ w_i A_i

the squared movement of the factors within the teacher's memory: almost nothing for a slow student. The average of
products would need full size, since it has no rank r. benchmarks/ema_of_factors.py measures it along a run.

Works on the local shards of FSDP2's DTensors: elementwise, so there is nothing to gather. Teacher and student may lie
on different devices (verl keeps the reference in host memory).

Degenerate cases: α = 1 changes no bit, α = 0 gives the student exactly. An infinite or undefined student weight makes
the teacher's weight, and the distance, permanently undefined. float32 ends at 2^-149: `low` holds all its digits for
weights above 1e-31.

Deliberately absent: buffers (they do not learn), and who calls it when (Co-rewarding-II).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

# weights in a slice: 28 bytes of each are worked on
SLICE_ON_CPU = 1 << 16  # for each thread: 1.8 MB, cache rather than memory
SLICE_ON_ACCELERATOR = 1 << 22  # 16 MiB a copy, so that transfer and not start-up dominates


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
        teacher: the serving parameters by name, floating point, contiguous, plain or DTensor; their values start the
        average and follow it from now on, in place. Tied weights appear once, as in `named_parameters`. device: where
        to compute, independent of where teacher and student are; None: the machine's accelerator if torch finds one,
        else the CPU.

    Raises:
        ValueError: a parameter is not contiguous.
    """

    def __init__(self, teacher: Mapping[str, torch.Tensor], device: torch.device | str | None = None):
        self._teacher = dict(teacher)
        self._device = _device_of_arithmetic(device)
        for name, parameter in self._teacher.items():
            _check_contiguous(name, parameter, "the teacher")
        self._finish_copies()
        with torch.no_grad():
            self._high_beside = {
                name: self._zeros_beside(parameter).copy_(local_shard(parameter))
                for name, parameter in self._teacher.items()
                if parameter.dtype != torch.float32
            }
            self._low = {name: self._zeros_beside(parameter) for name, parameter in self._teacher.items()}

    @torch.no_grad()
    def update(self, student: Mapping[str, torch.Tensor], decay: float) -> Distance:
        """teacher ← decay · teacher + (1 − decay) · student; 1.0 changes nothing.

        Args:
            student: parameters of the same names, shapes and shards, contiguous, on any device.
            decay: α, from 0 to 1.

        Returns:
            their distance afterwards.

        Raises:
            ValueError: a parameter is missing, extra, not contiguous, or has another shape or layout; nothing was
            changed.
        """
        self._check(student)
        self._finish_copies()
        bench = _Workbench(self._device, _slice_size(self._device))
        for name, parameter in self._teacher.items():
            tensors = [local_shard(student[name]), self._high(name), self._low[name]]
            if name in self._high_beside:
                tensors.append(local_shard(parameter))
            for slices in zip(*(tensor.view(-1).split(bench.size) for tensor in tensors), strict=True):
                bench.average(*slices, decay=decay)
        distance = Distance(decay**2 * float(bench.difference), float(bench.student))
        self._finish_copies()
        return distance

    def state_dict(self) -> dict[str, dict[str, torch.Tensor]]:
        """The part of the average not in the serving parameters, as local shards by name (not copied).

        "low" of every parameter, "high" of those that do not serve in float32.
        """
        return {"low": dict(self._low), "high": dict(self._high_beside)}

    @torch.no_grad()
    def load_state_dict(
        self, state: Mapping[str, Mapping[str, torch.Tensor]], serving: Mapping[str, torch.Tensor]
    ) -> None:
        """Resume from a saved average, bit for bit.

        Args:
            state: its `state_dict`.
            serving: its serving parameters, plain or DTensor; names other than the teacher's are ignored (a module's
                `state_dict` has buffers, and tied weights twice).

        Raises:
            ValueError: names or shapes differ; nothing was changed.
        """
        saved = {name: local_shard(serving[name]) for name in self._teacher if name in serving} | dict(state["high"])
        _check_same({name: self._high(name) for name in self._teacher}, saved, "the saved teacher")
        _check_same(self._low, state["low"], "the saved teacher's remainder")
        self._finish_copies()
        for name, parameter in self._teacher.items():
            self._high(name).copy_(saved[name])
            self._low[name].copy_(state["low"][name])
            if name in self._high_beside:
                local_shard(parameter).copy_(self._high(name))

    def _high(self, name: str) -> torch.Tensor:
        # read each time: FSDP2 may give the parameter another storage
        return self._high_beside[name] if name in self._high_beside else local_shard(self._teacher[name])

    def _zeros_beside(self, parameter: torch.Tensor) -> torch.Tensor:
        shard = local_shard(parameter)
        return torch.zeros(
            shard.shape, dtype=torch.float32, device=shard.device, pin_memory=_to_pin(shard.device, self._device)
        )

    def _finish_copies(self) -> None:
        """Wait until the accelerator has finished all queued work.

        Copies to and from pinned host memory return at once and are ordered only within a stream. Before an update:
        verl moves the student with such copies, and FSDP2 reads the teacher on its own streams. After it: the next
        reader is torch.save, on the host, or FSDP2 again. No waiting is needed in between: an update is one stream, so
        a slice arrives before the arithmetic and its buffer is free before the next slice.
        """
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    def _check(self, student: Mapping[str, torch.Tensor]) -> None:
        _check_same(self._teacher, student, "the student")
        for name, parameter in self._teacher.items():
            ours, theirs = local_shard(parameter), local_shard(student[name])
            if ours.shape != theirs.shape or _layout(parameter) != _layout(student[name]):
                raise ValueError(
                    f"parameter {name}: the teacher's shard {tuple(ours.shape)} {_layout(parameter)} is not the "
                    f"student's {tuple(theirs.shape)} {_layout(student[name])}; give both the same fsdp_config"
                )
            _check_contiguous(name, student[name], "the student")


class _Workbench:
    """Buffers of one slice on the computing device, and the norms so far."""

    def __init__(self, device: torch.device, size: int):
        self.size = size
        self._device = device
        self._async = device.type != "cpu"  # the CPU would not wait before it reads
        self._exact, self._other = (torch.empty(size, dtype=torch.float64, device=device) for _ in range(2))
        self._copies: dict[str, torch.Tensor] = {}  # for slices on other devices
        self.difference, self.student = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(2))

    def average(
        self,
        student: torch.Tensor,
        high: torch.Tensor,
        low: torch.Tensor,
        served: torch.Tensor | None = None,
        *,
        decay: float,
    ) -> None:
        """One slice of each, flat: `high` and `low` (and `served`, rounded from `high`) are changed in place.

        `difference` grows by ‖student − teacher‖² before the update, `student` by ‖student‖².
        """
        student_here, high_here, low_here = (
            self._fetch(name, part) for name, part in (("student", student), ("high", high), ("low", low))
        )
        exact, other = self._exact[: high.numel()], self._other[: high.numel()]
        exact.copy_(high_here)
        exact.add_(other.copy_(low_here))
        other.copy_(student_here)
        self.student.add_(other.dot(other))
        other.sub_(exact)
        self.difference.add_(other.dot(other))
        if decay == 1.0:
            return
        if decay < 0.5:  # from the nearer end, so that 0 gives the student to the last bit
            exact.copy_(student_here).sub_(other, alpha=decay)
        else:
            exact.add_(other, alpha=1.0 - decay)
        high_here.copy_(exact)
        low_here.copy_(exact.sub_(other.copy_(high_here)))  # exact - high is exact in float64
        for part, here in ((high, high_here), (low, low_here), (served, high_here)):
            if part is not None and part is not here:
                part.copy_(here, non_blocking=self._async)

    def _fetch(self, name: str, part: torch.Tensor) -> torch.Tensor:
        """The slice itself if it is on this device, else a copy, which the next slice of that name overwrites."""
        if _lies_on(self._exact.device, part):  # the buffer's: "cuda" has an index by now
            return part
        if name not in self._copies:
            self._copies[name] = torch.empty(self.size, dtype=torch.float32, device=self._device)
        return self._copies[name][: part.numel()].copy_(part, non_blocking=self._async)


def _device_of_arithmetic(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return torch.device(device)


def _slice_size(device: torch.device) -> int:
    return SLICE_ON_CPU * torch.get_num_threads() if device.type == "cpu" else SLICE_ON_ACCELERATOR


def _lies_on(device: torch.device, tensor: torch.Tensor) -> bool:
    return tensor.device == device


def _to_pin(place: torch.device, device: torch.device) -> bool:
    """Whether memory at `place` should be pinned, which makes copies to an accelerator several times faster."""
    return place.type == "cpu" and device.type != "cpu"


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part, sharing the tensor's memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _layout(tensor: torch.Tensor) -> tuple:
    return tuple(tensor.placements) if isinstance(tensor, DTensor) else ()


def _check_contiguous(name: str, tensor: torch.Tensor, who: str) -> None:
    if not local_shard(tensor).is_contiguous():
        raise ValueError(f"parameter {name}: {who} does not have it contiguous; call .contiguous()")


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
