# SPDX-License-Identifier: Apache-2.0
"""Pairs that would make another experiment of a run are refused; the control is one setting away."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig

from co_rewarding.training.asking import settle
from co_rewarding.training.preflight.check import check_config


@pytest.fixture
def rephrased_as(config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path) -> Callable[[list[str]], None]:
    """`config` with these rephrased questions."""

    def change(texts: list[str]) -> None:
        rows = copy.deepcopy(sample_rows["train_rephrased"])
        for row, text in zip(rows, texts, strict=True):
            row["prompt"][-1]["content"] = text
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        config.data.train_aug_files = str(tmp_path / "x.parquet")

    return change


def questions(rows: list[dict[str, Any]]) -> list[str]:
    return [row["prompt"][-1]["content"] for row in rows]


def test_the_same_file_twice_is_another_experiment(
    config: DictConfig, refusal: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    config.data.train_aug_files = config.data.train_files
    refusal("data.train_files=", "data.train_aug_files=", "identical pairs", "16 of 16", "suspect_data=warn")
    config.co_rewarding.suspect_data = "warn"  # the control
    check_config(config)
    assert "WARNING: data.train_files=" in capsys.readouterr().out


def test_the_controls_of_co_rewarding_i(config: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    config.co_rewarding.method = "majority_voting_both_views"
    check_config(config)
    config.co_rewarding.method = "co_rewarding_I_same_wording"
    settle(config)
    assert "train_rephrased.parquet: is ignored, since co_rewarding_I_same_wording" in capsys.readouterr().out
    check_config(config)
    assert "identical pairs" not in capsys.readouterr().out


@pytest.mark.parametrize("method", ["majority_voting_both_views", "co_rewarding_I_same_wording"])
def test_what_a_control_of_co_rewarding_i_needs(config: DictConfig, refusal: Callable[..., str], method: str) -> None:
    config.data.train_aug_files = None
    config.co_rewarding.method = method
    refusal("data.train_aug_files=None", f"{method} needs the rephrased questions")
    config.data.custom_cls.name = "QuestionDataset"  # as scripts/run_baseline.sh has it
    refusal(f"co_rewarding.method={method}", "needs each question in two views", "script of Co-rewarding-I")


def test_shifted_by_a_row(
    sample_rows: dict[str, Any], rephrased_as: Callable[..., None], refusal: Callable[..., str]
) -> None:
    texts = questions(sample_rows["train_rephrased"])
    rephrased_as(texts[1:] + texts[:1])
    refusal("fit the question in the previous or next row better", "(rows 1, 2, 3, …)")


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "without a letter or digit"), ("<rewritten question>", "used for several questions")],
)
def test_nothing_but_a_placeholder(
    rephrased_as: Callable[..., None], refusal: Callable[..., str], text: str, told: str
) -> None:
    rephrased_as([text] * 16)
    refusal(told, "16 of 16")


def test_a_few_are_one_warning(
    config: DictConfig,
    sample_rows: dict[str, Any],
    rephrased_as: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = questions(sample_rows["train_rephrased"])
    texts[3], texts[5] = questions(sample_rows["train"])[3], "Add two numbers."
    rephrased_as(texts)
    check_config(config)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " WARNING: " in line]
    assert "identical pairs, which vote for themselves: 1 of 16 (rows 3)" in line
    assert "most of the question's numbers: 1 of 16 (rows 5)" in line


def test_questions_that_are_empty(
    config: DictConfig,
    refusal: Callable[..., str],
    sample_rows: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = copy.deepcopy(sample_rows["train"])
    config.co_rewarding.method, config.data.train_aug_files = "format_only", None  # one view is enough
    config.data.train_files = str(tmp_path / "y.parquet")
    rows[2]["prompt"][-1]["content"] = " "
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "y.parquet")
    check_config(config)
    assert "questions without a letter or digit: 1 of 16 (rows 2)" in capsys.readouterr().out
    for row in rows[:8]:
        row["prompt"][-1]["content"] = "."
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "y.parquet")
    refusal("data.train_files=", "questions without a letter or digit: 8 of 16")


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        (
            "reward_model",
            {"style": "rule", "ground_truth": 0},
            "reward_model.ground_truth is not text (0); write it as",
        ),
        ("reward_model", {"style": "rule", "ground_truth": ["7"]}, "reward_model.ground_truth is not text (['7'])"),
        ("reward_model", '{"ground_truth": "7"}', "reward_model is no struct"),
        ("extra_info", '{"index": 7}', "JSON text becomes one with json.loads"),
        ("extra_info", {"index": [7], "split": "test"}, "extra_info has no index"),
        ("prompt", [{"role": "user", "content": 7}], "prompt has a message without text"),
        ("prompt", [{"role": "human", "content": "7?"}], "whose role is none of system, user, assistant"),
        ("data_source", None, "data_source is not text (None)"),
    ],
)
@pytest.mark.parametrize("key", ["data.train_files", "data.val_files"])
def test_nested_columns_of_another_kind(
    refused_after: Callable[..., str],
    sample_rows: dict[str, Any],
    tmp_path: Path,
    key: str,
    column: str,
    value: Any,
    told: str,
) -> None:
    rows = [{**row, column: value} for row in sample_rows["test"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "z.parquet")
    refused_after(key, f"{tmp_path}/z.parquet", "z.parquet, row 0: ", told)
