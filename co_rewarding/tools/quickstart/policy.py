# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of dumped responses under the quickstart's model with a run's saved weights, in float64.

For recomputing a reward from the policy's logits: plain transformers, a row at a time, without verl's engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from co_rewarding.storage.rows import SYSTEM_PROMPT


def log_distributions(
    model_dir: Path, weights: Mapping[str, torch.Tensor], dumped: Iterable[dict[str, Any]], max_response_length: int
) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    """Each row with log π (T, V) over the tokens of its response.

    Args:
        dumped: rows of a training dump whose responses re-tokenize to the same tokens.
        max_response_length: of the run, in tokens; a shorter response ended with an end token.
    """
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64)
    model.load_state_dict(weights)
    for row in dumped:
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        response_ids = tokenizer(row["response"], add_special_tokens=False)["input_ids"]
        if len(response_ids) < max_response_length:  # not cut off: the end token was sampled, too
            response_ids = [*response_ids, tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([prompt_ids + response_ids])).logits[0, len(prompt_ids) - 1 : -1]
        yield row, torch.log_softmax(logits, dim=-1)
