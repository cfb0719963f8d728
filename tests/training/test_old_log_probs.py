# SPDX-License-Identifier: Apache-2.0
"""When a step needs no pass of the old log-probabilities. That the loss is the same is shown in test_engine.py."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.old_log_probs import SOURCE, old_log_probs_of, updates_own_suffice


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("co_rewarding.old_log_probs", "always"),
        ("co_rewarding.method", "entropy"),  # rewards what that pass says of each token
        ("co_rewarding.method", "majority_voting+0.1*self_certainty"),
        ("actor_rollout_ref.actor.ppo_mini_batch_size", 4),  # of 8 questions: the second update is off-policy
        ("actor_rollout_ref.actor.ppo_epochs", 2),
        ("actor_rollout_ref.actor.shuffle", True),
        ("algorithm.use_kl_in_reward", True),
        ("algorithm.rollout_correction.rollout_is", "token"),
        ("algorithm.rollout_correction.rollout_rs", "seq_mean_k3"),
        ("algorithm.rollout_correction.bypass_mode", True),
        ("trainer.critic_warmup", 1),
        ("trainer.device", "npu"),  # has verl's engine
    ],
)
def test_what_needs_a_pass(config: DictConfig, key: str, value: Any) -> None:
    config.data.train_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size = 8
    assert updates_own_suffice(config)
    OmegaConf.update(config, key, value)
    assert not updates_own_suffice(config)


@pytest.mark.parametrize("source", ["this_update", "last_update"])
def test_a_batch_is_as_before_after_the_block(source: Any) -> None:
    extra_info: dict[str, Any] = {"temperature": 1.0}
    with old_log_probs_of(extra_info, source):
        assert extra_info[SOURCE] == source
        # what was kept is handed over without a weight on the device
        assert extra_info.get("disable_auto_offload", False) == (source == "last_update")
    assert extra_info == {"temperature": 1.0}
