# SPDX-License-Identifier: Apache-2.0
"""The columns that this project adds to verl's batches, named once, and the conversions between rows and tensors.

Axes: N rows of a batch in any order (P questions × V views × G rollouts, less what failed), T response tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import NonTensorData, TensorDict
from verl.utils import tensordict_utils as tu

from co_rewarding.storage.rows import ground_truth

QUESTION = "question"  # str, `extra_info.index` of the row: the same for both views of a pair
VIEW = "view"  # "original" or "rephrased"
GROUND_TRUTH = "ground_truth"  # str, "" where there is none; read by metrics and the dump, never by a reward


def column(batch: TensorDict, name: str) -> list[Any]:
    """Column `name` as plain Python values (verl wraps objects one by one)."""
    return [value.data if isinstance(value, NonTensorData) else value for value in batch[name]]


def hide_ground_truth(batch: TensorDict) -> TensorDict:
    """Move the ground truth of a training batch from where verl's reward loop looks for it to our own column, in place.

    With an empty `reward_model.ground_truth`, verl's per-response reward cannot depend on it (DESIGN promise 1: a
    self-rewarding method never reads a ground truth for its reward).
    """
    reward_model_N = column(batch, "reward_model")
    tu.assign_non_tensor_stack(batch, GROUND_TRUTH, [ground_truth({"reward_model": row}) for row in reward_model_N])
    tu.assign_non_tensor_stack(batch, "reward_model", [{**row, "ground_truth": ""} for row in reward_model_N])
    return batch


def with_column(batch: TensorDict, name: str, make: Callable[[int], Any]) -> TensorDict:
    """A shallow copy of `batch` whose column `name` is make(0), make(1), …; the given batch is left as it was."""
    copy = batch.copy()
    tu.assign_non_tensor_stack(copy, name, [make(i) for i in range(len(batch))])
    return copy


def reward_tensor(rewards_N: Sequence[float], lengths_N: Sequence[int]) -> torch.Tensor:
    """Outcome rewards as verl's `rm_scores`: the reward on the last response token, 0 elsewhere.

    Args:
        rewards_N: one reward a row.
        lengths_N: T, the tokens of each response; 0 is allowed (no place for a reward).

    Returns:
        jagged nested float32 tensor of these lengths.
    """
    rows = []
    for reward, length in zip(rewards_N, lengths_N, strict=True):
        row = torch.zeros(length, dtype=torch.float32)
        row[length - 1 :] = reward
        rows.append(row)
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
