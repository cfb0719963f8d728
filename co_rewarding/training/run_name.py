# SPDX-License-Identifier: Apache-2.0
"""The name of a run: RUN_NAME of the environment, or else method, model and data, which keep runs apart.

`${run_name:}` in YAML (group_reward.yaml), registered where Hydra finds that YAML. trainer.experiment_name=… wins.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from co_rewarding.algo.method_names import label_of
from co_rewarding.storage.rows import as_paths

MAX_PART = 60  # letters; a name is a folder
SPLITS = ("train", "test", "val", "validation", "paired", "original")  # say nothing about a file's content


def register() -> None:
    OmegaConf.register_new_resolver(
        "run_name", lambda *, _root_: os.environ.get("RUN_NAME") or default_name(_root_), replace=True
    )


def is_default(config: DictConfig) -> bool:
    """Whether nobody chose the name."""
    return not os.environ.get("RUN_NAME") and OmegaConf.is_interpolation(config.trainer, "experiment_name")


def default_name(config: DictConfig) -> str:
    """METHOD-MODEL-DATA, e.g. co_rewarding_I-Qwen3-4B-Base-math; letters, digits, dots, underscores and hyphens.

    A sum with a user's function is co_rewarding_I-0.1-brevity.short-Qwen3-4B-Base-math.
    """
    files = OmegaConf.select(config, "data.train_files")
    data = dict.fromkeys(data_name(path) for path in as_paths(files)) if files else {}
    return "-".join(filter(None, (_method(config), _safe(_model(config)), _safe("-".join(data)))))


def older_names(config: DictConfig) -> list[str]:
    """Older default names: by method alone (run scripts, run_ttt.sh, recipes), and with paired_original as data."""
    method = _method(config)
    model = _model(config)
    return [method, f"ttt_{method}", f"{method}_{model.lower()}", f"{method}-{_safe(model)}-paired_original"]


def data_name(path: str) -> str:
    """math of math/train_original.parquet, math-rewrite_X of math/train_rewrite_X.parquet, mine of any/mine.parquet."""
    file = Path(path).expanduser().absolute()
    first, *rest = file.stem.split("_")
    if first not in SPLITS:
        return file.stem
    return "-".join(filter(None, (file.parent.name, "_".join(part for part in rest if part not in SPLITS))))


def folder_name(method: str) -> str:
    """co_rewarding_I-0.1-brevity.short of co_rewarding_I+0.1*my/brevity.py:short."""
    with suppress(ValueError):  # an invalid method is refused later
        method = label_of(method)
    return _safe(method)


def _method(config: DictConfig) -> str:
    return folder_name(str(OmegaConf.select(config, "co_rewarding.method")))


def _model(config: DictConfig) -> str:
    return Path(str(OmegaConf.select(config, "actor_rollout_ref.model.path"))).expanduser().absolute().name


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:MAX_PART]
