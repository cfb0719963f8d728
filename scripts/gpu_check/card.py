# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a call on the card; in a rehearsal its time on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GIB = 2**30


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(call: Callable[[], object], repeats: int = 3) -> float:
    """Median seconds of a call after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        synchronise()
        started = time.perf_counter()
        call()
        synchronise()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def peak_of(call: Callable[[], object]) -> str:
    """ ", N GiB more at its peak": additional card memory of a call; "" on a CPU."""
    if DEVICE == "cpu":
        return ""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    synchronise()
    return f", {(torch.cuda.max_memory_allocated() - before) / GIB:.2f} GiB more at its peak"
