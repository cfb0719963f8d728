# SPDX-License-Identifier: Apache-2.0
"""Numbers, switches and choices that would otherwise fail only once Ray is running (see check.py)."""

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.settings import MAX_ROLLOUTS, MAX_TEMPERATURE

WHOLE_NUMBERS_FROM_1 = (
    "data.train_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.model.lora_alpha",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.total_epochs",
)
WHOLE_NUMBERS = ("trainer.test_freq", "trainer.save_freq")  # -1: never
OPTIONAL_FROM_1 = (  # null: not set
    "trainer.total_training_steps",
    "trainer.max_actor_ckpt_to_keep",
    "ray_kwargs.ray_init.num_cpus",
)
OPTIONAL_FROM_0 = ("data.seed",)
ALL_OR_FROM_1 = (  # -1: all
    "data.train_max_samples",
    "data.val_max_samples",
    "actor_rollout_ref.rollout.top_k",
    "actor_rollout_ref.rollout.val_kwargs.top_k",
)
ABOVE_0 = (
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.top_p",
    "actor_rollout_ref.rollout.val_kwargs.top_p",
)
WHOLE_NUMBERS_FROM_0 = ("actor_rollout_ref.model.lora_rank",)  # 0: no adapter
SHARD_SIZES = ("actor_rollout_ref.actor.fsdp_config.fsdp_size", "actor_rollout_ref.ref.fsdp_config.fsdp_size")
SWITCHES = (
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
    "trainer.val_before_train",
    "trainer.val_only",
    "data.shuffle",
    "data.filter_overlong_prompts",
    "actor_rollout_ref.actor.use_kl_loss",
)
NUMBERS = {  # smallest and largest value allowed
    "actor_rollout_ref.actor.optim.lr": (0.0, float("inf")),
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": (0.0, 1.0),
    "actor_rollout_ref.actor.clip_ratio": (0.0, float("inf")),
    "actor_rollout_ref.actor.clip_ratio_low": (0.0, 1.0),
    "actor_rollout_ref.actor.clip_ratio_high": (0.0, float("inf")),
    "actor_rollout_ref.actor.kl_loss_coef": (0.0, float("inf")),
    "actor_rollout_ref.rollout.temperature": (0.0, MAX_TEMPERATURE),
    "actor_rollout_ref.rollout.val_kwargs.temperature": (0.0, MAX_TEMPERATURE),
    "actor_rollout_ref.rollout.gpu_memory_utilization": (0.0, 1.0),
    "actor_rollout_ref.rollout.top_p": (0.0, 1.0),
    "actor_rollout_ref.rollout.val_kwargs.top_p": (0.0, 1.0),
}
TEXTS = ("actor_rollout_ref.rollout.load_format",)
CHOICES = {
    "actor_rollout_ref.actor.optim.lr_scheduler_type": ("constant", "cosine"),
    "actor_rollout_ref.actor.loss_agg_mode": (
        "token-mean",
        "seq-mean-token-sum",
        "seq-mean-token-mean",
        "seq-mean-token-sum-norm",
    ),
    "actor_rollout_ref.actor.kl_loss_type": tuple(
        f"{name}{straight_through}"
        for name in ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")
        for straight_through in ("", "+")
    ),
    "data.truncation": ("error", "left", "right", "middle"),
}


def check_numbers(config: DictConfig) -> None:
    """Values from the run scripts that would otherwise fail only once Ray is running."""
    for keys, smallest, allowed in (
        (WHOLE_NUMBERS_FROM_1, 1, "a whole number from 1"),
        (WHOLE_NUMBERS_FROM_0, 0, "a whole number from 0"),
        (WHOLE_NUMBERS, -1, "a whole number of steps, -1 for never"),
        (SHARD_SIZES, -1, "a number of GPUs, -1 for all"),
    ):
        for key in keys:
            value = OmegaConf.select(config, key)
            if not _is_whole(value, smallest):
                raise ValueError(f"{key}={value}: must be {allowed}")
    for keys, smallest in ((OPTIONAL_FROM_1, 1), (OPTIONAL_FROM_0, 0)):
        for key in keys:
            value = OmegaConf.select(config, key)
            if value is not None and not _is_whole(value, smallest):
                raise ValueError(f"{key}={value}: must be a whole number from {smallest}, or null")
    for key in ALL_OR_FROM_1:
        value = OmegaConf.select(config, key)
        if not _is_whole(value, -1) or value == 0:
            raise ValueError(f"{key}={value}: must be a whole number from 1, or -1 for all")
    for key in TEXTS:
        value = OmegaConf.select(config, key)
        if not isinstance(value, str):
            raise ValueError(f"{key}={value}: must be a name")
    value = OmegaConf.select(config, key := "data.apply_chat_template_kwargs")
    if not isinstance(value, DictConfig):
        raise ValueError(f"{key}={value}: must be a mapping of the chat template's arguments, {{}} for none")
    for key in SWITCHES:
        value = OmegaConf.select(config, key)
        if not isinstance(value, bool):
            raise ValueError(f"{key}={value}: must be True or False")
    for key, (low, high) in NUMBERS.items():
        value = OmegaConf.select(config, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high:
            bounds = f"from {low:g} to {high:g}" if high < float("inf") else f"from {low:g}"
            raise ValueError(f"{key}={value}: must be a number {bounds}")
    for key in ABOVE_0:
        if (value := OmegaConf.select(config, key)) == 0:
            raise ValueError(f"{key}={value}: must be above 0")
    longest = config.data.max_prompt_length + config.data.max_response_length
    value = OmegaConf.select(config, key := "actor_rollout_ref.rollout.max_model_len")
    if value is not None and not _is_whole(value, longest):
        raise ValueError(
            f"{key}={value}: must be null, or at least data.max_prompt_length + data.max_response_length = {longest} "
            "tokens"
        )
    for key, choices in CHOICES.items():
        value = OmegaConf.select(config, key)
        if value not in choices:
            raise ValueError(f"{key}={value}: must be one of {', '.join(choices)}")


def _is_whole(value: Any, smallest: int) -> bool:
    """Whether it is a whole number ≥ `smallest`; True and False do not count."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def check_group_size(config: DictConfig) -> None:
    n = config.actor_rollout_ref.rollout.n
    if not isinstance(n, int) or not 2 <= n <= MAX_ROLLOUTS:
        raise ValueError(
            f"actor_rollout_ref.rollout.n={n!r}: must be from 2 to {MAX_ROLLOUTS} (NUM_ROLLOUTS in the run script); a "
            "group of one has no vote and no advantage"
        )
    if 0 < (votes := config.co_rewarding.num_votes) < n:
        raise ValueError(
            f"co_rewarding.num_votes={votes}: must be at least actor_rollout_ref.rollout.n={n}, the rollouts that are "
            "trained on, since they vote too; or 0 for no more than these (NUM_VOTES in the run script)"
        )
    if config.actor_rollout_ref.rollout.temperature == 0:
        raise ValueError(
            "actor_rollout_ref.rollout.temperature=0: all rollouts of a question would be alike, so nothing is "
            "learned; use 1.0 (TRAIN_TEMPERATURE in the run script)"
        )
    validation = config.actor_rollout_ref.rollout.val_kwargs
    if validation.n > 1 and validation.temperature == 0:
        raise ValueError(
            f"actor_rollout_ref.rollout.val_kwargs.n={validation.n}: at val_kwargs.temperature=0 all of them would be "
            "alike; use 1, or a temperature above 0 (VAL_NUM_ROLLOUTS, VAL_TEMPERATURE in the run script)"
        )
