# SPDX-License-Identifier: Apache-2.0
"""Sizes that do not fit together: batches, groups, micro-batches, devices, steps. One line before Ray starts."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight import check_config

BATCH = 8  # questions a step of the sample run in conftest.py


def test_fewer_questions_than_a_batch(config: DictConfig, refused_after: Callable[..., str]) -> None:
    config.actor_rollout_ref.actor.ppo_mini_batch_size = 32
    refused_after("data.train_batch_size", 32, "16 questions")


@pytest.mark.parametrize("n", [1, 0, -1, None, 2.5, "many"])
def test_a_group_that_cannot_vote(config: DictConfig, refusal: Callable[..., str], n: Any) -> None:
    OmegaConf.update(config, "actor_rollout_ref.rollout.n", n)
    refusal(f"actor_rollout_ref.rollout.n={n!r}", "at least 2", "NUM_ROLLOUTS")


def test_two_rollouts_are_enough(config: DictConfig) -> None:
    config.actor_rollout_ref.rollout.n = 2  # 8 questions × 2 views × 2 = 32 sequences
    for block, key in (("actor", "ppo_micro"), ("rollout", "log_prob_micro"), ("ref", "log_prob_micro")):
        config.actor_rollout_ref[block][f"{key}_batch_size_per_gpu"] = 32
    check_config(config)


def test_a_mini_batch_that_does_not_divide(refused_after: Callable[..., str]) -> None:
    refused_after(
        "actor_rollout_ref.actor.ppo_mini_batch_size",
        3,
        f"must divide data.train_batch_size={BATCH}",
        "questions",
    )


@pytest.mark.parametrize("key", ["data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size"])
@pytest.mark.parametrize("value", [0, -8, "many", 2.5, None])
def test_a_batch_that_is_no_number_of_questions(refused_after: Callable[..., str], key: str, value: Any) -> None:
    refused_after(key, value)


def test_a_generation_batch_that_does_not_divide(refused_after: Callable[..., str]) -> None:
    refused_after("data.gen_batch_size", 3, f"must divide data.train_batch_size={BATCH}")


@pytest.mark.parametrize(
    "key",
    [
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu",
    ],
)
class TestMicroBatch:
    @pytest.mark.parametrize("value", [5, 128])
    def test_does_not_divide(self, refused_after: Callable[..., str], key: str, value: int) -> None:
        # 8 questions × 2 views × 4 rollouts = 64 sequences on one device
        refused_after(key, value, "64 sequences", "MICRO_BATCH_SIZE")

    @pytest.mark.parametrize("value", [0, None, -4, "many"])
    def test_is_no_number_of_sequences(self, refused_after: Callable[..., str], key: str, value: Any) -> None:
        refused_after(key, value)


def test_devices_that_do_not_divide(config: DictConfig, refusal: Callable[..., str]) -> None:
    # 64 sequences over 3 devices
    config.trainer.n_gpus_per_node = 3
    refusal(f"ppo_mini_batch_size={BATCH}", "2 views x 4 rollouts = 64 sequences", "3 devices")


@pytest.mark.parametrize("key", ["trainer.n_gpus_per_node", "trainer.nnodes"])
@pytest.mark.parametrize("value", [0, -1, "many"])
def test_no_number_of_devices(refused_after: Callable[..., str], key: str, value: Any) -> None:
    refused_after(key, value)


def test_a_tensor_parallel_size_that_does_not_divide(refused_after: Callable[..., str]) -> None:
    refused_after("actor_rollout_ref.rollout.tensor_model_parallel_size", 2, "1 devices")


@pytest.mark.parametrize("value", [0, "many"])
def test_no_number_of_devices_of_an_engine(refused_after: Callable[..., str], value: Any) -> None:
    refused_after("actor_rollout_ref.rollout.tensor_model_parallel_size", value)


def test_more_steps_than_there_is_data(config: DictConfig, refused_after: Callable[..., str]) -> None:
    # 16 questions in batches of 8 for 1 epoch: 2 steps
    refused_after("trainer.total_training_steps", 3, "make 2 steps", "raise trainer.total_epochs")
    config.trainer.total_training_steps = 2
    check_config(config)
