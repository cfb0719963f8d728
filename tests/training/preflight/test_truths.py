# SPDX-License-Identifier: Apache-2.0
"""Data with ground truths, with some, with none, and no validation data: what is said, and what is refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig

from co_rewarding.algo.methods import METHODS
from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.data import check_data, read_data

NOTHING = ({"style": "rule", "ground_truth": ""}, {"style": "rule", "ground_truth": None}, None, ...)
FILES = {"train_files": "train", "train_aug_files": "train_rephrased", "val_files": "test"}


@pytest.fixture
def unlabel(config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path) -> Callable[..., None]:
    """unlabel(keys, from_row, nothing): `config` reads files whose ground truths are `nothing` from that row on."""

    def write(keys: Sequence[str], from_row: int = 0, nothing: Any = NOTHING[0]) -> None:
        for key in keys:
            rows = [
                {**row, "reward_model": nothing if i >= from_row else row["reward_model"]}
                for i, row in enumerate(sample_rows[FILES[key]])
            ]
            rows = [{name: value for name, value in row.items() if value is not ...} for row in rows]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{key}.parquet")
            config.data[key] = str(tmp_path / f"{key}.parquet")

    return write


@pytest.mark.parametrize("nothing", NOTHING)
def test_a_self_rewarding_run_needs_no_label(
    config: DictConfig, unlabel: Callable[..., None], capsys: pytest.CaptureFixture[str], nothing: Any
) -> None:
    unlabel(FILES, nothing=nothing)
    check_config(config)
    printed = capsys.readouterr().out
    assert "data.train_files: no question has a ground truth, and none is needed" in printed
    assert "data.val_files: no question has a ground truth; instead of accuracy there is val-label-free/" in printed
    assert "VAL_NUM_ROLLOUTS=8" in printed  # one greedy response agrees with nobody
    config.actor_rollout_ref.rollout.val_kwargs.update(n=8, temperature=0.8)
    check_data(config, read_data(config))
    assert "VAL_NUM_ROLLOUTS" not in capsys.readouterr().out


def test_some_ground_truths_are_counted(
    config: DictConfig, unlabel: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    unlabel(FILES, from_row=2)
    check_config(config)
    printed = capsys.readouterr().out
    assert "data.train_files: 2 of 16 questions have a ground truth; metrics such as" in printed
    assert "data.val_files: 2 of 6 questions have a ground truth; accuracy covers these" in printed


def test_labelled_data_is_not_talked_about(config: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    check_data(config, read_data(config))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("files", [None, "", []])
def test_no_validation_file_is_no_validation(
    config: DictConfig, refusal: Callable[..., str], capsys: pytest.CaptureFixture[str], files: Any
) -> None:
    config.data.val_files = files
    check_config(config)
    assert "data.val_files: none, so nothing is validated\n" in capsys.readouterr().out
    config.trainer.val_only = True
    refusal("trainer.val_only=True: nothing to validate on", "VAL_FILE")


def test_a_validation_file_that_is_missing_says_how_to_do_without(refused_after: Callable[..., str]) -> None:
    refused_after("data.val_files", "/nowhere/test.parquet", "no such file", "VAL_FILE=", "data.val_files=null")


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.needs_labels])
def test_a_supervised_method_needs_some(
    config: DictConfig, unlabel: Callable[..., None], capsys: pytest.CaptureFixture[str], method: str
) -> None:
    unlabel(FILES)
    config.co_rewarding.method, config.data.train_aug_files = method, None
    with pytest.raises(ValueError, match=f"train_files.parquet: no row has .*co_rewarding.method={method} rewards by"):
        check_data(config, read_data(config))
    unlabel(["train_files"], from_row=15)  # MATH has two
    check_data(config, read_data(config))
    said = f"[co-rewarding] data.train_files: 15 of 16 questions have a ground truth; co_rewarding.method={method} "
    assert capsys.readouterr().out.startswith(said)
    unlabel(["train_files"], from_row=2)
    check_data(config, read_data(config))
    assert capsys.readouterr().out.startswith("[co-rewarding] WARNING: data.train_files: 2 of 16")
