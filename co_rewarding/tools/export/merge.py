# SPDX-License-Identifier: Apache-2.0
"""FSDP shards → one Hugging Face model, by verl's model merger.

verl's merger (0.9.1) handles the files: layout of the shards, tied weights, tokenizer, generation config, safetensors.
Two things are changed here, in the method that loads the shards:
- the number type can be chosen; verl always writes bfloat16. From the float32 master weights, bfloat16 gives what a GPU
run's engines used; a CPU run rolls out in float32;
- a LoRA adapter is folded in, W + (alpha / r) · B A, in float32. verl leaves it in a folder beside the unchanged base
model, so loading the folder would give the untrained model. The folder lora_adapter/ is kept for serving many adapters
of one model.

First, all bytes of the shards are compared with their checksums. Not merged: Megatron checkpoints, and the remainder of
a teacher's average (algo.ema): the exported teacher is the one that served.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers.utils import logging as transformers_logging
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger, merge_non_dtensor_shards

from co_rewarding.storage.run_dir import ADAPTER_FACTS, shard_file
from co_rewarding.tools.cli import one_line, progress
from co_rewarding.tools.export.checkpoint import Checkpoint, read_json

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_MB = 2**20
_A, _B, _BASE, _PREFIX = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer.", "base_model.model."


def merge(checkpoint: Checkpoint, target: Path, dtype: str) -> None:
    """Write the model, its tokenizer and its generation config into the folder `target`.

    Args:
        dtype: one of DTYPES.

    Raises:
        ValueError: a shard is damaged, or the checkpoint has an adapter that cannot be folded in.
    """
    check_bytes(checkpoint.shards)
    config = ModelMergerConfig("merge", "fsdp", str(target), local_dir=str(checkpoint.folder))
    config.hf_model_config_path = str(checkpoint.folder / "huggingface")
    try:
        with _quiet():
            _Merger(config, DTYPES[dtype], checkpoint.base).merge_and_save()
    except (AssertionError, NotImplementedError, ValueError) as error:
        if str(checkpoint.folder) in str(error):
            raise
        raise ValueError(f"{checkpoint.folder}: cannot be merged ({one_line(error)})") from error
    # the merger reloads and saves the tokenizer; these files have the one used in training
    for path in (checkpoint.folder / "huggingface").iterdir():
        if "token" in path.name or path.suffix in (".jinja", ".txt", ".model") or path.name == "vocab.json":
            shutil.copyfile(path, target / path.name)
    # the merger builds its model in bfloat16, as its config says
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": dtype}, indent=2) + "\n")


def check_bytes(shards: Sequence[Path]) -> None:
    """Compare the files with their checksums, which torch.load does not.

    Raises:
        ValueError: a file is truncated or corrupt.
    """
    done, total = 0, sum(path.stat().st_size for path in shards)
    with progress("checking the shards", "MB", -(-total // _MB)) as bar:
        for path in shards:
            try:
                with zipfile.ZipFile(path) as archive:
                    for member in archive.infolist():
                        with archive.open(member) as file:
                            while block := file.read(8 * _MB):  # the checksum is compared at the end
                                done += len(block)
                                bar.update(done // _MB - bar.n)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
                raise ValueError(_unreadable(path, error)) from None
        bar.update(bar.total - bar.n)


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path}: cannot be read, was writing or copying it interrupted? ({one_line(error)})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress verl's prints and internal warnings of transformers and torch."""
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        transformers_logging.enable_progress_bar()


class _Merger(FSDPModelMerger):
    """Overrides of verl 0.9.1: `_load_rank_zero_state_dict`, `_load_and_merge_state_dicts`."""

    def __init__(self, config: ModelMergerConfig, dtype: torch.dtype, base: Path | None) -> None:
        super().__init__(config)
        self.dtype, self.base = dtype, base

    def _load_rank_zero_state_dict(self, world_size: int) -> dict[str, Any]:
        return self._load(world_size, 0)

    def _load_and_merge_state_dicts(
        self, world_size: int, total_shards: int, mesh_shape: tuple[int, ...], mesh_dim_names: tuple[str, ...]
    ) -> dict[str, torch.Tensor]:
        ranks = [self._load(world_size, rank) for rank in range(total_shards)]
        # an adapter is added before rounding
        dtype = torch.float32 if any(".lora_" in name for name in ranks[0]) else self.dtype
        whole = {}
        with progress("merging", "weights", len(ranks[0])) as bar:
            for name in list(ranks[0]):
                whole[name] = self._whole(name, [shards.pop(name) for shards in ranks], dtype)
                bar.update()
        adapter = {name: weight for name, weight in whole.items() if ".lora_" in name}
        fold_adapter(whole, Path(self.config.local_dir) / ADAPTER_FACTS)
        self.save_lora_adapter(adapter)  # beside the model, if there is one
        return {name: _to(whole.pop(name), self.dtype) for name in list(whole)}

    def _load(self, world_size: int, rank: int) -> dict[str, Any]:
        folder, name = Path(self.config.local_dir), shard_file(rank, world_size)
        return ({} if self.base is None else _shard(self.base / name)) | _shard(folder / name)

    def _whole(self, name: str, shards: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
        if not isinstance(shards[0], DTensor):
            return merge_non_dtensor_shards(name, [_to(shard, dtype) for shard in shards])
        # the merger loads the first row of a mesh (replicas, shards), so only the last placement counts
        return self._merge_by_placement([_to(shard.to_local(), dtype) for shard in shards], shards[0].placements[-1])


def _shard(path: Path) -> dict[str, Any]:
    try:
        # memory-mapped and tensors only: a foreign checkpoint must not run code
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(_unreadable(path, error)) from error


def fold_adapter(weights: dict[str, torch.Tensor], meta: Path) -> None:
    """W ← W + (alpha / r) · B A for every adapted weight, in place; the names become those of the base model.

    Args:
        weights: name → tensor, by peft's names; unchanged without an adapter.
        meta: verl's file with r and lora_alpha.

    Raises:
        ValueError: no such file, an adapter of another kind, or one without its base weights.
    """
    adapted = [name.removesuffix(_A) for name in weights if name.endswith(_A)]
    if not adapted and not any(".lora_" in name for name in weights):
        return
    if not meta.is_file():
        raise ValueError(f"{meta}: missing; it has the scale of the LoRA adapter")
    facts = read_json(meta)
    try:
        scale = facts["lora_alpha"] / facts["r"]
    except (KeyError, TypeError, ZeroDivisionError):
        raise ValueError(f"{meta}: lora_alpha and r must be numbers: the scale of the LoRA adapter") from None
    for name in adapted:
        if f"{name}{_BASE}weight" not in weights:
            raise ValueError(f"{meta.parent}: has an adapter without {name}; was it saved with save_lora_only?")
        b, a = weights.pop(name + _B), weights.pop(name + _A)
        weights[f"{name}{_BASE}weight"] = weights[f"{name}{_BASE}weight"] + scale * (b @ a)
    if left := [name for name in weights if ".lora_" in name]:
        raise ValueError(f"{meta.parent}: {left[0]}: this kind of adapter cannot be folded in")
    for name in list(weights):
        weights[name.removeprefix(_PREFIX).replace(_BASE, ".")] = weights.pop(name)


def _to(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
