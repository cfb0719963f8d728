# SPDX-License-Identifier: Apache-2.0
"""A small Llama as a policy in plain torch: rollouts and their token statistics.

Legend: B rollouts or sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.token_statistics import token_statistics
from co_rewarding.tools.quickstart.tiny_model import render_prompt

MAX_TOKENS = 32  # of a response; the longest worked solution takes 27 with its end


@dataclass(frozen=True)
class Responses:
    """B rollouts, those of one prompt next to each other."""

    prompts: list[list[int]]  # token ids
    tokens: list[list[int]]  # with the end, if it came
    texts: list[str]


def prompt_ids(tokenizer: PreTrainedTokenizerFast, questions: Sequence[str]) -> list[list[int]]:
    return tokenizer([render_prompt(tokenizer, question) for question in questions])["input_ids"]


@torch.no_grad()
def respond(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    num_rollouts: int,
    generator: torch.Generator | None,
) -> Responses:
    """`num_rollouts` responses to each question, sampled at temperature 1, or greedy without a generator."""
    prompts = prompt_ids(tokenizer, questions)
    asked = _asked(model, prompts, num_rollouts)
    decoder = Decoder(model, asked)
    logits_B_V = model.lm_head(asked.hidden_B)
    ended_B = torch.zeros(len(logits_B_V), dtype=torch.bool)
    written: list[torch.Tensor] = []
    while True:
        next_B = logits_B_V.argmax(-1) if generator is None else _drawn(logits_B_V.softmax(-1), generator)
        next_B[ended_B] = tokenizer.pad_token_id
        written.append(next_B)
        ended_B |= next_B == tokenizer.eos_token_id
        if len(written) == MAX_TOKENS or ended_B.all():
            break
        logits_B_V = decoder.logits(next_B)
    tokens = []
    for row in torch.stack(written, 1).tolist():
        end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
        tokens.append(row[:end])
    return Responses(
        prompts=[prompt for prompt in prompts for _ in range(num_rollouts)],
        tokens=tokens,
        texts=tokenizer.batch_decode(tokens, skip_special_tokens=True),
    )


def answers_of_groups(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[str],
    num_rollouts: int,
    generator: torch.Generator,
) -> list[list[str | None]]:
    """The sampled answers to each question."""
    texts = respond(model, tokenizer, questions, num_rollouts, generator).texts
    answers = [extract_answer(text) for text in texts]
    return [answers[i : i + num_rollouts] for i in range(0, len(answers), num_rollouts)]


@dataclass(frozen=True)
class Asked:
    """B rollouts with the model's state after their prompts, padded on the left, each prompt read once."""

    cache: DynamicCache  # keys and values, with their gradients if any
    mask_B_T: torch.Tensor  # 0 for padding
    hidden_B: torch.Tensor  # predicts the first token


def _asked(model: LlamaForCausalLM, prompts: Sequence[Sequence[int]], num_rollouts: int) -> Asked:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    hidden = model.model(
        ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state[:, -1]
    cache.batch_repeat_interleave(num_rollouts)
    return Asked(cache, mask.repeat_interleave(num_rollouts, 0), hidden.repeat_interleave(num_rollouts, 0))


class Decoder:
    """A Llama's next token, step by step: as in transformers, in a third of its time a token.

    At this size a model's arithmetic is the smaller part of a call; this avoids rebuilding masks and caches.
    """

    def __init__(self, model: LlamaForCausalLM, asked: Asked) -> None:
        self._model, layers = model, model.model.layers
        self._qkv = [
            torch.cat([p.weight for p in (a.q_proj, a.k_proj, a.v_proj)]) for a in (x.self_attn for x in layers)
        ]
        self._gate_up = [torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]) for layer in layers]
        rows, self._length = asked.mask_B_T.shape
        self._next_B = asked.mask_B_T.sum(-1)
        self._mask = torch.cat([asked.mask_B_T, asked.mask_B_T.new_ones(rows, MAX_TOKENS)], 1).bool()[:, None, None]
        self._keys, self._values = (
            [torch.cat([x, x.new_empty(rows, x.shape[1], MAX_TOKENS, x.shape[3])], 2) for x in column]
            for column in zip(*((layer.keys, layer.values) for layer in asked.cache.layers), strict=True)
        )

    def logits(self, token_B: torch.Tensor) -> torch.Tensor:
        model, config = self._model.model, self._model.config
        x = model.embed_tokens(token_B)
        cos, sin = (part[:, 0, None] for part in model.rotary_emb(x, self._next_B[:, None]))
        at, shape = self._length, (len(token_B), 3, config.num_attention_heads, config.head_dim)
        for i, layer in enumerate(model.layers):
            q, k, v = F.linear(_normed(x, layer.input_layernorm), self._qkv[i]).view(shape).unbind(1)
            self._keys[i][:, :, at] = k * cos + _turned(k) * sin
            self._values[i][:, :, at] = v
            heard = F.scaled_dot_product_attention(
                (q * cos + _turned(q) * sin)[:, :, None],
                self._keys[i][:, :, : at + 1],
                self._values[i][:, :, : at + 1],
                attn_mask=self._mask[..., : at + 1],
            )
            x = x + F.linear(heard.flatten(1), layer.self_attn.o_proj.weight)
            gate, up = F.linear(_normed(x, layer.post_attention_layernorm), self._gate_up[i]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer.mlp.down_proj.weight)
        self._length, self._next_B = at + 1, self._next_B + 1
        return self._model.lm_head(_normed(x, model.norm))


def _normed(x: torch.Tensor, norm: torch.nn.Module) -> torch.Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turned(x: torch.Tensor) -> torch.Tensor:
    """The other half of each pair of a rotary embedding, with its sign."""
    low, high = x.chunk(2, -1)
    return torch.cat([-high, low], -1)


def _drawn(shares_B_V: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One of V for each row, by one uniform number and the running sum: multinomial draws V numbers a row."""
    sums_B_V = shares_B_V.cumsum(-1)
    uniform_B = torch.rand(len(shares_B_V), 1, generator=generator)
    return torch.searchsorted(sums_B_V, uniform_B * sums_B_V[:, -1:], right=True)[:, 0].clamp(
        max=shares_B_V.shape[1] - 1
    )


def statistics(
    model: LlamaForCausalLM, responses: Responses, num_rollouts: int, names: Sequence[str] = ("log_probs",)
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token statistics of the responses (co_rewarding.algo.token_statistics): B x T each, and the mask of their tokens,
    B x T; padding is 0. Of `num_rollouts` rows that follow each other the prompt is read once."""
    asked = _asked(model, responses.prompts[::num_rollouts], num_rollouts)
    width = max(map(len, responses.tokens))
    ids_B_T = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens in responses.tokens])
    mask_B_T = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens in responses.tokens]).bool()
    positions_B_T = asked.mask_B_T.sum(-1, keepdim=True) + torch.arange(width - 1)
    hidden = model.model(  # padded on the right and causal
        ids_B_T[:, :-1],
        attention_mask=torch.cat([asked.mask_B_T, torch.ones_like(ids_B_T[:, :-1])], 1),
        position_ids=positions_B_T,
        past_key_values=asked.cache,
        use_cache=True,
    ).last_hidden_state
    hidden = torch.cat([asked.hidden_B[:, None], hidden], 1)
    found = token_statistics(model.lm_head(hidden[mask_B_T]), names=names, labels_T=ids_B_T[mask_B_T])
    zeros_B_T = torch.zeros(mask_B_T.shape)
    return {name: zeros_B_T.masked_scatter(mask_B_T, column) for name, column in found.items()}, mask_B_T
