# SPDX-License-Identifier: Apache-2.0
"""The shapes of a dense decoder, from its config.json alone: Llama, Qwen2 (Qwen2.5) and Qwen3.

    embedding, output layer   V × H, one matrix for both if tied
    of each of L layers       queries q × H, keys and values k × H, attention's output H × q, MLP 3 · H × I, norms
    q = heads · head size     k = heads of keys · head size

transformers' modelling_llama.py, modelling_qwen2.py and modelling_qwen3.py (5.9, 5.10): Qwen2 always has a bias on
queries, keys and values; Llama and Qwen3 have them, and one on attention's output, with `attention_bias`; Qwen3 has a
norm of a head's size on queries and keys. tests/training/test_model_shape.py builds each model and counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

FAMILIES = ("llama", "qwen2", "qwen3")


@dataclass(frozen=True)
class ModelShape:
    """Sizes are numbers, not bytes."""

    family: str  # one of FAMILIES
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int  # heads of keys, and of values
    head_size: int
    vocabulary: int
    is_tied: bool  # one matrix for embedding and output layer
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Read a model's config.json.

        Raises:
            ValueError: no mapping, another family, a size that is missing or no whole number from 1, or weights that
                are quantized.
        """
        if not isinstance(config, Mapping):
            raise ValueError("a model's config.json must be a JSON object")
        family = config.get("model_type")
        if family not in FAMILIES:
            raise ValueError(f"model_type={family}: memory is estimated for {', '.join(FAMILIES)} alone")
        if (quantized := config.get("quantization_config")) is not None:
            method = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
            raise ValueError(f"quantization_config={method}: training needs a model in full precision")
        heads, hidden = _size(config, "num_attention_heads"), _size(config, "hidden_size")
        return cls(
            family=family,
            layers=_size(config, "num_hidden_layers"),
            hidden=hidden,
            intermediate=_size(config, "intermediate_size"),
            heads=heads,
            key_heads=_size(config, "num_key_value_heads", heads),
            head_size=_size(config, "head_dim", hidden // heads),
            vocabulary=_size(config, "vocab_size"),
            is_tied=config.get("tie_word_embeddings", False),
            attention_bias=config.get("attention_bias", False),
            mlp_bias=config.get("mlp_bias", False),
        )

    @property
    def query_size(self) -> int:
        return self.heads * self.head_size

    @property
    def key_size(self) -> int:
        return self.key_heads * self.head_size

    @property
    def has_query_norm(self) -> bool:
        return self.family == "qwen3"

    def linear(self) -> Iterator[tuple[int, int, bool]]:
        """(outputs, inputs, has a bias) of a layer's linear maps; those that LoRA's `all-linear` adapts."""
        qkv_bias = self.family == "qwen2" or self.attention_bias
        output_bias = self.family != "qwen2" and self.attention_bias
        mlp_bias = self.family == "llama" and self.mlp_bias
        yield self.query_size, self.hidden, qkv_bias
        yield self.key_size, self.hidden, qkv_bias
        yield self.key_size, self.hidden, qkv_bias
        yield self.hidden, self.query_size, output_bias
        yield self.intermediate, self.hidden, mlp_bias
        yield self.intermediate, self.hidden, mlp_bias
        yield self.hidden, self.intermediate, mlp_bias

    def layer_tensors(self) -> Iterator[tuple[int, ...]]:
        for outputs, inputs, has_bias in self.linear():
            yield outputs, inputs
            if has_bias:
                yield (outputs,)
        if self.has_query_norm:
            yield from ((self.head_size,), (self.head_size,))
        yield from ((self.hidden,), (self.hidden,))

    def tensors(self) -> Iterator[tuple[int, ...]]:
        """The shape of each parameter, a tied one once."""
        yield self.vocabulary, self.hidden
        for _ in range(self.layers):
            yield from self.layer_tensors()
        yield (self.hidden,)
        if not self.is_tied:
            yield self.vocabulary, self.hidden

    @cached_property
    def shapes(self) -> Counter[tuple[int, ...]]:
        """How many parameters have each shape."""
        return Counter(self.tensors())

    @cached_property
    def parameters(self) -> int:
        return sum(count * math.prod(shape) for shape, count in self.shapes.items())

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA with this rank on every linear map of the layers: rank · (inputs + outputs) each."""
        return self.layers * sum(rank * (outputs + inputs) for outputs, inputs, _ in self.linear())


def _size(config: Mapping[str, Any], key: str, usual: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = usual
    if value is None:
        raise ValueError(f"{key} is missing in the model's config.json")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r} in the model's config.json: must be a whole number from 1")
    return value
