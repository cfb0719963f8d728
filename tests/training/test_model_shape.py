# SPDX-License-Identifier: Apache-2.0
"""A model's shapes from its config.json, against the model that transformers builds of it (without its numbers)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from co_rewarding.training.model_shape import ModelShape

RECIPES = Path(__file__).resolve().parents[2] / "recipes/models"


NAMES = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def published(*values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, values, strict=True))


# as published on the hub, and the billions of weights that the models' cards state (Qwen2.5 and Qwen3 reports, Table 1)
MODELS = {
    "qwen2.5-3b": (published("qwen2", 2048, 11008, 36, 16, 2, 151936, True), 3.09),
    "qwen2.5-7b": (published("qwen2", 3584, 18944, 28, 28, 4, 152064, False), 7.61),
    "qwen3-1.7b-base": (published("qwen3", 2048, 6144, 28, 16, 8, 151936, True) | {"head_dim": 128}, 1.72),
    "qwen3-4b-base": (published("qwen3", 2560, 9728, 36, 32, 8, 151936, True) | {"head_dim": 128}, 4.02),
    "qwen3-8b-base": (published("qwen3", 4096, 12288, 36, 32, 8, 151936, False) | {"head_dim": 128}, 8.19),
    "llama3.2-3b-instruct": (published("llama", 3072, 8192, 28, 24, 8, 128256, True) | {"head_dim": 128}, 3.21),
}


def built(config: dict[str, Any]) -> Any:
    hf_config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(hf_config)


@pytest.mark.parametrize("name", MODELS)
def test_a_recipes_model(name: str) -> None:
    config, billions = MODELS[name]
    model = ModelShape.from_config(config)
    assert sorted(model.tensors()) == sorted(tuple(parameter.shape) for parameter in built(config).parameters())
    assert model.parameters / 1e9 == pytest.approx(billions, abs=0.011)
    assert ModelShape.from_config(json.loads((RECIPES / f"{name}.json").read_text())) == model


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("more", [{}, {"attention_bias": True}, {"mlp_bias": True}])
def test_what_a_family_may_have(family: str, more: dict[str, Any]) -> None:
    config = published(family, 64, 96, 2, 4, 2, 100, False) | {"head_dim": 16} | more
    shapes = sorted(tuple(parameter.shape) for parameter in built(config).parameters())
    assert sorted(ModelShape.from_config(config).tensors()) == shapes


def test_an_adapters_weights() -> None:
    from peft import LoraConfig, get_peft_model

    config = published("qwen3", 64, 96, 3, 4, 2, 100, True) | {"head_dim": 32}
    adapted = get_peft_model(built(config), LoraConfig(r=8, target_modules="all-linear"))  # verl's default
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert ModelShape.from_config(config).adapter_parameters(8) == trained


def test_other_models_are_not_guessed_at() -> None:
    with pytest.raises(ValueError, match=r"model_type=mixtral: memory is estimated for llama, qwen2, qwen3 alone"):
        ModelShape.from_config({"model_type": "mixtral"})
    with pytest.raises(ValueError, match="hidden_size is missing"):
        ModelShape.from_config({"model_type": "llama", "num_attention_heads": 1})
    quantized = MODELS["qwen3-4b-base"][0] | {"quantization_config": {"quant_method": "fp8"}}
    with pytest.raises(ValueError, match=r"quantization_config=.*fp8.*: training needs a model in full precision"):
        ModelShape.from_config(quantized)


@pytest.mark.parametrize("value", [0, -1, 2.0, "2", True, [2]])
@pytest.mark.parametrize("key", ["hidden_size", "num_key_value_heads", "head_dim", "vocab_size", "num_hidden_layers"])
def test_a_size_is_a_whole_number(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{key}={re.escape(repr(value))} in the model's config.json: must be"):
        ModelShape.from_config(MODELS["qwen3-4b-base"][0] | {key: value})


@pytest.mark.parametrize("config", [[], "qwen3", None, 3])
def test_a_config_is_an_object(config: Any) -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        ModelShape.from_config(config)
