# SPDX-License-Identifier: Apache-2.0
"""Folders that cannot be written and loggers that are none, and values of vLLM that it cannot have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.outputs import FOLDERS, WANDB_MODES, check_loggers


@pytest.mark.parametrize("key", [key for key in FOLDERS if key != "trainer.default_local_dir"])  # checkpoint.py's
def test_a_file_in_the_place_of_a_folder(refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused_after(key, f"{tmp_path}/file/run", "cannot be written (Not a directory)", "to a writable folder")


@pytest.mark.parametrize("key", list(FOLDERS))
@pytest.mark.parametrize("folder", ["/proc/run", "/sys/run/a", "/dev/fd/run"])
def test_a_folder_that_takes_no_files(refused_after: Callable[..., str], key: str, folder: str) -> None:
    refused_after(key, folder, "cannot be written (")


def test_a_folder_that_does_not_exist_yet(config: DictConfig, tmp_path: Path) -> None:
    config.co_rewarding_run_dir = f"{tmp_path}/a/b/c"
    check_config(config)
    assert not list(tmp_path.iterdir())  # looking leaves nothing behind


@pytest.mark.parametrize("logger", ["consol", ["console", "wandbb"], "file tensorboard", None, 7, [["console"]]])
def test_a_logger_that_verl_does_not_know(refusal: Callable[..., str], config: DictConfig, logger: Any) -> None:
    config.trainer.logger = logger
    refusal(f"trainer.logger={logger}: must be a list of ", "tensorboard", "LOGGER=")


def test_a_logger_whose_package_is_not_installed(refused_after: Callable[..., str]) -> None:
    refused_after("trainer.logger", ["console", "mlflow"], "mlflow needs the package mlflow, which is not installed")


def test_a_single_logger(config: DictConfig) -> None:
    for logger in ("console", ["file"], []):
        config.trainer.logger = logger
        check_loggers(config)


def test_a_mode_that_wandb_does_not_know(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config.trainer.logger = ["wandb"]
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match="WANDB_MODE=sometimes: must be one of online, offline"):
        check_loggers(config)
    for mode in WANDB_MODES:
        monkeypatch.setenv("WANDB_MODE", mode)
        check_loggers(config)
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    config.trainer.logger = ["console"]  # whom it is no concern of
    check_loggers(config)


@pytest.mark.parametrize(
    ("key", "values", "told"),
    [
        ("rollout.name", ("sglang", None), "must be 'vllm'"),
        ("rollout.max_model_len", (10, 191, "many", True), "data.max_prompt_length + data.max_response_length = 192"),
        ("rollout.gpu_memory_utilization", (0, 0.0), "must be above 0"),
        ("model.lora_alpha", (0, "many", None), "must be a whole number from 1"),
    ],
)
def test_what_vllm_and_lora_cannot_have(
    config: DictConfig, refusal: Callable[..., str], key: str, values: tuple[Any, ...], told: str
) -> None:
    for value in values:
        changed = config.copy()
        OmegaConf.update(changed, f"actor_rollout_ref.{key}", value)
        with pytest.raises(ValueError) as refused:
            check_config(changed)
        assert f"actor_rollout_ref.{key}=" in str(refused.value) and told in str(refused.value)
    config.actor_rollout_ref.rollout.max_model_len = 192
    check_config(config)
