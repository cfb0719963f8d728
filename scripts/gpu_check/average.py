# SPDX-License-Identifier: Apache-2.0
"""The teacher's average, for each place where teacher and student may lie, against what copying the same bytes takes.

An update reads the student, and reads and writes both halves of the teacher, in float32: 20 bytes a weight. Checked is
the teacher that serves, against float64.
"""

from __future__ import annotations

import torch
from card import DEVICE, peak_of, seconds_of
from rows import Rows

from co_rewarding.algo.ema import TeacherAverage

BYTES_A_WEIGHT = 20
DECAY = 0.999
LIMIT = 2.0**-23  # of a weight: float32's spacing is at most that, and a rounded number is off by half of it


def shapes() -> list[tuple[int, int]]:
    """Of the weights of Qwen3-0.6B: 0.6 billion, the embedding being a quarter of them; of a rehearsal, few."""
    width, intermediate, layers, vocabulary = (1024, 3072, 28, 151_936) if DEVICE == "cuda" else (64, 128, 2, 1000)
    layer = [(2 * width, width), (width, width), (width, width), (width, 2 * width)]
    return [(vocabulary, width)] + layers * [*layer, *2 * [(intermediate, width)], (width, intermediate)]


def measure(rows: Rows) -> None:
    sizes = shapes()
    if DEVICE == "cpu":
        _measure(rows, "both on the host", sizes, "cpu", "cpu")
        return
    _measure(rows, "both on the card", sizes, "cuda", "cuda")
    _measure(rows, "student on the card, teacher in pinned host memory", sizes, "cuda", "pinned")
    _measure(rows, "both in pinned host memory", sizes, "pinned", "pinned")


def _measure(rows: Rows, name: str, sizes: list[tuple[int, int]], student_at: str, teacher_at: str) -> None:
    generator = torch.Generator(device="cpu").manual_seed(0)
    start = [0.02 * torch.randn(min(a * b, 4096), generator=generator) for a, b in sizes]

    def model(place: str, change: float) -> dict[str, torch.Tensor]:
        """Weights of which the first few thousand of each parameter are different numbers."""
        parameters = {}
        for i, (size, values) in enumerate(zip(sizes, start, strict=True)):
            parameter = torch.zeros(size, device="cuda" if place == "cuda" else "cpu", pin_memory=place == "pinned")
            parameter.view(-1)[: len(values)] = (values + change).to(parameter.device)
            parameters[f"{i}"] = parameter
        return parameters

    student, teacher = model(student_at, change=1e-4), model(teacher_at, change=0.0)
    num_weights = sum(a * b for a, b in sizes)
    average = TeacherAverage(teacher)
    average.update(student, DECAY)
    error = 0.0
    for served, values in zip(teacher.values(), start, strict=True):
        exact = DECAY * values.double() + (1 - DECAY) * (values + 1e-4).double()
        error = max(error, float(((served.view(-1)[: len(values)].cpu() - exact) / exact).abs().max()))
    rows.check(
        f"teacher's average against float64, {name}",
        error <= LIMIT,
        f"serving weights are off by at most {error:.1e} of themselves (limit {LIMIT:.1e})",
    )
    seconds = seconds_of(lambda: average.update(student, DECAY), repeats=2)
    rate = BYTES_A_WEIGHT * num_weights / seconds / 1e9
    times = seconds / _least_seconds(student_at, teacher_at, num_weights)
    memory = peak_of(lambda: average.update(student, DECAY))
    rows.measured(
        f"teacher's average, {name}",
        f"{seconds:.3f} s for {num_weights / 1e9:.2g} billion weights: {rate:.3g} GB/s of {BYTES_A_WEIGHT} bytes a "
        f"weight, {times:.1f} times what copying them takes; {memory} beside the models",
    )


def _least_seconds(student_at: str, teacher_at: str, num_weights: int) -> float:
    """Of moving the bytes of one update at the measured speed of copies.

    In one memory: 20 bytes a weight. Over the bus: 4 bytes up for the student, if it lies on the host, and 8 up and 8
    down for the teacher, one way after the other.
    """
    if student_at == teacher_at and student_at in ("cuda", "cpu"):
        return BYTES_A_WEIGHT * num_weights / (2 * _copy_bytes_a_second(student_at, student_at))
    up, down = _copy_bytes_a_second("pinned", "cuda"), _copy_bytes_a_second("cuda", "pinned")
    return num_weights * ((8 + (4 if student_at == "pinned" else 0)) / up + 8 / down)


def _copy_bytes_a_second(source_at: str, target_at: str) -> float:
    """Bytes copied, each of which is read and written."""
    size = 2**28 if DEVICE == "cuda" else 2**22

    def memory(place: str) -> torch.Tensor:
        return torch.zeros(size, device="cuda" if place == "cuda" else "cpu", pin_memory=place == "pinned")

    source, target = memory(source_at), memory(target_at)
    return 4 * size / seconds_of(lambda: target.copy_(source, non_blocking=True))
