# SPDX-License-Identifier: Apache-2.0
"""Columns of verl's batches: the hidden ground truth, and rewards as per-token scores."""

import numpy as np
import pytest
import torch
from tensordict import NonTensorData, NonTensorStack, TensorDict
from verl.utils import tensordict_utils as tu

from co_rewarding.training import rollout_io

REWARD_MODELS = [
    {"style": "rule", "ground_truth": "4"},
    {"style": "rule", "ground_truth": ""},
    {"style": "rule", "ground_truth": None},
]


@pytest.fixture
def batch() -> TensorDict:
    """Three rows made as verl makes them: object columns wrapped one by one."""
    return tu.get_tensordict(
        {
            "dummy_tensor": torch.zeros(3, 1, dtype=torch.uint8),
            "raw_prompt": np.array([[{"role": "user", "content": f"q{i}"}] for i in range(3)] + [None], dtype=object)[
                :3
            ],
            "reward_model": np.array(REWARD_MODELS, dtype=object),
            "uid": np.array(["u0", "u1", "u2"], dtype=object),
        }
    )


def test_column_gives_plain_values(batch: TensorDict) -> None:
    assert rollout_io.column(batch, "uid") == ["u0", "u1", "u2"]
    assert rollout_io.column(batch, "reward_model") == REWARD_MODELS
    assert rollout_io.column(batch, "raw_prompt") == [[{"role": "user", "content": f"q{i}"}] for i in range(3)]
    assert [type(value) for value in rollout_io.column(batch, "reward_model")] == [dict] * 3


def test_column_unwraps_what_a_stack_still_wraps() -> None:
    # TransferQueue returns each object in a wrapper of its own
    wrapped = TensorDict({"label": NonTensorStack(*[NonTensorData({"n": i}) for i in range(2)])}, batch_size=2)
    assert rollout_io.column(wrapped, "label") == [{"n": 0}, {"n": 1}]


def test_hide_ground_truth_moves_it(batch: TensorDict) -> None:
    hidden = rollout_io.hide_ground_truth(batch)
    # "" and None both mean that there is none
    assert rollout_io.column(hidden, rollout_io.GROUND_TRUTH) == ["4", "", ""]
    assert rollout_io.column(hidden, "reward_model") == [{"style": "rule", "ground_truth": ""}] * 3
    assert hidden is batch  # in place: no copy with the truth in it stays behind
    assert "4" not in str(rollout_io.column(batch, "reward_model"))


def test_hide_ground_truth_leaves_the_datasets_rows_alone() -> None:
    row = {"style": "rule", "ground_truth": "4"}
    rollout_io.hide_ground_truth(tu.get_tensordict({"reward_model": np.array([row], dtype=object)}))
    assert row == {"style": "rule", "ground_truth": "4"}


def test_hide_ground_truth_keeps_a_truth_of_zero() -> None:
    batch = tu.get_tensordict({"reward_model": np.array([{"ground_truth": "0"}, {"ground_truth": 0}], dtype=object)})
    assert rollout_io.column(rollout_io.hide_ground_truth(batch), rollout_io.GROUND_TRUTH) == ["0", "0"]


def test_with_column_adds_and_leaves_the_original_as_it_was(batch: TensorDict) -> None:
    before = set(batch.keys())
    copy = rollout_io.with_column(batch, rollout_io.VIEW, lambda _: "rephrased")
    assert rollout_io.column(copy, rollout_io.VIEW) == ["rephrased"] * 3
    assert set(batch.keys()) == before
    assert rollout_io.column(copy, "uid") == rollout_io.column(batch, "uid")


def test_with_column_replaces_in_the_copy_only(batch: TensorDict) -> None:
    copy = rollout_io.with_column(batch, "uid", lambda i: f"new{i}")
    assert rollout_io.column(copy, "uid") == ["new0", "new1", "new2"]
    assert rollout_io.column(batch, "uid") == ["u0", "u1", "u2"]


def test_with_column_takes_lists_of_messages_and_concatenates(batch: TensorDict) -> None:
    messages = [[{"role": "user", "content": f"other {i}"}, {"role": "user", "content": "?"}] for i in range(3)]
    copy = rollout_io.with_column(batch, "raw_prompt", messages.__getitem__)
    assert rollout_io.column(copy, "raw_prompt") == messages
    both = tu.concat_tensordict([batch, copy])
    assert len(both) == 6
    assert rollout_io.column(both, "raw_prompt")[3:] == messages


def test_reward_sits_on_the_last_token() -> None:
    scores = rollout_io.reward_tensor([1.0, 0.5, 0.0], [3, 1, 2])
    assert scores.dtype == torch.float32
    assert [row.tolist() for row in scores.unbind()] == [[0.0, 0.0, 1.0], [0.5], [0.0, 0.0]]


def test_an_empty_response_has_no_place_for_a_reward() -> None:
    assert [row.tolist() for row in rollout_io.reward_tensor([1.0, 1.0], [0, 2]).unbind()] == [[], [0.0, 1.0]]


def test_reward_tensor_refuses_another_number_of_rewards() -> None:
    with pytest.raises(ValueError):
        rollout_io.reward_tensor([1.0, 1.0], [2])


def test_rewards_survive_verls_padding_and_summing() -> None:
    # verl pads to the longest response and sums over tokens to get one score a response
    padded = rollout_io.reward_tensor([1.0, 1.0, 0.25], [4, 0, 2]).to_padded_tensor(0.0)
    assert padded.sum(-1).tolist() == [1.0, 0.0, 0.25]
    assert padded.shape == (3, 4)
