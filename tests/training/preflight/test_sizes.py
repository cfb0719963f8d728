# SPDX-License-Identifier: Apache-2.0
"""Sizes that do not fit together: batches, groups, micro-batches, devices, steps. One line before Ray starts."""

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight.batches import MICRO_BATCH_KEYS, TOKEN_KEYS, check_batch_sizes
from co_rewarding.training.preflight.check import check_config

BATCH = 8  # questions a step of the sample run in conftest.py


def test_fewer_questions_than_a_batch(config: DictConfig, refused_after: Callable[..., str]) -> None:
    config.actor_rollout_ref.actor.ppo_mini_batch_size = 32
    refused_after("data.train_batch_size", 32, "16 questions")


@pytest.mark.parametrize("n", [1, 0, -1, None, 2.5, "many"])
def test_a_group_that_cannot_vote(config: DictConfig, refusal: Callable[..., str], n: Any) -> None:
    OmegaConf.update(config, "actor_rollout_ref.rollout.n", n)
    refusal(f"actor_rollout_ref.rollout.n={n!r}", "from 2 to 4096", "NUM_ROLLOUTS")


def test_fewer_votes_than_are_trained_on(config: DictConfig, refusal: Callable[..., str]) -> None:
    config.co_rewarding.num_votes = 3
    refusal("co_rewarding.num_votes=3: must be at least actor_rollout_ref.rollout.n=4", "NUM_VOTES")
    for value in (4, 7, 4096):  # only what is trained on is divided over devices
        config.co_rewarding.num_votes = value
        check_config(config)


def test_two_rollouts_are_enough(config: DictConfig) -> None:
    config.actor_rollout_ref.rollout.n = 2  # 8 questions × 2 views × 2 = 32 sequences
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


@pytest.mark.parametrize("key", MICRO_BATCH_KEYS)
class TestMicroBatch:
    @pytest.fixture(autouse=True)
    def of_fixed_size(self, config: DictConfig) -> None:
        config.actor_rollout_ref.actor.use_dynamic_bsz = False
        for key in MICRO_BATCH_KEYS:
            OmegaConf.update(config, key, 64)
        check_config(config)

    @pytest.mark.parametrize("value", [5, 128])
    def test_does_not_divide(self, refused_after: Callable[..., str], key: str, value: int) -> None:
        # 8 questions × 2 views × 4 rollouts = 64 sequences on one device
        refused_after(key, value, "64 sequences", "use_dynamic_bsz=True")

    @pytest.mark.parametrize("value", [0, None, -4, "many"])
    def test_is_no_number_of_sequences(self, refused_after: Callable[..., str], key: str, value: Any) -> None:
        refused_after(key, value)


@pytest.mark.parametrize("key", MICRO_BATCH_KEYS)
@pytest.mark.parametrize("suffix", ["", "_per_gpu"])
def test_a_number_of_sequences_that_verl_would_ignore(refused_after: Callable[..., str], key: str, suffix: str) -> None:
    refused_after(
        key.removesuffix("_per_gpu") + suffix, 4, "is ignored with", "use_dynamic_bsz=True", "MAX_TOKENS_PER_GPU"
    )


def test_the_variable_of_older_run_scripts(refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_BATCH_SIZE", "4")
    refusal("MICRO_BATCH_SIZE=4", "set MAX_TOKENS_PER_GPU")


@pytest.mark.parametrize("key", TOKEN_KEYS)
@pytest.mark.parametrize("value", [191, None, 0, "many", 8192.5])
def test_tokens_of_a_pass(refused_after: Callable[..., str], config: DictConfig, key: str, value: Any) -> None:
    # a prompt of 128 and a response of 64
    OmegaConf.update(config, key, 192)
    check_config(config)
    refused_after(key, value, "at least 192", "MAX_TOKENS_PER_GPU")


def test_devices_that_do_not_divide(config: DictConfig, refusal: Callable[..., str]) -> None:
    # 64 sequences over 3 devices
    config.trainer.n_gpus_per_node = 3
    refusal(f"ppo_mini_batch_size={BATCH}", "2 views x 4 rollouts = 64 sequences", "3 devices")


@pytest.mark.parametrize("key", ["trainer.n_gpus_per_node", "trainer.nnodes"])
@pytest.mark.parametrize("value", [0, -1, "many"])
def test_no_number_of_devices(refused_after: Callable[..., str], key: str, value: Any) -> None:
    refused_after(key, value)


@pytest.mark.parametrize("nodes", [1, 2])  # two devices of two machines are not one engine's
def test_a_tensor_parallel_size_that_does_not_divide(config: DictConfig, nodes: int) -> None:
    config.trainer.nnodes = nodes
    config.actor_rollout_ref.rollout.tensor_model_parallel_size = 2
    with pytest.raises(ValueError, match=r"tensor_model_parallel_size=2: must divide trainer\.n_gpus_per_node=1: "):
        check_batch_sizes(config)


@pytest.mark.parametrize("value", [0, "many"])
def test_no_number_of_devices_of_an_engine(refused_after: Callable[..., str], value: Any) -> None:
    refused_after("actor_rollout_ref.rollout.tensor_model_parallel_size", value)


def test_more_steps_than_there_is_data(config: DictConfig, refused_after: Callable[..., str]) -> None:
    # 16 questions in batches of 8 for 1 epoch: 2 steps
    refused_after("trainer.total_training_steps", 3, "make 2 steps", "raise trainer.total_epochs")
    config.trainer.total_training_steps = 2
    check_config(config)
