# SPDX-License-Identifier: Apache-2.0
"""Packed against padded sequences, by kind of attention, and how many tokens to pack.

Checks that packed sequences do not see each other: the same logits as padded ones. Measures forward and backward of a
few layers with gradient checkpointing, as in training: time per token of real text, without padding.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

import torch
from card import DEVICE, peak_of, seconds_of, synchronise
from rows import Rows
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, Qwen3Config

UNEVEN = [3584, 500, 700, 900]  # a micro-batch of 4 with one response at the limit of the recipes
SEQUENCE = [700, 1300, 900, 1100]  # tokens, 1,000 on average
PACKED_TOKENS = [4096, 8192, 16384]
NUM_OTHERS = 6
LIMIT = {torch.bfloat16: 0.05, torch.float32: 1e-4}  # of the logits' size; without a mask it is about 0.5


class Model:
    """A Qwen3 of a few layers with the same random weights for every kind of attention."""

    def __init__(self, attention: str) -> None:
        if DEVICE == "cuda":  # 4 of the 36 layers of Qwen3-4B; a small vocabulary, the head is measured elsewhere
            size = {"hidden_size": 2560, "intermediate_size": 9728, "num_attention_heads": 32, "num_hidden_layers": 4}
            heads = {"num_key_value_heads": 8, "head_dim": 128}
            self.dtype = torch.bfloat16
        else:
            size = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2}
            heads = {"num_key_value_heads": 2, "head_dim": 32}
            self.dtype = torch.float32
        config = Qwen3Config(vocab_size=1024, max_position_embeddings=8192, **size, **heads)
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        self.model = model.to(self.dtype)
        self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.model.train()

    def padded(self, sequences: list[torch.Tensor]) -> torch.Tensor:
        """(T, V) logits of the real tokens, one sequence after another, after a backward pass."""
        mask = pad_sequence([torch.ones_like(ids) for ids in sequences], batch_first=True)
        logits = self._forward_backward(input_ids=pad_sequence(sequences, batch_first=True), attention_mask=mask)
        return torch.cat([row[: len(ids)] for row, ids in zip(logits, sequences, strict=True)])

    def packed(self, sequences: list[torch.Tensor]) -> torch.Tensor:
        """The same for packed sequences, as in verl's engine: restarting positions, no mask."""
        positions = torch.cat([torch.arange(len(ids), device=DEVICE) for ids in sequences])
        inputs = {"input_ids": torch.cat(sequences)[None], "position_ids": positions[None], "attention_mask": None}
        return self._forward_backward(**inputs)[0]

    def _forward_backward(self, **inputs: torch.Tensor | None) -> torch.Tensor:
        logits = self.model(**inputs, use_cache=False).logits
        logits.float().square().mean().backward()
        self.model.zero_grad()
        return logits.detach()


def measure(rows: Rows) -> None:
    scale = 1 if DEVICE == "cuda" else 64  # a rehearsal's sequences are shorter
    uneven = _sequences([length // scale for length in UNEVEN])
    model = Model("sdpa")
    expected = model.padded(uneven).float()
    _cost(rows, "padded, sdpa", lambda: model.padded(uneven), sum(map(len, uneven)))
    for attention in ("sdpa", "flex_attention", "flash_attention_2"):
        if why := _cannot_run(attention):
            rows.not_run(f"packed, {attention}", why)
            continue
        with rows.section(f"packed, {attention}"):
            if attention != "sdpa":
                model = Model(attention)
            started = time.perf_counter()
            found = model.packed(uneven).float()
            synchronise()
            first = time.perf_counter() - started
            error = float((found - expected).norm() / expected.norm())
            rows.check(
                f"packed = padded, {attention}",
                error < LIMIT[model.dtype],
                f"logits off by {error:.1e} of their size (limit {LIMIT[model.dtype]:.0e}); first call {first:.1f} s",
            )
            _cost(rows, f"packed, {attention}", lambda model=model: model.packed(uneven), sum(map(len, uneven)))
            for budget in PACKED_TOKENS:
                lengths = [length // scale for length in SEQUENCE] * (budget // sum(SEQUENCE))
                even = _sequences(lengths)
                name = f"{sum(lengths)} tokens packed, {attention}"
                _cost(rows, name, lambda model=model, even=even: model.packed(even), sum(lengths))
            _other_lengths(rows, f"{NUM_OTHERS} batches of other lengths, {attention}", model, scale)


def _cannot_run(attention: str) -> str | None:
    if attention == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed"
    if attention == "flex_attention" and DEVICE == "cpu":
        return "has no backward pass on a CPU"
    return None


def _other_lengths(rows: Rows, name: str, model: Model, scale: int) -> None:
    """Each once, without a warm-up: in training all micro-batches differ, and compiled kernels may compile again."""
    seconds, num_tokens = [], 0
    for extra in range(1, NUM_OTHERS + 1):
        sequences = _sequences([(length + 37 * extra) // scale for length in SEQUENCE * 2])
        num_tokens += sum(map(len, sequences))
        synchronise()
        started = time.perf_counter()
        model.packed(sequences)
        synchronise()
        seconds.append(time.perf_counter() - started)
    rows.measured(name, f"{1e6 * sum(seconds) / num_tokens:.2f} µs a token, the slowest {1e3 * max(seconds):.0f} ms")


def _sequences(lengths: list[int]) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randint(1024, (length,), device=DEVICE) for length in lengths]


def _cost(rows: Rows, name: str, call: Callable[[], object], num_tokens: int) -> None:
    seconds, memory = seconds_of(call), peak_of(call)
    rows.measured(name, f"{1e6 * seconds / num_tokens:.2f} µs a token, {1e3 * seconds:.0f} ms{memory}")
