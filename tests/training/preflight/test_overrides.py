# SPDX-License-Identifier: Apache-2.0
"""Keys of an override that nothing reads: refused, with the key that was meant."""

import sys
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

import co_rewarding_i.main
from co_rewarding.training import launch as launch_module
from co_rewarding.training.launch import run_main
from co_rewarding.training.preflight.overrides import check_overrides, is_read


@pytest.mark.parametrize(
    "key",
    [
        "trainer.total_epochs",  # of YAML
        "trainer.wandb_proxy",  # of a block without a dataclass, read with .get
        "data.tool_config_path",
        "actor_rollout_ref.rollout.enable_sleep_mode",  # a field that YAML has not
        "actor_rollout_ref.rollout.engine_kwargs.vllm.anything",  # blocks that are handed on
        "actor_rollout_ref.actor.optim.override_optimizer_config.betas",
        "actor_rollout_ref.model.override_config.rope_scaling",
        "data.apply_chat_template_kwargs.date_string",
        "ray_kwargs.ray_init.runtime_env.env_vars.NAME",
    ],
)
def test_a_key_that_is_read(config: DictConfig, key: str) -> None:
    assert is_read(config, key)


@pytest.mark.parametrize(
    "key",
    [
        "trainer.total_epoch",
        "trainer.total_epoch.more",
        "trainr.total_epochs",
        "trainer.lr",
        "data.max_prompt_len",
        "actor_rollout_ref.rollout.enable_sleepmode",
        "actor_rollout_ref.actor.kl_coef",
        "total_epochs",
    ],
)
def test_a_key_that_nothing_reads(config: DictConfig, key: str) -> None:
    assert not is_read(config, key)
    OmegaConf.update(config, key, 1, force_add=True)  # being in the configuration is no reader
    assert not is_read(config, key)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What the program says to an override, "" where it is right; of all checks this one alone."""

    def run(override: str) -> str:
        monkeypatch.setattr(sys, "argv", ["main.py", override])

        def check_and_stop(config: DictConfig) -> None:
            check_overrides(config)
            raise ValueError("stop")

        monkeypatch.setattr(launch_module, "check_config", check_and_stop)
        with pytest.raises(SystemExit) as stop:
            run_main(co_rewarding_i.main.main)
        assert stop.value.code == 2
        stderr = capsys.readouterr().err
        assert stderr.count("\n") == 1
        return stderr.removeprefix("error: ").removesuffix("\n").removesuffix("stop")

    return run


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_slip_is_reported_with_the_key_that_was_meant(told: Callable[[str], str], plus: str) -> None:
    message = told(f"{plus}trainer.total_epoch=1")
    assert message == "trainer.total_epoch=1: unknown key, which nothing reads; is trainer.total_epochs meant?"


def test_a_key_of_another_block(told: Callable[[str], str]) -> None:
    message = told("trainer.train_batch_size=1")
    assert message.endswith("is data.train_batch_size meant?")


def test_a_key_that_yaml_lacks_and_verl_reads(told: Callable[[str], str]) -> None:
    assert "use +trainer.wandb_proxy=x" in told("trainer.wandb_proxy=x")  # Hydra's own advice, right here
    assert told("+trainer.wandb_proxy=x") == ""
    assert told("++trainer.total_epochs=2") == ""
    assert told("+data.apply_chat_template_kwargs.enable_thinking=False") == ""


def test_a_key_that_is_there_may_be_set_with_plusses(config: DictConfig, told: Callable[[str], str]) -> None:
    key = "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu"  # verl hands it on under a name it makes
    assert not is_read(config, key) and OmegaConf.select(config, key) is not None
    assert told(f"++{key}=9000") == ""
    assert told("++global_profiler.steps=[1,2]") == ""
