# SPDX-License-Identifier: Apache-2.0
"""Checks that a model's folder has complete weights of the shapes in its config.json, without reading them.

A safetensors file begins with the length of its header in 8 bytes and the header: JSON with the shape and place of each
tensor. That takes milliseconds for any model size. For .bin files only their presence is checked, for a hub name what
is in the cache.
"""

import json
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from co_rewarding.training.model_shape import ModelShape

SINGLE = ("model.safetensors", "pytorch_model.bin")  # in the order in which transformers looks for them
TRAINED = (
    "ForCausalLM",
    "ForConditionalGeneration",
)  # name endings of architectures that verl loads as a language model
MAX_HEADER = 100 * 2**20  # bytes; the format's own limit


def check_weights(where: str, folder: Path, config: Mapping[str, Any], *, may_download: bool = False) -> None:
    """Raise unless the folder's weights can be those of the model.

    Args:
        where: key and value for the message.
        folder: with config.json.
        config: its content.
        may_download: missing files are allowed: the folder is the hub's cache.

    Raises:
        ValueError: names the file and its fault.
    """
    architectures = config.get("architectures") or []
    if len(architectures) != 1 or not architectures[0].endswith(TRAINED):
        raise ValueError(
            f"{where}: config.json names the architecture {', '.join(architectures) or 'none'}; must be one causal "
            "language model (…ForCausalLM)"
        )
    files = _files(where, folder)
    if may_download and not (files and all(file.is_file() for file in files)):
        return
    if not files:
        raise ValueError(f"{where}: holds no weights ({' or '.join(SINGLE)}); download the whole model")
    shapes: Counter[tuple[int, ...]] = Counter()
    for file in files:
        if not file.is_file():
            raise ValueError(f"{where}: {file.name}, which its index names, is missing; download the model again")
        if file.suffix == ".safetensors":
            shapes.update(_shapes(where, file))
    if not shapes:
        return
    try:
        expected = ModelShape.from_config(config).shapes
    except ValueError:  # a family that is not known here
        return
    for shape, count in expected.items():
        if shapes[shape] < count:
            raise ValueError(
                f"{where}: its weights do not match its config.json, which implies {count} tensors of shape "
                f"{list(shape)}; found {shapes[shape]} (num_hidden_layers={config.get('num_hidden_layers')}, "
                f"hidden_size={config.get('hidden_size')}, vocab_size={config.get('vocab_size')})"
            )


def model_folder(name: str) -> Path | None:
    """The folder of a model, or the cached one of a hub name; None if there is none yet."""
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return Path(name)
    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent if isinstance(cached, str) else None


def _files(where: str, folder: Path) -> list[Path]:
    for name in SINGLE:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            try:
                names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
                return [folder / name for name in sorted(names)]
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise ValueError(f"{where}: {index.name} is damaged; download the model again") from error
    return []


def _shapes(where: str, file: Path) -> list[tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, whose length matches its header."""
    size, problem = file.stat().st_size, f"{where}: {file.name} is damaged or cut short; download the model again"
    with file.open("rb") as data:
        head = data.read(8)
        (length,) = struct.unpack("<Q", head) if len(head) == 8 else (0,)
        if not 0 < length <= min(MAX_HEADER, size - 8):
            raise ValueError(problem)
        try:
            header = json.loads(data.read(length))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
            shapes = [tuple(tensor["shape"]) for tensor in tensors]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(problem) from error
    if size != 8 + length + end:
        raise ValueError(problem)
    return shapes
