# SPDX-License-Identifier: Apache-2.0
"""The starting model as the anchor of the KL term, in an engine that holds another one (arXiv 2508.00410, Eq. 4).

    KL(π_θ ‖ π_ref)    π_ref: the model that the run starts from; in the paper's code it is the moving teacher

The engine that computes log-probabilities of the reference has one set of weights, the teacher's. The starting model's
lie beside it, 4 bytes a weight (2 where the engine holds bfloat16), sharded like the weight, and the two change places
around that pass: every bit comes back, and nothing as large as a parameter is allocated.

Works on the local shards of FSDP2's DTensors, wherever they lie. Deliberately absent: who calls it when
(Co-rewarding-II).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from co_rewarding.algo.ema import local_shard

SLICE = 1 << 22  # weights that are exchanged at a time


class StartingModel:
    """A copy of the parameters as they are now, kept beside them.

    Args:
        parameters: by name, plain or DTensor, contiguous.
        device: the accelerator that may still read or write them when an exchange is asked for; "cpu": none.
    """

    @torch.no_grad()
    def __init__(self, parameters: Mapping[str, torch.Tensor], device: torch.device | str = "cpu"):
        self._parameters, self._device = dict(parameters), torch.device(device)
        self._finish_copies()
        self._beside = {name: local_shard(parameter).clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def exchange(self) -> None:
        """What the parameters hold and what lies beside them change places; a second time, back."""
        self._finish_copies()
        for name, beside in self._beside.items():
            # the parameter is asked each time: FSDP2 may give it another storage
            here = local_shard(self._parameters[name])
            for served, kept in zip(here.view(-1).split(SLICE), beside.view(-1).split(SLICE), strict=True):
                held = served.clone()
                served.copy_(kept)
                kept.copy_(held)
        self._finish_copies()

    def _finish_copies(self) -> None:
        if self._device.type != "cpu":  # FSDP2 copies to the accelerator on streams of its own
            torch.accelerator.synchronize(self._device)
