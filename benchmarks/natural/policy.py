# SPDX-License-Identifier: Apache-2.0
"""A small Llama as a policy in plain torch: rollouts, and what it thinks of them.

Legend: B rollouts or sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.token_statistics import token_statistics
from co_rewarding.tools.quickstart.tiny_model import render_prompt

MAX_TOKENS = 32  # of a response; the longest worked solution takes 26 with its end


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
    width = max(map(len, prompts))
    ids_B_T = torch.tensor([[tokenizer.pad_token_id] * (width - len(prompt)) + prompt for prompt in prompts])
    mask_B_T = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache = DynamicCache(config=model.config)
    positions_B_T = (mask_B_T.cumsum(-1) - 1).clamp(min=0)
    hidden = model.model(
        ids_B_T, attention_mask=mask_B_T, position_ids=positions_B_T, past_key_values=cache, use_cache=True
    ).last_hidden_state[:, -1]
    cache.batch_repeat_interleave(num_rollouts)
    hidden, mask_B_T = hidden.repeat_interleave(num_rollouts, 0), mask_B_T.repeat_interleave(num_rollouts, 0)
    position_B = mask_B_T.sum(-1)
    ended_B = torch.zeros(len(mask_B_T), dtype=torch.bool)
    written: list[torch.Tensor] = []
    while True:
        logits_B_V = model.lm_head(hidden)
        next_B = logits_B_V.argmax(-1) if generator is None else _drawn(logits_B_V.softmax(-1), generator)
        next_B[ended_B] = tokenizer.pad_token_id
        written.append(next_B)
        ended_B |= next_B == tokenizer.eos_token_id
        if len(written) == MAX_TOKENS or ended_B.all():
            break
        mask_B_T = torch.cat([mask_B_T, mask_B_T.new_ones(len(mask_B_T), 1)], dim=1)
        hidden = model.model(
            next_B[:, None],
            attention_mask=mask_B_T,
            position_ids=position_B[:, None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        position_B = position_B + 1
    tokens = []
    for row in torch.stack(written, 1).tolist():
        end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
        tokens.append(row[:end])
    return Responses(
        prompts=[prompt for prompt in prompts for _ in range(num_rollouts)],
        tokens=tokens,
        texts=tokenizer.batch_decode(tokens, skip_special_tokens=True),
    )


def _drawn(shares_B_V: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One of V for each row, by one uniform number and the running sum: multinomial draws V numbers a row."""
    sums_B_V = shares_B_V.double().cumsum(-1)
    uniform_B = torch.rand(len(shares_B_V), 1, dtype=torch.float64, generator=generator)
    return torch.searchsorted(sums_B_V, uniform_B * sums_B_V[:, -1:], right=True)[:, 0].clamp(
        max=shares_B_V.shape[1] - 1
    )


def statistics(
    model: LlamaForCausalLM, responses: Responses, names: Sequence[str] = ("log_probs",)
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Token statistics of the responses (co_rewarding.algo.token_statistics): B x T each, and the mask of the
    responses' tokens, B x T. Padding is 0."""
    rows = list(zip(responses.prompts, responses.tokens, strict=True))
    width = max(len(prompt) + len(tokens) for prompt, tokens in rows)
    ids_B_T = torch.zeros(len(rows), width, dtype=torch.long)
    mask_B_T = torch.zeros(len(rows), width - 1, dtype=torch.bool)  # of the places that the next token is told from
    for row, (prompt, tokens) in enumerate(rows):
        ids_B_T[row, : len(prompt) + len(tokens)] = torch.tensor(prompt + tokens)
        mask_B_T[row, len(prompt) - 1 : len(prompt) + len(tokens) - 1] = True
    hidden = model.model(ids_B_T[:, :-1]).last_hidden_state  # right-padded and causal: needs no mask
    found = token_statistics(model.lm_head(hidden[mask_B_T]), names=names, labels_T=ids_B_T[:, 1:][mask_B_T])
    zeros_B_T = torch.zeros(mask_B_T.shape)
    return {name: zeros_B_T.masked_scatter(mask_B_T, column) for name, column in found.items()}, mask_B_T
