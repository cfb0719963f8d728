# SPDX-License-Identifier: Apache-2.0
"""LoRA in plain torch: each W of the layers becomes W + alpha / r · B A, B = 0 at first (arXiv 2106.09685, Eq. 3).

Not by peft, whose layers hide the sum: the policy's decoder reads a layer's weight.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import LlamaForCausalLM

ALPHA = 32  # of the run scripts


class Factors(nn.Module):
    """A, r x in, drawn as peft draws it, and B, out x r, 0."""

    def __init__(self, weight: torch.Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.A = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.B = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)
        self._scale = ALPHA / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self._scale * self.B @ self.A


def add_adapter(model: LlamaForCausalLM, rank: int, seed: int = 0) -> None:
    """From now on only the factors are trained."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in [module for module in model.model.layers.modules() if isinstance(module, nn.Linear)]:
        parametrize.register_parametrization(layer, "weight", Factors(layer.weight, rank, generator))
