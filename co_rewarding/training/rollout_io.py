# SPDX-License-Identifier: Apache-2.0
"""Conversion between verl's batches and our values: added columns, responses read from verl's queue, rewards written
into it, and the dump that shows what was rewarded.

Legend: N rows of a batch in any order (P questions × V views × G rollouts, less what failed), T response tokens.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import NonTensorData, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_corr_metrics_from_logprobs
from verl.utils import tensordict_utils as tu
from verl.workers.utils.padding import response_from_nested

from co_rewarding.algo.answer_format import answer_format, truth_of
from co_rewarding.algo.rollouts import Rollout, Scores, Voter
from co_rewarding.algo.token_statistics import response_means
from co_rewarding.storage.files import json_line
from co_rewarding.storage.rows import ground_truth
from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES, stated_as
from co_rewarding.training.decoding import TextDecoder

QUESTION = "question"  # str, `extra_info.index` of the row: the same for both views of a pair
VIEW = "view"  # "original" or "rephrased"
GROUND_TRUTH = "ground_truth"  # str, "" if none
STOPPED = "stopped"  # bool, of a rollout that only votes: stopped when the vote was decided; extra field, too
STATED_AS = "stated_as"  # {answer_format, choices} of the row, as storage.stated_as reads them


@dataclass(frozen=True, eq=False)
class Response:
    """One response, for reward, dump and metrics."""

    key: str  # in verl's queue
    rollout: Rollout
    prompt: str  # the user's message
    text: str
    tokens_T: np.ndarray
    ground_truth: str  # "" if there is none
    answer_format: str = ""  # answer format; "": the default
    choices: tuple[str, ...] = ()  # texts of its options

    @property
    def length(self) -> int:
        """T, tokens."""
        return len(self.tokens_T)

    @property
    def truth(self) -> str | None:
        """The ground truth as an answer; None if missing."""
        return truth_of(self.ground_truth, self.answer_format, self.choices)


def column(batch: TensorDict, name: str) -> list[Any]:
    """Column `name` as plain Python values (verl wraps objects one by one)."""
    return [value.data if isinstance(value, NonTensorData) else value for value in batch[name]]


def with_column(batch: TensorDict, name: str, make: Callable[[int], Any]) -> TensorDict:
    """A shallow copy of `batch` whose column `name` is make(0), make(1), …; `batch` is unchanged."""
    copy = batch.copy()
    tu.assign_non_tensor_stack(copy, name, [make(i) for i in range(len(batch))])
    return copy


def hide_ground_truth(batch: TensorDict) -> TensorDict:
    """Move the ground truth of a training batch from where verl's reward loop reads it to our column, in place, so that
    verl's per-response reward cannot depend on it."""
    reward_model_N = column(batch, "reward_model")
    tu.assign_non_tensor_stack(batch, GROUND_TRUTH, [ground_truth({"reward_model": row}) for row in reward_model_N])
    tu.assign_non_tensor_stack(batch, "reward_model", [{**row, "ground_truth": ""} for row in reward_model_N])
    return batch


def first_rollouts(batch: KVBatchMeta, n: int) -> tuple[KVBatchMeta, list[str]]:
    """The batch with the first n rollouts of each prompt, by number, and the keys of the others, in order.

    Lost rollouts are replaced by the next ones of the prompt, if any.
    """
    of_prompt: dict[str, list[str]] = {}
    for key in sorted(batch.keys, key=_order_of_request):
        of_prompt.setdefault(_order_of_request(key)[0], []).append(key)
    first = {key for keys in of_prompt.values() for key in keys[:n]}
    others = [key for keys in of_prompt.values() for key in keys[n:]]
    return batch.select_keys([key for key in batch.keys if key in first]), others


def split_by_prompt(batch: KVBatchMeta, uids: Collection[str]) -> tuple[KVBatchMeta, KVBatchMeta]:
    """The rows of these prompts, and the others."""
    uids = set(uids)
    is_theirs = [_order_of_request(key)[0] in uids for key in batch.keys]
    theirs, others = (
        batch.select_keys([key for key, theirs in zip(batch.keys, is_theirs, strict=True) if theirs is wanted])
        for wanted in (True, False)
    )
    return theirs, others


def read_responses(
    keys: Sequence[str],
    partition_id: str,
    voter: Voter,
    decoder: TextDecoder,
    usual_format: str = "",
    *,
    trained: bool = True,
    may_be_stopped: bool = False,
) -> list[Response]:
    """N, the responses behind `keys` (verl's <prompt>_<rollout>_<turn>), in the order of their requests.

    Args:
        usual_format: answer format of rows that name none (`co_rewarding.answer_format`).
        trained: whether they are trained on, if they are the student's.
        may_be_stopped: whether they have the column STOPPED.
    """
    # verl returns them in load-balancing order; the vote breaks ties by who came first
    keys = sorted(keys, key=_order_of_request)
    names = [QUESTION, VIEW, "raw_prompt", GROUND_TRUTH, STATED_AS]
    names += [STOPPED] if may_be_stopped else []
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=["responses", *names])
    tokens, offsets = data["responses"].values().numpy(), data["responses"].offsets().numpy()
    responses = []
    for key, text, tokens_T, question, view, messages, truth, stated, *rest in zip(
        keys,
        decoder.texts(tokens, offsets),
        np.split(tokens, offsets[1:-1]),
        *(column(data, name) for name in names),
        strict=True,
    ):
        spec, choices = stated_as(stated, usual_format)
        stopped = bool(rest and rest[0])
        answer = None if stopped else answer_format(spec).extract(text, choices)
        rollout = Rollout(question, view, voter, answer, trained, stopped)
        responses.append(Response(key, rollout, messages[-1]["content"], text, tokens_T, truth, spec, choices))
    return responses


