# SPDX-License-Identifier: Apache-2.0
"""Settings of a LoRA adapter that would be taken in silence and done wrong; on the real composed configuration."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight.adapter import check_adapter

TARGETS = "actor_rollout_ref.model.target_modules"


@pytest.fixture
def adapter(config: DictConfig) -> DictConfig:
    config.actor_rollout_ref.model.lora_rank = 8
    return config


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj"], ["q_proj", "v_proj", "down_proj"]])
def test_targets_that_a_layer_has(adapter: DictConfig, targets: Any) -> None:
    adapter.actor_rollout_ref.model.target_modules = targets
    check_adapter(adapter)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["q_proj", "v_porj"], "v_porj cannot have an adapter here; choose from q_proj, k_proj"),
        (["lm_head"], "lm_head cannot have an adapter here"),
        (["q_proj", "embed_tokens"], "embed_tokens cannot have an adapter here"),
        ("q_proj,v_proj", "must be all-linear, or a list such as [q_proj,v_proj]"),
        ([], "must be all-linear, or a list"),
        (None, "must be all-linear, or a list"),
    ],
)
def test_other_targets(adapter: DictConfig, refused_after: Callable[..., str], targets: Any, message: str) -> None:
    refused_after(TARGETS, targets, message)


def test_checkpoints_without_the_model_or_with_a_model_of_other_names(adapter: DictConfig) -> None:
    adapter.actor_rollout_ref.actor.checkpoint.save_contents = ["model", "optimizer", "extra", "hf_model"]
    with pytest.raises(ValueError, match=r"save_contents=.*export_checkpoint\.py"):
        check_adapter(adapter)
    adapter.actor_rollout_ref.model.lora_rank = 0
    check_adapter(adapter)


def test_a_checkpoint_of_the_adapter_alone(adapter: DictConfig) -> None:
    OmegaConf.update(adapter, "actor_rollout_ref.actor.checkpoint.save_lora_only", True, force_add=True)
    with pytest.raises(ValueError, match=r"save_lora_only=True: .*set it to False"):
        check_adapter(adapter)
