#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time of an update of the teacher's average, against the least time that its copies take on this machine.

The least is to read student, high and low and to write high and low: 20 bytes a weight, at the rate of a plain copy
measured in the same turns. That is a copy in memory, or over the bus for what lies in the host's memory while an
accelerator does the arithmetic (high and low there and back, and the student there if it is not on the card).

With --before another version of co_rewarding/algo/ema.py runs in the same turns:

    git show COMMIT:co_rewarding/algo/ema.py > ../before.py
    python benchmarks/teacher_average.py --before ../before.py
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType

import torch

from co_rewarding.algo import ema

BYTES = 20  # least a weight
DECAY = 0.9999


def version(path: Path) -> ModuleType:
    """Another version of the module, beside this one."""
    spec = importlib.util.spec_from_file_location(f"ema_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def seconds(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def model(weights: int, device: torch.device, pinned: bool) -> dict[str, torch.Tensor]:
    """A quarter in one embedding, the rest in 24 matrices, each with a vector of 2,048 beside it."""
    sizes = [weights // 4, *[weights // 32] * 24]
    tensors = [torch.empty(size, device=device, pin_memory=pinned) for size in sizes]
    tensors += [torch.empty(2048, device=device, pin_memory=pinned) for _ in sizes]
    return {f"w{i}": tensor.normal_(std=0.02) for i, tensor in enumerate(tensors)}


class Case:
    """An update of models at two places, by one version, and its unavoidable copies."""

    def __init__(
        self,
        name: str,
        weights: int,
        student: torch.device,
        teacher: torch.device,
        work: torch.device,
        module: ModuleType,
    ):
        self.name, self.work = name, work
        parts = [model(weights, place, place.type == "cpu" and work.type != "cpu") for place in (student, teacher)]
        self.student, serving = parts
        self.weights = sum(tensor.numel() for tensor in serving.values())
        self.average = module.TeacherAverage(serving)
        # bytes a weight from host to device, back, and within one memory
        self.up = 4 * (student != work) + 8 * (teacher != work)
        self.down = 8 * (teacher != work)
        self.within = 0 if self.up else BYTES
        self.times: list[float] = []

    def turn(self) -> None:
        self.times.append(seconds(lambda: self.average.update(self.student, DECAY), self.work) / self.weights)


class Copies:
    """Bytes a second of plain copies: within the memory of a device (read and written), and over the bus."""

    def __init__(self, device: torch.device, numel: int):
        self._device = device
        self._here, self._there = (torch.ones(numel, device=device) for _ in range(2))
        self._host = torch.ones(numel, pin_memory=True) if device.type != "cpu" else None
        self._within: list[float] = []
        self._up: list[float] = []
        self._down: list[float] = []

    def turn(self) -> None:
        size = 4 * self._here.numel()
        self._within.append(2 * size / seconds(lambda: self._there.copy_(self._here), self._device))
        if self._host is not None:
            self._up.append(size / seconds(lambda: self._here.copy_(self._host, non_blocking=True), self._device))
            self._down.append(size / seconds(lambda: self._host.copy_(self._here, non_blocking=True), self._device))

    def least(self, case: Case) -> float:
        """Seconds a weight."""
        if case.within:
            return case.within / median(self._within)
        return case.up / median(self._up) + case.down / median(self._down)

    def __str__(self) -> str:
        rates = {"within the memory": self._within, "to the device": self._up, "to the host": self._down}
        return ", ".join(f"{name} {median(rate) / 1e9:.1f} GB/s" for name, rate in rates.items() if rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, help="millions (default 32 on a CPU, 1024 on an accelerator)")
    parser.add_argument("--turns", type=int, default=5, help="of each case, of which the median counts (default 5)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: torch's)")
    parser.add_argument("--before", type=Path, metavar="FILE", help="another version of co_rewarding/algo/ema.py")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    host = torch.device("cpu")
    device = torch.accelerator.current_accelerator(check_available=True) or host
    weights = (args.weights or (32 if device == host else 1024)) << 20
    versions = {"": ema} | ({" (before)": version(args.before)} if args.before else {})
    places = {"both on the CPU": (host, host)}
    if device != host:
        card = torch.device(device.type, torch.accelerator.current_device_index())
        places = {
            "both on the card": (card, card),
            "student on the card, teacher in host memory": (card, host),
            "both in host memory": (host, host),
        }
        device = card
    rows = []
    print(f"{weights / 1e6:.0f} million weights, {device}, {torch.get_num_threads()} CPU threads")
    for place, (student, teacher) in places.items():
        cases = [Case(place + suffix, weights, student, teacher, device, module) for suffix, module in versions.items()]
        copies = Copies(device, weights // 4)
        for turn in range(args.turns + 1):  # the first warms up
            for each in (copies, *cases) if turn % 2 else (*reversed(cases), copies):
                each.turn()
        rows += [(case.name, median(case.times[1:]), copies.least(case)) for case in cases]
    print(f"plain copies: {copies}")
    print(f"{'case':<52}{'s a billion':>12}{'GB/s of 20 B':>14}{'least s':>9}{'ratio':>7}")
    for name, taken, least in rows:
        print(f"{name:<52}{1e9 * taken:>12.2f}{BYTES / taken / 1e9:>14.1f}{1e9 * least:>9.2f}{taken / least:>7.1f}")


if __name__ == "__main__":
    main()
