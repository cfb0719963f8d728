# SPDX-License-Identifier: Apache-2.0
"""A second set of values for an engine's parameters, kept beside them and swapped in on demand.

It saves two of the paper's models a separate engine (arXiv 2508.00410, Eq. 4 and Algorithm 2):

    the starting model, π_ref of KL(π_θ ‖ π_ref), in the engine that holds the moving teacher
    with LoRA, the teacher: its adapter in the student's engine

The engine computes with one set of weights. The other is kept in the parameters' type (4 bytes a weight in float32),
sharded like them, and the two are swapped around a pass, bit for bit, without allocating anything as large as a
parameter.

Works on the local shards of FSDP2's DTensors, on any device. Deliberately absent: who calls it when
(Co-rewarding-II).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from co_rewarding.algo.ema import local_shard

SLICE = 1 << 22  # weights swapped at a time


class SecondWeights:
    """Starts as a copy of the current parameters.

    Args:
        parameters: returns the current ones by name, plain or DTensor, contiguous. Called at every swap: an engine that
        moves its weights to another device may create new ones. device: the accelerator that may still be using them at
        a swap; "cpu": none.

    Attributes:
        beside: local shards by name, of the set that is not in the parameters now. They may be changed in place.
    """

    @torch.no_grad()
    def __init__(self, parameters: Callable[[], Mapping[str, torch.Tensor]], device: torch.device | str = "cpu"):
        self._parameters, self._device = parameters, torch.device(device)
        self._finish_copies()
        self.beside = {name: local_shard(parameter).clone() for name, parameter in parameters().items()}

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap the parameters and the second set; a second call swaps them back."""
        self._finish_copies()
        parameters = self._parameters()
        for name, beside in self.beside.items():
            here = local_shard(parameters[name])
            for served, kept in zip(here.view(-1).split(SLICE), beside.view(-1).split(SLICE), strict=True):
                held = served.clone()
                served.copy_(kept)
                kept.copy_(held)
        self._finish_copies()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the parameters hold the second set."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def _finish_copies(self) -> None:
        if self._device.type != "cpu":  # FSDP2 copies to the accelerator on its own streams
            torch.accelerator.synchronize(self._device)
