# SPDX-License-Identifier: Apache-2.0
"""The teacher's average, for each placement of student and teacher.

Checks the serving teacher against float64; measures, by benchmarks/teacher_average.py, the time of an update against
that of its unavoidable copies.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from card import DEVICE
from rows import Rows

from co_rewarding.algo import ema

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/teacher_average.py"
WEIGHTS = 2**29 if DEVICE == "cuda" else 2**20
TURNS = 3
DECAY = 0.999
LIMIT = 2.0**-23  # of a weight: float32's spacing is at most that, and a rounded number is off by half of it


def measure(rows: Rows) -> None:
    card, host = torch.device(DEVICE, 0) if DEVICE == "cuda" else torch.device("cpu"), torch.device("cpu")
    places = {"both on the host": (host, host)}
    if DEVICE == "cuda":
        places = {
            "both on the card": (card, card),
            "student on the card, teacher on the host": (card, host),
            "both on the host": (host, host),
        }
    benchmark = _benchmark()
    for name, (student, teacher) in places.items():
        with rows.section(f"teacher's average, {name}"):
            _check(rows, name, student, teacher)
            _measure(rows, name, benchmark, student, teacher, card)


def _check(rows: Rows, name: str, student_at: torch.device, teacher_at: torch.device) -> None:
    """Parameters larger than a slice, equal and smaller; two updates, the second with a remainder."""
    torch.manual_seed(0)
    in_a_slice = ema.SLICE_ON_ACCELERATOR if DEVICE == "cuda" else ema.SLICE_ON_CPU * torch.get_num_threads()
    sizes = [3 * in_a_slice // 2, in_a_slice, 1000]
    start = [0.02 * torch.randn(size) for size in sizes]
    students = [[values + change for values in start] for change in (1e-4, 2e-4)]
    exact = [values.double() for values in start]
    served = {f"{i}": _at(values.clone(), teacher_at) for i, values in enumerate(start)}
    average = ema.TeacherAverage(served)
    for values in students:
        average.update({f"{i}": _at(value, student_at) for i, value in enumerate(values)}, DECAY)
        exact = [DECAY * old + (1 - DECAY) * new.double() for old, new in zip(exact, values, strict=True)]
    error = max(
        float(((found.cpu() - expected) / expected).abs().max())
        for found, expected in zip(served.values(), exact, strict=True)
    )
    rows.check(
        f"teacher's average against float64, {name}",
        error <= LIMIT,
        f"serving weights are off by at most {error:.1e} of themselves (limit {LIMIT:.1e})",
    )


def _measure(
    rows: Rows, name: str, benchmark: ModuleType, student: torch.device, teacher: torch.device, work: torch.device
) -> None:
    case, copies = benchmark.Case(name, WEIGHTS, student, teacher, work, ema), benchmark.Copies(work, WEIGHTS // 4)
    for _ in range(TURNS + 1):
        copies.turn()
        case.turn()
    a_weight, least = sorted(case.times[1:])[TURNS // 2], copies.least(case)
    rows.measured(
        f"teacher's average, {name}",
        f"{a_weight * 1e9:.2f} s a billion weights, {benchmark.BYTES / a_weight / 1e9:.3g} GB/s of {benchmark.BYTES} "
        f"bytes a weight, {a_weight / least:.1f} times what the copies alone take ({copies})",
    )


def _at(values: torch.Tensor, place: torch.device) -> torch.Tensor:
    """On the card, or in host memory as in verl: pinned, if there is a card."""
    if place.type == "cpu":
        return values.pin_memory() if DEVICE == "cuda" else values
    return values.to(place)


def _benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("teacher_average", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
