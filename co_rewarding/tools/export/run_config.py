# SPDX-License-Identifier: Apache-2.0
"""The settings of a run: the configuration of its starts, its method, and differences from the paper's Table 5.

A start leaves a configuration and, once it has validated or trained, a metrics file of the same name; in older runs the
configuration's name is slightly earlier, and refused starts have one, too (storage.run_dir). So a start that trained
has the newest configuration that is not newer than its metrics file; a run without metrics files uses its newest.
Starts that only validated are ignored. Keys missing in another verl's configuration are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from co_rewarding.algo.method_names import label_of
from co_rewarding.algo.methods import METHODS, is_method
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import one_line
from co_rewarding.tools.report.runs import STEP_TIME


@dataclass(frozen=True)
class PaperValue:
    """One setting of the paper (arXiv 2508.00410, Table 5 unless noted); machine sizes are not settings."""

    words: str
    key: str
    value: Any
    methods: tuple[str, ...] = ()  # methods with this setting; (): all


KL_ANCHOR, TEACHER_TEMPERATURE = "actor_rollout_ref.teacher.kl_anchor", "actor_rollout_ref.teacher.temperature"
OPTIMIZER_SETTINGS = "actor_rollout_ref.actor.optim.override_optimizer_config"
HOW_ADAMW_IS_COMPUTED = ("fused", "foreach")  # the same formula, rounding aside
_I, _II = ("co_rewarding_I",), ("co_rewarding_II", "co_rewarding_III")
PAPER: tuple[PaperValue, ...] = (
    PaperValue("questions a batch", "data.train_batch_size", 128),
    PaperValue("questions an update", "actor_rollout_ref.actor.ppo_mini_batch_size", 128),
    PaperValue("longest prompt (tokens)", "data.max_prompt_length", 512),
    PaperValue("longest response (tokens)", "data.max_response_length", 3072),
    PaperValue("learning rate", "actor_rollout_ref.actor.optim.lr", 3e-6),
    PaperValue("learning-rate schedule", "actor_rollout_ref.actor.optim.lr_scheduler_type", "cosine"),
    PaperValue("warm-up (share of the steps)", "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio", 0.1),
    PaperValue("optimizer", "actor_rollout_ref.actor.optim.optimizer", "AdamW"),
    PaperValue("AdamW β", "actor_rollout_ref.actor.optim.betas", [0.9, 0.999]),
    PaperValue("more optimizer settings", OPTIMIZER_SETTINGS, None),
    PaperValue("rollouts a question", "actor_rollout_ref.rollout.n", 8),
    PaperValue("temperature of the rollouts", "actor_rollout_ref.rollout.temperature", 1.0),
    PaperValue("clip ratio, below", "actor_rollout_ref.actor.clip_ratio_low", 0.2),
    PaperValue("clip ratio, above", "actor_rollout_ref.actor.clip_ratio_high", 0.2),
    PaperValue("KL loss", "actor_rollout_ref.actor.use_kl_loss", True),
    PaperValue("kind of KL estimate", "actor_rollout_ref.actor.kl_loss_type", "low_var_kl"),
    PaperValue("KL coefficient", "actor_rollout_ref.actor.kl_loss_coef", 0.005, _I),
    PaperValue("KL coefficient", "actor_rollout_ref.actor.kl_loss_coef", 0.001, _II),
    PaperValue("mean of the loss (Eq. 4)", "actor_rollout_ref.actor.loss_agg_mode", "seq-mean-token-mean"),
    PaperValue("epochs", "trainer.total_epochs", 3),
    PaperValue("steps, instead of whole epochs", "trainer.total_training_steps", None),
    PaperValue("smallest share of a group for a label", "co_rewarding.min_agreement", 0.0),
    PaperValue("what a vote pays", "co_rewarding.payout", "hard"),
    PaperValue("allowed changes of a label in a row (-1: any)", "co_rewarding.max_label_flips", -1),
    PaperValue("rank of LoRA (0: all weights)", "actor_rollout_ref.model.lora_rank", 0),
    PaperValue("teacher’s rollouts a question", "actor_rollout_ref.teacher.n", 8, _II),
    PaperValue("teacher’s temperature", TEACHER_TEMPERATURE, 1.0, _II),
    PaperValue("KL term against", KL_ANCHOR, "teacher", _II),
    PaperValue("teacher moves", "actor_rollout_ref.teacher.update", True, _II),
    PaperValue("α at the start", "actor_rollout_ref.teacher.decay_start", 0.99, _II),
    PaperValue("α at the end", "actor_rollout_ref.teacher.decay_end", 0.9999, _II),
    PaperValue("steps between the teacher’s updates", "actor_rollout_ref.teacher.update_interval", 1, _II),
    PaperValue("share of the starting model in the last teacher", "actor_rollout_ref.teacher.start_share", None, _II),
)


def starts_of(run_dir: Path, step: float) -> list[str]:
    """The names of metrics files of the starts that trained up to `step`, earliest first."""
    layout = RunDir(run_dir)
    first_steps = {start: _first_trained_step(layout.metrics_file(start)) for start in layout.starts()}
    return [start for start, first in first_steps.items() if first is not None and first <= step]


def configs_of(run_dir: Path, step: float = float("inf")) -> list[DictConfig]:
    """The configurations of the starts that trained up to `step`, earliest first.

    Raises:
        ValueError: the run's folder has no configuration, or a broken one.
    """
    layout = RunDir(run_dir)
    paths = layout.configurations()
    if not paths:
        raise ValueError(f"{layout.hydra}: no configuration of a run; give a run's folder runs/PROJECT/NAME")
    times = []
    for start in starts_of(run_dir, step):
        if earlier := [time for time in paths if time <= start]:
            times.append(earlier[-1])
    chosen = list(dict.fromkeys(times)) or [list(paths)[-1]]
    return [_load(paths[time]) for time in chosen]


def _load(path: Path) -> DictConfig:
    try:
        found = OmegaConf.load(path)
        method_of(found)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: not the configuration of a run ({one_line(error)})") from None
    return found


def method_of(config: DictConfig) -> str:
    """The name of a configuration's method, without local folders.

    Raises:
        ValueError: it has none, or an unknown one.
    """
    name = value_of(config, "co_rewarding.method")
    if not isinstance(name, str) or not is_method(name):
        raise ValueError(f"co_rewarding.method={name}: must be one of {', '.join(METHODS)}, a function or a sum")
    return label_of(name)


def saves_teacher(config: DictConfig) -> bool:
    """Whether checkpoints contain a teacher: the run has one and it moves."""
    return bool(value_of(config, "actor_rollout_ref.teacher")) and (
        value_of(config, "actor_rollout_ref.teacher.update") is not False
    )


def differences(config: DictConfig, method: str) -> list[tuple[str, str, str]]:
    """(setting in words, this run's value, the paper's value) if the two differ."""
    found = []
    for paper in PAPER:
        if paper.methods and method not in paper.methods:
            continue
        if not _has(config, paper.key):
            continue
        value = value_of(config, paper.key)
        if value != paper.value:
            found.append((paper.words, _words(value), _words(paper.value)))
    return found


def changed_between(configs: Sequence[DictConfig]) -> list[str]:
    """Settings of the paper that changed between starts: "words: value, then value"."""
    changed = []
    for words, key in dict.fromkeys((paper.words, paper.key) for paper in PAPER):
        values = [_words(value_of(config, key)) for config in configs if _has(config, key)]
        if len(set(values)) > 1:
            changed.append(f"{words}: {', then '.join(values)}")
    return changed


def rollout_dtype(config: DictConfig) -> str:
    """Number type of the run's rollouts, e.g. bfloat16."""
    return str(value_of(config, "actor_rollout_ref.rollout.dtype") or "bfloat16")


def _first_trained_step(metrics: Path) -> int | None:
    for line in metrics.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            if STEP_TIME in row["data"]:  # a resumed start logs a validation at its first step
                return row["step"]
        except (ValueError, KeyError, TypeError):
            continue  # a truncated line; co_rewarding.tools.report.runs reports it
    return None


def _has(config: DictConfig, key: str) -> bool:
    """Whether a configuration has a setting, null or not; older starts or another verl may lack it."""
    block, _, name = key.rpartition(".")
    return name in (value_of(config, block) or {})


def value_of(config: DictConfig, key: str) -> Any:
    try:
        value = OmegaConf.select(config, key)
    except OmegaConfBaseException:  # an interpolation that only verl's start can resolve
        return None
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if key == KL_ANCHOR and value is None:
        return "teacher"  # older than the setting
    if key == TEACHER_TEMPERATURE and value is None:
        return value_of(config, "actor_rollout_ref.rollout.temperature")  # the student's
    if key == OPTIMIZER_SETTINGS and value:
        return {name: own for name, own in value.items() if name not in HOW_ADAMW_IS_COMPUTED} or None
    return value


def _words(value: Any) -> str:
    if value is None:
        return "not set"
    return f"{value:g}" if isinstance(value, float) else str(value)