def read_and_clear(keys: Sequence[str], partition_id: str, *how: Any, **options: Any) -> list[Response]:
    """`read_responses` of N that only vote; they leave verl's queue, so training never sees them."""
    if not keys:
        return []
    responses = read_responses(keys, partition_id, *how, trained=False, **options)
    tq.kv_clear(keys=list(keys), partition_id=partition_id)
    return responses


def _order_of_request(key: str) -> tuple[str, int, int]:
    prompt, rollout, turn = key.rsplit("_", 2)
    return prompt, int(rollout), int(turn)


def read_statistics(responses: Sequence[Response], partition_id: str, name: str) -> list[float | None]:
    """N, the mean of a token statistic (co_rewarding.algo.token_statistics) over each response."""
    keys = [response.key for response in responses]
    data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=[name, "response_mask"])
    if name not in data.keys():  # noqa: SIM118 - a TensorDict iterates over rows
        raise ValueError(
            f"co_rewarding.method: it rewards {name}, but the engine has no such column on this device; see "
            "actor_rollout_ref.model.external_lib"
        )
    statistic_N_T = data[name]
    if name != "entropy":  # verl cuts its column to the response; ours still has the length of the sequence
        statistic_N_T = response_from_nested(statistic_N_T, data["response_mask"])
    return response_means(statistic_N_T, data["response_mask"], name)


def engine_gap(batch: KVBatchMeta) -> dict[str, float]:
    """verl's divergences between rollout and trained policy, `rollout_corr/*`; empty if rollouts have none."""
    names = ["old_log_probs", "rollout_log_probs", "response_mask"]
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    if "rollout_log_probs" not in data.keys():  # noqa: SIM118 - a TensorDict iterates over rows
        return {}
    padded = data.to_padded_tensor()
    return compute_rollout_corr_metrics_from_logprobs(*(padded[name] for name in names))


def write_rewards(responses: Sequence[Response], rewards_N: Sequence[float | None], partition_id: str) -> None:
    """Write rewards into verl's queue, as `rm_scores`."""
    # a response without tokens may have no reward, and has no place for one
    scores = reward_tensor([reward or 0.0 for reward in rewards_N], [response.length for response in responses])
    fields = TensorDict({"rm_scores": scores}, batch_size=len(responses))
    tq.kv_batch_put(keys=[response.key for response in responses], partition_id=partition_id, fields=fields)


def reward_tensor(rewards_N: Sequence[float], lengths_N: Sequence[int]) -> torch.Tensor:
    """Outcome rewards as verl's `rm_scores`: the reward on the last response token, 0 elsewhere.

    Args:
        rewards_N: one reward a row.
        lengths_N: T, the tokens of each response; 0 is allowed (no place for a reward).

    Returns:
        jagged nested float32 tensor of these lengths.
    """
    rewards, lengths = torch.tensor(rewards_N, dtype=torch.float32), torch.tensor(lengths_N, dtype=torch.int64)
    if rewards.shape != lengths.shape:
        raise ValueError(f"{len(rewards)} rewards for {len(lengths)} responses")
    scores = torch.zeros(int(lengths.sum()), dtype=torch.float32)
    scores[lengths.cumsum(0)[lengths > 0] - 1] = rewards[lengths > 0]
    # not nested_tensor_from_jagged, whose padding is as wide as all rows together unless given the longest
    return torch.nested.as_nested_tensor(list(scores.split(lengths.tolist())), layout=torch.jagged)


def dump_rows(step: int, responses: Sequence[Response], scores: Scores) -> list[dict[str, Any]]:
    """One JSON object a response, with its label and its reward (of a sum also `rewards`).

    If some student rollouts only vote, every row says whether it was trained on, and stopped ones say so.
    """
    some_only_vote = any(not row.rollout.trained and row.rollout.voter == "student" for row in responses)
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
            **({"rewards": scores.terms_of_row(row)} if scores.rewards_of_term else {}),
            "ground_truth": response.ground_truth,
            "tokens": response.length,
            **({ANSWER_FORMAT: response.answer_format} if response.answer_format else {}),
            **({CHOICES: response.choices} if response.choices else {}),
            **({"trained": response.rollout.trained} if some_only_vote else {}),
            **({STOPPED: True} if response.rollout.stopped else {}),
        }
        for row, (response, label, reward) in enumerate(zip(responses, scores.row_labels, scores.rewards, strict=True))
    ]


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(map(json_line, rows))
