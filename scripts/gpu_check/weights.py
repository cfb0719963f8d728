# SPDX-License-Identifier: Apache-2.0
"""The saved weights of a run with one process."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed.tensor  # with it, DTensors count as tensors for weights_only=True

from co_rewarding.storage.run_dir import shard_file


def shard_of(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a folder of a checkpoint, actor's or teacher's, on the CPU."""
    state = torch.load(folder / shard_file(0, 1), weights_only=True, map_location="cpu")
    return {name: getattr(value, "_local_tensor", value).cpu() for name, value in state.items()}
