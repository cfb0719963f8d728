# SPDX-License-Identifier: Apache-2.0
"""The responses of a step: read out of verl's queue, and dumped so that a person can read what was rewarded.

Legend: N responses, in the order in which they were asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transfer_queue as tq

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.methods import Voter
from co_rewarding.algo.rewards import Rollout, Scores
from co_rewarding.storage.files import json_line
from co_rewarding.training import batch_io


@dataclass(frozen=True)
class Response:
    """One response as the vote, the dump and the metrics see it."""

    key: str  # in verl's queue
    rollout: Rollout
    prompt: str  # the user's message
    text: str
    length: int  # T, tokens
    ground_truth: str  # "" where there is none; for metrics and the dump


def read_responses(keys: Sequence[str], partition_id: str, voter: Voter, tokenizer: Any) -> list[Response]:
    """The responses behind `keys` (verl's <prompt>_<rollout>_<turn>), in the order in which they were asked for."""
    # verl hands them over in the order of its load balancing; the vote's tie-break is first come
    keys = sorted(keys, key=lambda key: (key.rsplit("_", 2)[0], *map(int, key.rsplit("_", 2)[1:])))
    names = [batch_io.QUESTION, batch_io.VIEW, "raw_prompt", batch_io.GROUND_TRUTH]
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["responses", *names])
    texts_N = tokenizer.batch_decode(data["responses"].unbind(), skip_special_tokens=True)
    lengths_N = data["responses"].offsets().diff().tolist()
    return [
        Response(
            key=key,
            rollout=Rollout(question=question, view=view, voter=voter, answer=extract_answer(text)),
            prompt=messages[-1]["content"],
            text=text,
            length=length,
            ground_truth=truth,
        )
        for key, text, length, question, view, messages, truth in zip(
            keys, texts_N, lengths_N, *(batch_io.column(data, name) for name in names), strict=True
        )
    ]


def dump_rows(step: int, responses: Sequence[Response], scores: Scores) -> list[dict[str, Any]]:
    """One JSON object a response, with what it was compared with and what that earned."""
    return [
        {
            "step": step,
            "question": response.rollout.question,
            "view": response.rollout.view,
            "voter": response.rollout.voter,
            "prompt": response.prompt,
            "response": response.text,
            "answer": response.rollout.answer,
            "label": label,
            "reward": reward,
            "ground_truth": response.ground_truth,
        }
        for response, label, reward in zip(responses, scores.labels, scores.rewards, strict=True)
    ]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(map(json_line, rows))
