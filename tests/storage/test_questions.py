# SPDX-License-Identifier: Apache-2.0
"""Any file of questions as a table in verl's schema."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.storage.columns import Columns
from co_rewarding.storage.questions import SCHEMA, Reading, question_table, question_tables
from co_rewarding.storage.rows import check_pairs, make_row, write_rows
from co_rewarding.storage.schema import row_faults

BOX, LETTER = (answer_format(spec).instruction for spec in ("boxed", "choice"))


def reading(**more: Any) -> Reading:
    return Reading(lambda spec: answer_format(spec).instruction, **more)


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def read(rows: Sequence[Mapping[str, Any]], name: str = "quiz.jsonl", **more: Any) -> list[dict[str, Any]]:
        return question_table(written(tmp_path / name, rows), reading(**more)).to_pylist()

    return read


def truths(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["reward_model"]["ground_truth"] for row in rows]


def test_a_row_of_csv_is_the_row_that_make_row_makes(read: Callable[..., Any]) -> None:
    rows = read([{"Problem": 'Say "1+1",\nplease: 甲', "Answer": "2"}], "quiz.csv")
    expected = make_row("quiz", 'Say "1+1",\nplease: 甲', "2", 0, "train")
    assert rows == [{**expected, "answer_format": None, "choices": None, "id": None}]
    assert not row_faults(rows[0]) and expected["prompt"][0]["content"] == BOX


@pytest.mark.parametrize(
    "rows",
    [
        [
            {
                "q": "?",
                "question": "Capital?",
                "choices": {"label": ["A", "B"], "text": ["Rome", "Oslo"]},
                "answerKey": "B",
            }
        ],
        [{"q": "?", "question": "Capital?", "A": "Rome", "B": "Oslo", "answer": "B"}],
        [{"q": "?", "question": "Capital?", "options": ["Rome", "Oslo"], "answer": "Oslo"}],
    ],
    ids=["ARC", "columns", "list"],
)
def test_three_shapes_of_choices_are_one_row(rows: Any, read: Callable[..., Any]) -> None:
    (row,) = read(rows)
    assert row["prompt"] == [
        {"role": "system", "content": LETTER},
        {"role": "user", "content": "Capital?\n\nA. Rome\nB. Oslo"},
    ]
    assert (row["choices"], row["answer_format"], truths([row])) == (["Rome", "Oslo"], "choice", ["B"])


def test_answers_of_solutions(read: Callable[..., Any]) -> None:
    solutions = ["So 40 + 2.\n#### 1,042", "#### -3", "no mark"]
    assert truths(read([{"question": f"{i}?", "answer": text} for i, text in enumerate(solutions)])) == [
        "1042",
        "-3",
        "",
    ]
    boxes = [r"Thus \boxed{\frac{1}{2}}.", r"$\boxed 5$", "no box", ""]
    rows = [{"question": f"{i}?", "solution": text} for i, text in enumerate(boxes)]
    assert truths(read(rows)) == [r"\frac{1}{2}", "5", "", ""]
    # where few have one, the others are answers
    rows = [{"question": f"{i}?", "answer": text} for i, text in enumerate(["1", "2", r"\boxed{3}"])]
    assert truths(read(rows)) == ["1", "2", "3"]


def test_numbers_as_text(read: Callable[..., Any]) -> None:
    answers = [42, 42.0, 0.5, None, float("nan"), ["7"], "007", True]
    rows = [{"question": f"{i}?", "answer": answer} for i, answer in enumerate(answers)]
    assert truths(read(rows)) == ["42", "42", "0.5", "", "", "7", "007", "True"]


def test_ids_are_kept(read: Callable[..., Any]) -> None:
    def ids(*given: Any) -> list[tuple[Any, Any]]:
        rows = read([{"question": f"{i}?", "id": given_id} for i, given_id in enumerate(given)])
        return [(row["extra_info"]["index"], row["id"]) for row in rows]

    assert ids(30, 20) == [(30, None), (20, None)]
    assert ids("30", "q-2") == [(0, "30"), (1, "q-2")]
    assert ids(7, 7) == [(0, "7"), (1, "7")]  # no ids, then
    assert ids("01", "1") == [(0, "01"), (1, "1")]
    assert ids("a", None) == [(0, None), (1, None)]


def test_formats_of_rows_and_of_the_setting(read: Callable[..., Any]) -> None:
    rows = [
        {"question": "1?", "answer_format": "tag"},
        {"question": "2?", "answer_format": "boxed"},
        {"question": "3?"},
        {"question": "4?", "choices": ["a", "b"]},
    ]
    assert [row["answer_format"] for row in read(rows)] == ["tag", None, None, "choice"]
    # with a setting, null would be what the setting says
    found = read(rows, answer_format="number")
    assert [row["answer_format"] for row in found] == ["tag", "boxed", "number", "number"]
    assert [row["prompt"][0]["content"] for row in found] == [
        answer_format(spec).instruction for spec in ("tag", "boxed", "number", "number")
    ]
    with pytest.raises(ValueError, match=r"quiz\.jsonl: answer format 'tags' is unknown"):
        read(rows, answer_format="tags")


def test_the_system_prompt_may_be_another_or_none(read: Callable[..., Any]) -> None:
    assert read([{"question": "1?"}], system_prompt="Box it.")[0]["prompt"][0]["content"] == "Box it."
    assert read([{"question": "1?"}], system_prompt="")[0]["prompt"] == [{"role": "user", "content": "1?"}]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (
            [{"text": "1?"}],
            r"with --question; its columns are text, of python scripts/.*/my_questions.py .*quiz\.jsonl",
        ),
        ([{"question": " "}], "row 0: column question has no question"),
        ([{"question": {"a": 1}}], r"row 0: column question is \{'a': 1\}; must be text"),
        ([{"question": "1?", "answer": ["1", "2"]}], "row 0: column answer is"),
        ([{"question": "x" * 200_000}], "row 0: column question has 200,000 characters; at most"),
        ([{"question": "\ud800"}], "lone surrogate"),
        ([{"question": "1?", "choices": ["a", "b"], "answer": 1}], r"--answer_is index0\|index1, of python"),
    ],
)
def test_what_cannot_be_read_is_one_line(rows: Any, why: str, read: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=rf"quiz\.jsonl: .*{why}") as error:
        read(rows)
    assert "\n" not in str(error.value)


def test_it_says_how_it_read(read: Callable[..., Any]) -> None:
    said: list[str] = []
    read([{"query": "1?", "choices": ["a", "b"], "label": 0}, {"query": "2?", "label": None}], say=said.append)
    (text,) = said
    assert text.partition("quiz.jsonl: ")[2] == (
        "2 questions (question: query, answer: label, choices: choices, id: none); 1 have an answer; "
        "1 numbers of options counted from 0"
    )


def test_verls_schema_is_taken_as_it_is(tmp_path: Path) -> None:
    rows = [make_row("mine", "1?", "1", 5, "train", {"level": "3"})]
    write_rows(rows, tmp_path / "x.parquet", pa.Table.from_pylist(rows).schema)
    table = question_table(tmp_path / "x.parquet", reading(answer_format="number"))
    assert table == pq.read_table(tmp_path / "x.parquet")
    written(tmp_path / "x.jsonl", rows)
    assert question_table(tmp_path / "x.jsonl", reading()).to_pylist() == rows


def test_several_files_are_numbered_on(tmp_path: Path) -> None:
    write_rows([make_row("mine", "1?", "", 5, "train")], tmp_path / "a.parquet")
    for name in ("b.csv", "c.csv"):
        written(tmp_path / name, [{"question": "1?"}, {"question": "2?"}])
    tables = question_tables([tmp_path / name for name in ("a.parquet", "b.csv", "c.csv")], reading())
    assert [[row["extra_info"]["index"] for row in table.to_pylist()] for table in tables] == [[5], [6, 7], [8, 9]]


def test_columns_are_named(read: Callable[..., Any]) -> None:
    rows = [{"a": "1?", "b": "2", "c": "x"}]
    (row,) = read(rows, columns=Columns("a", "b", "", "c"))
    assert row["prompt"][-1]["content"] == "1?" and truths([row]) == ["2"] and row["id"] == "x"


def test_prepared_files_join_with_older_ones() -> None:
    assert pa.concat_tables(
        [pa.Table.from_pylist([make_row("a", "1?", "1", 0, "train")]), SCHEMA.empty_table()], promote_options="default"
    ).column("choices").to_pylist() == [None]


def test_a_pair_must_have_the_same_options_and_format() -> None:
    one = make_row("a", "1?", "A", 0, "train", choices=["x", "y"], answer_format="choice")
    two = make_row("a", "2?", "A", 0, "train", choices=["y", "x"], answer_format="choice")
    with pytest.raises(
        ValueError, match=r"do not pair up: .*choices differ; .* \(row 0: \('choice', \('x', 'y'\)\) and "
    ):
        check_pairs([one], [two], ("o", "r"))
    with pytest.raises(ValueError, match="do not pair up: answer_format or"):
        check_pairs([one], [{**one, "answer_format": None}], ("o", "r"))
    old = make_row("a", "1?", "A", 0, "train")  # without the columns, and with them empty
    check_pairs([old], [{**old, "answer_format": "boxed", "choices": []}], ("o", "r"))


def test_a_question_that_is_a_list_of_messages_is_asked_as_it_stands(read: Callable[..., Any]) -> None:
    shots = [
        {"role": "user", "content": "四"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "五 "},
    ]
    own = {"role": "system", "content": "写成数字"}
    rows = read([{"input": [own, *shots], "ideal": ["5"]}, {"input": shots, "ideal": ["5"]}], answer_format="number")
    asks = {"role": "system", "content": answer_format("number").instruction}
    last = {"role": "user", "content": "五"}
    assert rows[0]["prompt"] == [own, *shots[:2], last]  # its own system message and no other
    assert rows[1]["prompt"] == [asks, *shots[:2], last]
    assert truths(rows) == ["5", "5"] and not row_faults(rows[0])


@pytest.mark.parametrize(
    "messages", [[], ["a"], [{"role": "tool", "content": "a"}], [{"role": "assistant", "content": "a"}]]
)
def test_messages_that_ask_nothing(read: Callable[..., Any], messages: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"row 0: column input (is .*must be text, or messages|ends with)"):
        read([{"input": messages}])


def test_the_questions_among_several_arrays_of_an_object(tmp_path: Path) -> None:
    path = tmp_path / "quiz.json"
    quiz = {"tags": ["a"], "categories": [{"name": "x"}], "questions": [{"prompt": "1+1?", "answer": 2}]}
    path.write_text(json.dumps(quiz), encoding="utf-8")
    assert truths(question_table(path, reading()).to_pylist()) == ["2"]
    path.write_text(json.dumps({"one": [{"prompt": "a"}], "two": [{"prompt": "b"}]}), encoding="utf-8")
    with pytest.raises(ValueError, match="an object with 2 arrays of objects"):
        question_table(path, reading())


def test_a_passage_is_read_before_its_question(read: Callable[..., Any]) -> None:
    rows = read([{"passage": "Tom has 3 pens.", "question": "How many?", "answer": "3"}, {"question": "1+1?"}])
    assert [row["prompt"][-1]["content"] for row in rows] == ["Tom has 3 pens.\n\nHow many?", "1+1?"]
    rows = read([{"passage": "Tom has 3 pens.", "question": "1+1?"}], columns=Columns(context=""))
    assert rows[0]["prompt"][-1]["content"] == "1+1?"
