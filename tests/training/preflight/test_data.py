# SPDX-License-Identifier: Apache-2.0
"""Data files: missing, unreadable, of another schema, or no pairs. One line says so before Ray starts.

The checks run on the real composed configuration (see `config`, `refusal` and `refused_after` in conftest.py).
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.data import check_data, read_data


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def edited(rows: list[dict[str, Any]], row: int, **columns: Any) -> list[dict[str, Any]]:
    """A copy of `rows` with columns of one row replaced."""
    rows = copy.deepcopy(rows)
    rows[row].update(columns)
    return rows


def test_the_good_configuration_passes(config: DictConfig) -> None:
    check_config(config)


def test_lists_of_files_pass(config: DictConfig, sample_folder: Path) -> None:
    for key, name in (("train_files", "train"), ("train_aug_files", "train_rephrased"), ("val_files", "test")):
        config.data[key] = [f"{sample_folder}/{name}.parquet"]
    check_config(config)


def test_validation_questions_that_are_trained_on(
    config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*rows: dict[str, Any]) -> str:
        config.data.val_files = str(write(tmp_path / "val.parquet", list(rows)))
        check_data(config, read_data(config))
        return capsys.readouterr().out

    def asks(text: str) -> dict[str, Any]:
        return {**sample_rows["test"][0], "prompt": [{"role": "user", "content": text}]}

    original, rephrased = (sample_rows[name][1]["prompt"][-1]["content"] for name in ("train", "train_rephrased"))
    assert "also trained on" not in printed(asks("Another question?"))
    warning = "val.parquet: validation questions that are also trained on: 2 of 3 (rows 1, 2)"
    assert warning in printed(asks("Another question?"), asks(f" {original}\n"), asks(rephrased))
    config.data.val_files = config.data.train_files  # test-time training
    check_data(config, read_data(config))
    assert "also trained on" not in capsys.readouterr().out


@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files", "data.val_files"])
class TestFile:
    def test_missing(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        refused_after(key, f"{tmp_path}/nowhere.parquet", "no such file", "; data/README.md")
        for name in ("math/test", "dapo/paired_original"):
            command = f"python scripts/data_preprocess/rephrased.py {name.partition('/')[0]} gets the published files"
            refused_after(key, f"{tmp_path}/{name}.parquet", command, "data/README.md")

    def test_relative_and_missing(self, refused_after: Callable[..., str], key: str) -> None:
        # the message says where it looked, since the working folder decides
        refused_after(key, "nowhere/x.parquet", "no such file", f"{Path.cwd()}/nowhere/x.parquet")

    def test_a_folder(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        refused_after(key, str(tmp_path), "a folder without a file of questions")

    def test_not_parquet(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        (tmp_path / "text.parquet").write_text('{"prompt": "no parquet"}\n' * 20)
        refused_after(key, f"{tmp_path}/text.parquet", "not readable as parquet")

    def test_cut_short(self, refused_after: Callable[..., str], key: str, sample_folder: Path, tmp_path: Path) -> None:
        # a download that broke off
        (tmp_path / "half.parquet").write_bytes((sample_folder / "train.parquet").read_bytes()[:-100])
        refused_after(key, f"{tmp_path}/half.parquet", "not readable as parquet")

    def test_zero_bytes(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        (tmp_path / "empty.parquet").touch()
        refused_after(key, f"{tmp_path}/empty.parquet", "not readable as parquet")

    def test_no_utf8(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        text = pa.array([b"What is \xff?"]).view(pa.string())
        pq.write_table(pa.table({"data_source": text}), tmp_path / "latin.parquet")
        refused_after(key, f"{tmp_path}/latin.parquet", "not readable in column 'data_source'", "UTF-8")

    def test_no_structs(
        self, refused_after: Callable[..., str], key: str, sample_rows: dict[str, Any], tmp_path: Path
    ) -> None:
        rows = sample_rows["test" if key == "data.val_files" else "train"]
        texts = [{**row, "reward_model": json.dumps(row["reward_model"])} for row in rows]
        path = write(tmp_path / "json.parquet", texts)
        refused_after(key, str(path), "json.parquet, row 0: reward_model is no struct", "('{", "make it a struct")

    def test_no_rows(self, refused_after: Callable[..., str], key: str, sample_folder: Path, tmp_path: Path) -> None:
        pq.write_table(pq.read_table(sample_folder / "train.parquet").slice(0, 0), tmp_path / "none.parquet")
        refused_after(key, f"{tmp_path}/none.parquet", "no rows")

    def test_wrong_columns(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        write(tmp_path / "columns.parquet", [{"question": "1+1?", "answer": "2", "prompt": []}])
        refused_after(
            key,
            f"{tmp_path}/columns.parquet",
            "missing columns data_source, extra_info",
            "found question, answer, prompt",
            "data/README.md",
        )

    @pytest.mark.parametrize(
        "prompt",
        [
            "What is 1 + 1?",
            [{"role": "user", "text": "What is 1 + 1?"}],
            [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}],
            [],
        ],
        ids=["text", "no-content", "ends-with-the-answer", "no-messages"],
    )
    def test_wrong_prompts(
        self, refused_after: Callable[..., str], key: str, sample_rows: dict[str, Any], tmp_path: Path, prompt: Any
    ) -> None:
        write(tmp_path / "p.parquet", [{**row, "prompt": prompt} for row in sample_rows["train"]])
        refused_after(key, f"{tmp_path}/p.parquet", "row 0: prompt ", "{role, content}")

    def test_another_format(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        (tmp_path / "data.xlsx").write_bytes(b"PK")
        refused_after(key, f"{tmp_path}/data.xlsx", ".xlsx is none of .csv,")

    def test_columns_that_cannot_be_found(self, refused_after: Callable[..., str], key: str, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("text,key\n1+1?,2\n")
        refused_after(
            key, f"{tmp_path}/data.csv", "no column for the question", "--question", "text, key", "my_questions"
        )


def test_another_suffix(config: DictConfig, sample_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.pq").write_bytes((sample_folder / "train.parquet").read_bytes())
    OmegaConf.update(config, "data.train_files", f"{tmp_path}/data.pq")
    assert read_data(config)["data.train_files"][0].rows == read_data(config)["data.train_files"][0].rows[:16]
    check_data(config, read_data(config))


def test_tables_of_any_format_pass(config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path) -> None:
    for key, name in (("train_files", "train"), ("train_aug_files", "train_rephrased"), ("val_files", "test")):
        lines = [
            json.dumps({"problem": row["prompt"][-1]["content"], "target": int(row["reward_model"]["ground_truth"])})
            for row in sample_rows[name]
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        OmegaConf.update(config, f"data.{key}", f"{tmp_path}/{name}.jsonl")
    check_config(config)
    rows = read_data(config)["data.train_files"][0].rows
    assert [{**row, "data_source": "toy", "ability": "math"} for row in rows] == [
        {**row, "answer_format": None, "choices": None} for row in sample_rows["train"]
    ]


@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files"])
def test_null(config: DictConfig, refusal: Callable[..., str], key: str) -> None:
    OmegaConf.update(config, key, None)
    refusal(key)


@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files", "data.val_files"])
def test_a_file_that_is_not_set(config: DictConfig, refusal: Callable[..., str], key: str) -> None:
    OmegaConf.update(config, key, "???")
    refusal(f"{key} is not set", "run script", f"{key}=")


def test_pairs_of_unequal_length(
    refused_after: Callable[..., str], sample_rows: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "short.parquet", sample_rows["train_rephrased"][:-1])
    refused_after("data.train_aug_files", str(path), "data.train_files=", "16 and 15 rows", "same order")


def test_pairs_in_another_order(refused_after: Callable[..., str], sample_rows: dict[str, Any], tmp_path: Path) -> None:
    swapped = [sample_rows["train_rephrased"][i] for i in (0, 2, 1, *range(3, 16))]
    path = write(tmp_path / "swapped.parquet", swapped)
    refused_after(
        "data.train_aug_files",
        str(path),
        "data.train_files=",
        "extra_info.index differs",
        "row 1: 1 and 2; row 2: 2 and 1",
    )


def test_pairs_with_another_answer(
    refused_after: Callable[..., str], sample_rows: dict[str, Any], tmp_path: Path
) -> None:
    wrong = edited(sample_rows["train_rephrased"], 3, reward_model={"style": "rule", "ground_truth": "-5"})
    path = write(tmp_path / "answer.parquet", wrong)
    truth = sample_rows["train"][3]["reward_model"]["ground_truth"]
    refused_after("data.train_aug_files", str(path), "ground truth differs", f"row 3: '{truth}' and '-5'")


@pytest.mark.parametrize("method", ["majority_voting", "co_rewarding_II", "entropy"])
def test_questions_that_share_an_id(
    config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path, method: str
) -> None:
    # methods with one wording, too: rollouts of both questions would vote together
    config.co_rewarding.method, config.data.train_aug_files = method, None
    path = write(tmp_path / "ids.parquet", edited(sample_rows["train"], 5, extra_info={"index": 3, "split": "train"}))
    config.data.train_files = str(path)
    with pytest.raises(ValueError, match=r"data\.train_files=.*different in every row.*row 5 repeats 3 of row 3"):
        check_data(config, read_data(config))
    config.data.train_files = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]  # both count from 0
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", sample_rows["train"])
    with pytest.raises(ValueError, match="row 16 repeats 0 of row 0"):
        check_data(config, read_data(config))


@pytest.mark.parametrize("extra_info", ['{"index": 3}', {"index": [3]}])
@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files"])
def test_ids_that_are_none(
    refused_after: Callable[..., str], sample_rows: dict[str, Any], tmp_path: Path, key: str, extra_info: Any
) -> None:
    path = write(tmp_path / "ids.parquet", [{**row, "extra_info": extra_info} for row in sample_rows["train"]])
    refused_after(key, str(path), "ids.parquet, row 0: extra_info")
