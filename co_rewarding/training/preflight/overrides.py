# SPDX-License-Identifier: Apache-2.0
"""Overrides of keys that nothing reads: typing errors, reported with the likely key.

verl's YAML lacks some keys that verl reads, so Hydra's `+` is needed, and Hydra suggests it for every unknown key; but
`+` adds any key, even one that nothing reads. A key is read if

- its block belongs to a dataclass (`_target_`) that has it as a field, or
- its block is open, that is, handed on as arguments of something else, or
- its block belongs to none, and the code that reads the configuration looks it up.

Our own blocks are guarded by `settings.ConfigBlock`.
"""

import dataclasses
import difflib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from co_rewarding.training.settings import ConfigBlock

READERS = ("verl", "transfer_queue", "co_rewarding", "co_rewarding_i", "co_rewarding_ii")  # packages
OPEN = re.compile(r"kwargs|override_\w*config|ray_init|runtime_env|env_vars")  # names of blocks, whole or their end
UNUSED = ("critic", "distillation")  # blocks of verl that no run here reads
MAX_SUGGESTED = 3
ABSENT = object()


def check_overrides(config: DictConfig) -> None:
    """Each key that the command line adds is read by someone.

    Raises:
        ValueError: an added key that nothing reads.
    """
    if not HydraConfig.initialized():
        return
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    plain = None
    for override in overrides:
        key = override.key_or_group
        if not (override.is_add() or override.is_force_add()) or OmegaConf.select(config, key) is None:
            continue
        if is_read(config, key):
            continue
        plain = plain or _without_additions(overrides)
        if override.is_add() or OmegaConf.select(plain, key, default=ABSENT) is ABSENT:
            raise ValueError(unknown_key(config, key, f"{key}={override.value()}"))


def _without_additions(overrides: Sequence[Override]) -> DictConfig:
    """The configuration without the added keys: ++ may also set an existing key."""
    kept = [override.input_line for override in overrides if not (override.is_add() or override.is_force_add())]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(HydraConfig.get().job.config_name, kept, RunMode.RUN)


def explained(cause: OmegaConfBaseException, override: str) -> str | None:
    """The message on an override whose key is in no block; None where Hydra's own advice, to add it, is right.

    Args:
        override: KEY=VALUE.
    """
    key, root = override.partition("=")[0], cause.parent_node and cause.parent_node._get_root()
    return None if not isinstance(root, DictConfig) or is_read(root, key) else unknown_key(root, key, override)


def unknown_key(config: DictConfig, key: str, override: str) -> str:
    nearest = list(_nearest(config, key))
    return f"{override}: unknown key, which nothing reads" + (f"; is {' or '.join(nearest)} meant?" if nearest else "")


def is_read(config: DictConfig, key: str) -> bool:
    """Whether anything reads `key` (dotted), in the configuration or not."""
    *blocks, name = key.split(".")
    node, block, names = config, "config", []
    for child in (*blocks, name):
        if not isinstance(node, DictConfig) or issubclass(OmegaConf.get_type(node) or dict, ConfigBlock):
            return True
        below = None if OmegaConf.is_missing(node, child) else node.get(child)
        if (target := node.get("_target_")) is not None:
            types = {field.name: str(field.type) for field in dataclasses.fields(get_class(target))}
            if child not in types:
                return False
            if "dict" in types[child].lower() and not (isinstance(below, DictConfig) and "_target_" in below):
                return True  # passed on unchanged
        else:
            names.append((block, child))
        if child != name and OPEN.search(child) and OPEN.search(child).end() == len(child):
            return True
        node, block = below, child
        if node is None:
            break
    return _all_read(names)


def _all_read(names: list[tuple[str, str]]) -> bool:
    """Whether each (block, name) is an attribute of the block, or looked up in something called config, somewhere."""
    patterns = {
        name: re.compile(
            rf"""\b{re.escape(block)}\.{re.escape(name)}\b|(?:config|cfg|{re.escape(block)})\S*?[(\[]\s*["']{re.escape(name)}["']"""
        )
        for block, name in names
    }
    for text in _sources():
        read = [name for name, pattern in patterns.items() if name in text and pattern.search(text)]
        for name in read:
            del patterns[name]
        if not patterns:
            return True
    return not patterns


def _sources() -> Iterator[str]:
    for package in READERS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for path in sorted(Path(folder).rglob("*.py")):
                yield path.read_text(encoding="utf-8", errors="replace")


def _nearest(config: DictConfig, key: str) -> Iterator[str]:
    """Similar keys of the same block, or else keys of the same name in other blocks."""
    *blocks, name = key.split(".")
    node, path = config, []
    for block in blocks:  # the block itself may be mistyped
        if not isinstance(node, DictConfig) or block not in node:
            break
        node, path = node.get(block), [*path, block]
    missing = [*blocks, name][len(path)]
    keys = [str(child) for child in node] if isinstance(node, DictConfig) else []
    if alike := difflib.get_close_matches(missing, [child for child in keys if child != missing], MAX_SUGGESTED, 0.7):
        rest = [*blocks, name][len(path) + 1 :]
        yield from (".".join([*path, child, *rest]) for child in alike)
        return
    found = [
        path for path in _paths(config) if path.rpartition(".")[2] == name and path.partition(".")[0] not in UNUSED
    ]
    yield from sorted(set(found) - {key}, key=len)[:MAX_SUGGESTED]


def _paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in node:
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
            yield f"{prefix}{name}"
            continue
        child = node.get(name)
        yield f"{prefix}{name}"
        if isinstance(child, DictConfig):
            yield from _paths(child, f"{prefix}{name}.")
