# SPDX-License-Identifier: Apache-2.0
"""A second set of values for an engine's parameters, which lies beside them and can take their place.

Two of the paper's models need no engine of their own by it (arXiv 2508.00410, Eq. 4 and Algorithm 2):

    the starting model, π_ref of KL(π_θ ‖ π_ref), in the engine that holds the moving teacher
    the teacher, where an adapter is trained: its adapter in the student's engine

The engine computes with one set of weights. The others are kept in the type of the parameter (4 bytes a weight in
float32), sharded like it, and the two change places around a pass: every bit comes back, and nothing as large as a
parameter is allocated.

Works on the local shards of FSDP2's DTensors, wherever they lie. Deliberately absent: who calls it when
(Co-rewarding-II).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from co_rewarding.algo.ema import local_shard

SLICE = 1 << 22  # weights that are exchanged at a time


class SecondWeights:
    """Begins as a copy of the parameters as they are now.

    Args:
        parameters: gives them as they are now, by name, plain or DTensor, contiguous. It is asked at every exchange: an
            engine that moves its weights to another device may make new ones.
        device: the accelerator that may still read or write them when an exchange is asked for; "cpu": none.

    Attributes:
        beside: local shards by name: what is not in the parameters at the moment. They may be changed in place.
    """

    @torch.no_grad()
    def __init__(self, parameters: Callable[[], Mapping[str, torch.Tensor]], device: torch.device | str = "cpu"):
        self._parameters, self._device = parameters, torch.device(device)
        self._finish_copies()
        self.beside = {name: local_shard(parameter).clone() for name, parameter in parameters().items()}

    @torch.no_grad()
    def exchange(self) -> None:
        """What the parameters hold and what lies beside them change places; a second time, back."""
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
        """For the length of the block the parameters hold the second set."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def _finish_copies(self) -> None:
        if self._device.type != "cpu":  # FSDP2 copies to the accelerator on streams of its own
            torch.accelerator.synchronize(self._device)
