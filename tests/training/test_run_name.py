# SPDX-License-Identifier: Apache-2.0
"""A run that nobody named is named by method, model and data; a run that has a name keeps it, letter by letter."""

import os
import subprocess
from pathlib import Path

import pytest
from omegaconf import DictConfig

from co_rewarding.training.run_name import data_name, default_name, is_default


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/math/train_original.parquet", "math"),
        ("/d/data/toy_differences/train.parquet", "toy_differences"),
        ("data/amc/test.parquet", "amc"),  # test-time training
        ("data/math/train_rewrite_Qwen3-32B.parquet", "math-rewrite_Qwen3-32B"),  # the ablation on the other view
        ("data/dapo/paired_original.parquet", "dapo"),
        ("data/math/paired_rephrased.parquet", "math-rephrased"),
        ("/home/me/my_questions.parquet", "my_questions"),
    ],
)
def test_what_a_file_is_about(path: str, name: str) -> None:
    assert data_name(path) == name


def test_method_model_and_data(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUN_NAME", raising=False)
    config.data.train_files = "/d/data/math/train_original.parquet"
    for path in ("Qwen/Qwen3-4B-Base", "/models/Qwen3-4B-Base", "/models/Qwen3-4B-Base/"):
        config.actor_rollout_ref.model.path = path
        assert config.trainer.experiment_name == "co_rewarding_I-Qwen3-4B-Base-math"
        assert config.co_rewarding_run_dir.endswith("runs/co-rewarding/co_rewarding_I-Qwen3-4B-Base-math")
    config.data.train_files = ["/d/math/train.parquet", "/d/dapo/train.parquet", "/d/math/train_original.parquet"]
    assert default_name(config) == "co_rewarding_I-Qwen3-4B-Base-math-dapo"
    config.actor_rollout_ref.model.path = "/modèles (neu)/größe=1, {x}"
    assert default_name(config) == "co_rewarding_I-gr-e-1-x-math-dapo"
    assert is_default(config)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("my rewards/brevity.py:short", "brevity.short"),
        ("/home/me/c++/brevity.py:short", "brevity.short"),  # from wherever it is started
        ("my.lib.brevity:short", "brevity.short"),
        ("co_rewarding_I+0.1*~/brevity.py:short", "co_rewarding_I-0.1-brevity.short"),
        ("2*entropy + -0.5*random", "2-entropy--0.5-random"),
        ("no method", "no-method"),  # is refused later
    ],
)
def test_a_reward_of_ones_own_and_a_sum_make_a_legal_name(config: DictConfig, method: str, name: str) -> None:
    config.co_rewarding.method = method
    config.actor_rollout_ref.model.path, config.data.train_files = "m", "/d/math/train.parquet"
    assert default_name(config) == f"{name}-m-math"


def test_a_name_that_is_given_wins(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2024_11_26", "1e5", "null", "a=b, (c)", "comparison/entropy_seed1"):
        monkeypatch.setenv("RUN_NAME", name)
        assert config.trainer.experiment_name == name
        assert not is_default(config)
    monkeypatch.setenv("RUN_NAME", "")
    assert is_default(config)
    config.trainer.experiment_name = "mine"  # trainer.experiment_name=mine
    assert not is_default(config)


@pytest.mark.parametrize(
    "script",
    [
        "Co-rewarding-I/run_corewarding-I.sh", "Co-rewarding-II/run_corewarding-II.sh",
        "Co-rewarding-II/run_corewarding-III.sh", "scripts/run_baseline.sh", "scripts/run_ttt.sh",
    ],
)  # fmt: skip
def test_the_scripts_pass_a_name_on(repo: Path, tmp_path: Path, script: str) -> None:
    (tmp_path / "python").write_text('#!/bin/sh\nprintf %s "$RUN_NAME"\n')
    (tmp_path / "python").chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name != "RUN_NAME"}
    environment = clean | {"VIRTUAL_ENV": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for given in ({}, {"RUN_NAME": "2024_11_26 a=b"}):
        done = subprocess.run(["bash", repo / script], env=environment | given, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, given.get("RUN_NAME", "")), done.stderr
