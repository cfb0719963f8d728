# SPDX-License-Identifier: Apache-2.0
"""Checks of the run's name, which is its folder below runs/, and of other texts that name files. scripts/run_common.sh
has the same rules for variables."""

import glob
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.rows import as_paths

MAX_NAME_BYTES = 200  # file systems allow 255; programs append endings


def check_names(config: DictConfig) -> None:
    """Names stay below runs/; they and the run's folder have only characters that files and the configuration take."""
    for key in ("trainer.project_name", "trainer.experiment_name"):
        name = OmegaConf.select(config, key)
        if not isinstance(name, str):
            raise ValueError(f"{key}={name}: was read as a number, true or null; quote the name: {key}=\"'…'\"")
        _check_characters(key, name)
        if name.startswith("~") or {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"{key}={name}: must name a folder below runs/, without . or .. and no full path")
        size = len(name.encode())
        if size > MAX_NAME_BYTES:
            raise ValueError(f"{key}={name[:40]}…: has {size} bytes; at most {MAX_NAME_BYTES}")
    if isinstance(config.co_rewarding_run_dir, str):
        _check_characters("co_rewarding_run_dir", config.co_rewarding_run_dir)


def check_data_paths(config: DictConfig) -> None:
    """verl reads these files with `datasets`, which expands $NAME and reads :: as a file inside another."""
    for key in ("data.train_files", "data.val_files"):
        for file in as_paths(OmegaConf.select(config, key) or []):
            path = str(Path(file).expanduser().absolute())
            for reason, is_there in (
                ("::", "::" in path),
                ("$ and the name of a variable that is set", os.path.expandvars(path) != path),
            ):
                if is_there:
                    raise ValueError(f"{key}={file}: {path} has {reason}, which `datasets` does not take; rename it")


def check_model_path(config: DictConfig) -> None:
    """vLLM finds weights by a glob pattern below the folder, unless they are sent to it, as by default."""
    path, load_format = config.actor_rollout_ref.model.path, config.actor_rollout_ref.rollout.load_format
    if not load_format.startswith("dummy") and os.path.isdir(path) and glob.has_magic(os.path.abspath(path)):
        raise ValueError(
            f"actor_rollout_ref.model.path={path}: with actor_rollout_ref.rollout.load_format={load_format} vLLM reads "
            f"the weights, and finds none in a path with one of [ * ?; rename the folder ({os.path.abspath(path)})"
        )


def _check_characters(key: str, text: str) -> None:
    for character in text:
        if not character.isprintable():  # a control character, line end, lone surrogate, or bytes that are no UTF-8
            raise ValueError(f"{key}={text!r}: has the character {character!r}; rename it")
    if "${" in text:
        raise ValueError(f"{key}={text}: has ${{, which the configuration reads as a reference to a value; rename it")
