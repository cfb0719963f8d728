# SPDX-License-Identifier: Apache-2.0
"""Two files belong together only if row i of one is another wording of row i of the other; what no row can be."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.rows import (
    SYSTEM_PROMPT,
    check_pairs,
    check_question_ids,
    ground_truth,
    ground_truths,
    question_id,
    read_rows,
)

NAMES = ("a.parquet", "b.parquet")


def test_system_prompt_is_the_papers() -> None:
    assert SYSTEM_PROMPT == r"Let's think step by step and output the final answer within \boxed{}."


def row(index: object, truth: str | None = "7") -> dict:
    return {"extra_info": {"index": index}, "reward_model": {"style": "rule", "ground_truth": truth}}


def refusal(original: list[dict], rephrased: list[dict]) -> str:
    with pytest.raises(ValueError) as refused:
        check_pairs(original, rephrased, NAMES)
    message = str(refused.value)
    assert "\n" not in message
    assert NAMES[0] in message
    return message


def test_matching_rows_pass() -> None:
    check_pairs([row(0), row(1, "8")], [row(0), row(1, "8")], NAMES)
    check_pairs([row("q-a"), row("q-b")], [row("q-a"), row("q-b")], NAMES)  # ids may be any value
    check_pairs([], [], NAMES)  # emptiness is told by the reader of the files, which knows their key


@pytest.mark.parametrize("absent", [None, ""])
def test_a_truth_is_compared_only_where_both_have_one(absent: str | None) -> None:
    check_pairs([row(0, "7"), row(1, absent)], [row(0, absent), row(1, "8")], NAMES)
    check_pairs([row(0, absent)], [row(0, absent)], NAMES)


def test_truths_are_compared_as_text() -> None:
    # 7 and "7" are one answer written by two programs; "7" and "07" are not told apart here by value
    check_pairs([row(0, "7")], [{"extra_info": {"index": 0}, "reward_model": {"ground_truth": 7}}], NAMES)
    assert "ground truth differs" in refusal([row(0, "7")], [row(0, "07")])


def test_unequal_length_names_both_files_and_numbers() -> None:
    message = refusal([row(0), row(1)], [row(0)])
    assert NAMES[1] in message
    assert "2 and 1 rows" in message


def test_another_order_names_the_rows() -> None:
    # rows 1 and 2 changed places: these two differ, row 0 does not
    message = refusal([row(0), row(1), row(2)], [row(0), row(2), row(1)])
    assert NAMES[1] in message
    assert "row 1: 1 and 2; row 2: 2 and 1" in message
    assert "row 0" not in message


def test_another_truth_names_the_row_and_both_values() -> None:
    message = refusal([row(0), row(1, "8")], [row(0), row(1, "9")])
    assert NAMES[1] in message
    assert "row 1: '8' and '9'" in message


def test_a_long_list_of_bad_rows_is_cut() -> None:
    # a shift by one makes all 5 rows differ: 3 are named, 2 are counted
    message = refusal([row(i) for i in range(5)], [row(i + 1) for i in range(5)])
    assert "row 0: 0 and 1; row 1: 1 and 2; row 2: 2 and 3 and 2 more" in message
    assert "row 3" not in message


@pytest.mark.parametrize("extra_info", [{}, None, {"index": None}])
def test_a_missing_id_is_reported(extra_info: dict | None) -> None:
    message = refusal([row(0), {"extra_info": extra_info, "reward_model": None}], [row(0), row(1)])
    assert "extra_info.index" in message
    assert "row 1" in message


def test_a_missing_id_on_the_other_side_is_reported() -> None:
    assert "row 1: 1 and None" in refusal([row(0), row(1)], [row(0), row(None)])


def test_a_repeated_id_is_reported_with_its_first_row() -> None:
    # two questions with one id would vote as one group
    message = refusal([row(5), row(6), row(5)], [row(5), row(6), row(5)])
    assert "row 2 repeats 5 of row 0" in message


def test_an_id_of_0_is_an_id() -> None:
    check_pairs([row(0)], [row(0)], NAMES)
    assert question_id(row(0)) == 0


def test_a_truth_of_0_is_a_truth() -> None:
    assert ground_truth(row(0, "0")) == "0"
    assert ground_truth({"reward_model": {"ground_truth": 0}}) == "0"  # "" would hide a row whose answer is zero
    assert ground_truth({"reward_model": None}) == ground_truth({}) == ground_truth(row(0, None)) == ""


def test_every_question_has_an_id_of_its_own() -> None:
    check_question_ids([row(0), row(1)], "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: rows without extra_info\.index.*row 1; row 2"):
        check_question_ids([row(0), row(None), {"extra_info": None}], "a.parquet")
    with pytest.raises(ValueError, match=r"must be different in every row.*row 2 repeats 0 of row 0"):
        check_question_ids([row(0), row(1), row(0)], "a.parquet")  # two files that both count from 0


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"extra_info": json.dumps({"index": 1})}, "extra_info is '{\"index\": 1}'; make it a struct"),
        ({"extra_info": {"index": [1]}}, "extra_info.index is [1]; make it a number or text"),
        ({"reward_model": "7"}, "reward_model is '7'; make it a struct with the field ground_truth"),
        ({"reward_model": {"ground_truth": b"7" * 1000}}, "reward_model.ground_truth is b'777"),
        ({"reward_model": {"ground_truth": ["7"]}}, "reward_model.ground_truth is ['7']; make it text"),
    ],
)
def test_what_is_no_id_or_truth_is_reported_with_file_and_row(bad: dict[str, Any], why: str) -> None:
    wrong = [row(0), row(1) | bad]
    assert f"a.parquet, row 1: {why}" in refusal(wrong, [row(0), row(1)])
    with pytest.raises(ValueError, match=r"^b\.parquet, row 1: "):
        check_pairs([row(0), row(1)], wrong, NAMES)
    with pytest.raises(ValueError, match=r"^x, row 1: "):
        ground_truths(wrong, "x") if "reward_model" in bad else check_question_ids(wrong, "x")


def test_a_hostile_id_or_truth_is_shown_in_part() -> None:
    assert len(refusal([row("\x1b\n" * 500)], [row("b" * 500)])) < 300
    assert len(refusal([row(0, "\x1b\n" * 500)], [row(0, "b" * 500)])) < 300


def test_texts_that_are_not_utf8_are_reported(tmp_path: Path) -> None:
    text = pa.array([b"What is \xff?"]).view(pa.string())
    prompt = pa.ListArray.from_arrays(
        [0, 1], pa.StructArray.from_arrays([pa.array(["user"]), text], ["role", "content"])
    )
    for column in (text, prompt):
        pq.write_table(pa.table({"id": [0], "prompt": column}), tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=r"x\.parquet: not readable in column 'prompt' .*UTF"):
            read_rows(tmp_path / "x.parquet")


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_files_of_other_formats_are_reported(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"x.{suffix}").write_text("question,answer\n")
    with pytest.raises(ValueError, match=rf"x\.{suffix}: not readable as parquet"):
        read_rows(tmp_path / f"x.{suffix}")
