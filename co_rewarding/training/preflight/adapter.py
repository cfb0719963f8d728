# SPDX-License-Identifier: Apache-2.0
"""Checks of a LoRA adapter's settings: what peft, vLLM or an export would take in silence and do wrong.

peft 0.21 ignores a listed name that no module has, as long as one fits, and reads text without brackets as a pattern;
vLLM 0.28 leaves out an adapter of a module that it has no adapters for; a merged model with tied embeddings has no
output layer of its own.
"""

from omegaconf import DictConfig, ListConfig

from co_rewarding.training.preflight.memory import shape_of

ALL = "all-linear"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear maps of a layer of Llama, Qwen2 and Qwen3 (model_shape.py), whose adapters vLLM serves."""


def check_adapter(config: DictConfig) -> None:
    """Raises: ValueError, one line with the key, the value and the fix."""
    model, checkpoint = config.actor_rollout_ref.model, config.actor_rollout_ref.actor.checkpoint
    if model.lora_rank == 0:
        return
    if "hf_model" in checkpoint.save_contents:
        raise ValueError(
            f"actor_rollout_ref.actor.checkpoint.save_contents={checkpoint.save_contents}: with LoRA hf_model would be "
            "a model with peft's names; leave it out, scripts/export_checkpoint.py makes the model from a checkpoint"
        )
    if checkpoint.get("save_lora_only", False):
        raise ValueError(
            "actor_rollout_ref.actor.checkpoint.save_lora_only=True: a run resumes and exports from checkpoints that "
            "have the model, too; set it to False"
        )
    _check_targets(config, model.target_modules)


def _check_targets(config: DictConfig, targets: object) -> None:
    if targets == ALL:
        return
    given = f"actor_rollout_ref.model.target_modules={targets}"
    if not isinstance(targets, ListConfig) or not targets:
        raise ValueError(f"{given}: must be {ALL}, or a list such as [q_proj,v_proj]")
    try:
        shape_of(config)
    except (OSError, ValueError):  # another family, whose names are not known
        return
    if unknown := [name for name in targets if name not in LINEAR]:
        raise ValueError(f"{given}: {unknown[0]} cannot have an adapter here; choose from {', '.join(LINEAR)}")
