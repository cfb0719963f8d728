# SPDX-License-Identifier: Apache-2.0
"""Checks of batches, micro-batches and attention before a run starts."""

import importlib.util
import os

from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight.machine import world_size

MICRO_BATCH_KEYS = (
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu",
)
TOKEN_KEYS = (
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu",
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu",
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu",
)
SPLIT_KEYS = tuple(
    f"actor_rollout_ref.{block}.ulysses_sequence_parallel_size"
    for block in ("actor", "actor.fsdp_config", "ref", "ref.fsdp_config")
)
ATTENTIONS = ("sdpa", "flex_attention", "flash_attention_2", "eager")  # each keeps packed sequences apart


def check_batch_sizes(config: DictConfig) -> None:
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    questions, mini = config.data.train_batch_size, actor.ppo_mini_batch_size
    if questions % mini:
        raise ValueError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}: must divide data.train_batch_size={questions} "
            "(both count questions)"
        )
    gen = config.data.gen_batch_size
    if gen is not None and (not isinstance(gen, int) or gen < 1 or questions % gen):
        raise ValueError(f"data.gen_batch_size={gen}: must divide data.train_batch_size={questions}")
    parallel, gpus = rollout.tensor_model_parallel_size, config.trainer.n_gpus_per_node
    devices = world_size(config)
    if gpus % parallel:
        raise ValueError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={parallel}: must divide "
            f"trainer.n_gpus_per_node={gpus}: an engine cannot span machines (ROLLOUT_TENSOR_PARALLEL)"
        )
    one_direction = OmegaConf.select(config, "actor_rollout_ref.teacher.one_direction")
    views = 2 if OmegaConf.select(config, "data.train_aug_files") and not one_direction else 1
    sequences = mini * views * rollout.n
    if sequences % devices:
        raise ValueError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}: {mini} questions x {views} views x {rollout.n} "
            f"rollouts = {sequences} sequences do not divide over {devices} devices"
        )
    for key in ("actor_rollout_ref.rollout.log_prob_use_dynamic_bsz", "actor_rollout_ref.ref.log_prob_use_dynamic_bsz"):
        if (value := OmegaConf.select(config, key)) != actor.use_dynamic_bsz:
            raise ValueError(
                f"{key}={value}: must be actor_rollout_ref.actor.use_dynamic_bsz={actor.use_dynamic_bsz}; leave it out"
            )
    if actor.use_dynamic_bsz:
        check_token_budget(config)
        return
    for key in MICRO_BATCH_KEYS:
        micro = OmegaConf.select(config, key)
        if not isinstance(micro, int) or micro < 1 or (sequences // devices) % micro:
            raise ValueError(
                f"{key}={micro}: must divide the {sequences // devices} sequences that each device gets of a "
                "mini-batch; or set actor_rollout_ref.actor.use_dynamic_bsz=True to size micro-batches by tokens"
            )


def check_token_budget(config: DictConfig) -> None:
    """Micro-batches sized by tokens: the longest sequence must fit into one; a number of sequences would be ignored."""
    if "MICRO_BATCH_SIZE" in os.environ:
        raise ValueError(
            f"MICRO_BATCH_SIZE={os.environ['MICRO_BATCH_SIZE']}: micro-batches are now sized by tokens; unset it and "
            "set MAX_TOKENS_PER_GPU"
        )
    for key in (*MICRO_BATCH_KEYS, *(key.removesuffix("_per_gpu") for key in MICRO_BATCH_KEYS)):
        if (value := OmegaConf.select(config, key)) is not None:
            raise ValueError(
                f"{key}={value}: is ignored with actor_rollout_ref.actor.use_dynamic_bsz=True; leave it out and set "
                "actor_rollout_ref.actor.ppo_max_token_len_per_gpu (MAX_TOKENS_PER_GPU in the run script)"
            )
    needed = config.data.max_prompt_length + config.data.max_response_length
    for key in TOKEN_KEYS:
        value = OmegaConf.select(config, key)
        if isinstance(value, bool) or not isinstance(value, int) or value < needed:
            raise ValueError(
                f"{key}={value}: must be a whole number of tokens, at least {needed}, data.max_prompt_length + "
                "data.max_response_length (MAX_TOKENS_PER_GPU in the run script)"
            )


def check_attention(config: DictConfig) -> None:
    """The attention kernel works here, backward pass included."""
    key = "actor_rollout_ref.model.override_config.attn_implementation"
    attention = OmegaConf.select(config, key)
    if attention not in ATTENTIONS:
        raise ValueError(f"{key}={attention}: must be one of {', '.join(ATTENTIONS)} (ATTENTION in the run script)")
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise ValueError(
            f"{key}={attention}: the package flash-attn is not installed; use sdpa (ATTENTION in the run script)"
        )
    for split_key in SPLIT_KEYS:
        parts = OmegaConf.select(config, split_key) or 1
        if parts > 1 and attention != "flash_attention_2":
            raise ValueError(
                f"{split_key}={parts}: verl 0.9.1 splits a sequence over GPUs with flash_attention_2 alone; with "
                f"{attention} each part would attend only to itself; set it to 1, or ATTENTION=flash_attention_2"
            )
    if attention == "flex_attention" and config.trainer.device == "cpu":
        raise ValueError(f"{key}={attention}: has no backward pass on a CPU; use sdpa (ATTENTION in the run script)")
