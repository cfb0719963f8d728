# SPDX-License-Identifier: Apache-2.0
"""Files of every format with the same content, and files that are odd."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.raw_table import MAX_FIELD, read_raw

ROWS = [
    {"question": 'Say "yes",\nor no; then stop.', "answer": "yes"},
    {"question": "1+1 等于几？", "answer": "2"},
]
QUOTED = '"Say ""yes"",\nor no; then stop."'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("comma.csv", f"question,answer\n{QUOTED},yes\n1+1 等于几？,2\n"),
        ("semicolon.csv", f"question;answer\r\n{QUOTED};yes\r\n\r\n1+1 等于几？;2\r\n"),
        ("tab.csv", f"question\tanswer\n{QUOTED}\tyes\n1+1 等于几？\t2\n"),
        ("table.tsv", f"question\tanswer\n{QUOTED}\tyes\n1+1 等于几？\t2"),
        ("excel.csv", f"sep=;\r\nquestion;answer\r\n{QUOTED};yes\r\n1+1 等于几？;2\r\n"),
        ("spaces.csv", f'question, answer\n{QUOTED}, "yes"\n1+1 等于几？, 2\n'),
        ("array.json", json.dumps(ROWS)),
        ("object.json", json.dumps({"version": 1, "data": ROWS})),
        ("lines.json", "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)),
        ("lines.jsonl", "\n\n".join(json.dumps(row) for row in ROWS) + "\n"),
        ("pretty.jsonl", "\n".join(json.dumps(row, indent=2) for row in ROWS) + "\n"),
        ("without_lines.jsonl", "".join(json.dumps(row) for row in ROWS)),
        ("LINES.NDJSON", "\r\n".join(json.dumps(row) for row in ROWS)),
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_formats_of_text_give_the_same_rows(name: str, content: str, mark: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(mark + content.encode())
    table = read_raw(tmp_path / name)
    assert table.columns == ("question", "answer")
    if name.endswith(".csv") or name.endswith(".tsv"):  # a line break inside quotes is kept as it is written
        assert [{k: v.replace("\r\n", "\n") for k, v in row.items()} for row in table.rows] == ROWS
    else:
        assert table.rows == ROWS


def test_parquet_whatever_its_name_and_a_folder(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), tmp_path / "b.data")
    assert read_raw(tmp_path / "b.data").rows == ROWS[:1]
    (tmp_path / "b.data").rename(tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("answer,question,level\n2,1+1 等于几？,3\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("# not questions")
    table = read_raw(tmp_path)
    assert table.columns == ("question", "answer", "level")
    assert table.rows == [ROWS[0], {**ROWS[1], "level": "3"}]


def test_json_with_an_object_for_each_question(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"q1": ROWS[0], "q2": {**ROWS[1], "id": 7}}))
    table = read_raw(tmp_path / "x.json")
    assert table.columns == ("id", "question", "answer")
    assert table.rows == [{"id": "q1", **ROWS[0]}, {"id": 7, **ROWS[1]}]


def test_tsv_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('question\tanswer\n"To be" is by?\tWill\n5" nail?\t2\n')
    assert [row["question"] for row in read_raw(tmp_path / "x.tsv").rows] == ['"To be" is by?', '5" nail?']
    (tmp_path / "x.tsv").write_text('question\tanswer\n"never closed\n')
    with pytest.raises(ValueError, match="unexpected end of data"):  # what the usual reading says
        read_raw(tmp_path / "x.tsv")


def test_values_of_csv_stay_text_and_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id,answer\n007,1.50\nNA,\n")
    assert read_raw(tmp_path / "x.csv").rows == [{"id": "007", "answer": "1.50"}, {"id": "NA", "answer": ""}]
    (tmp_path / "y.csv").write_text("question\nWhat is 1; or 2?\nAnd 3?\n")
    assert [row["question"] for row in read_raw(tmp_path / "y.csv").rows] == ["What is 1; or 2?", "And 3?"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.csv", b"question,answer\nGr\xf6\xdfe?,2\n", "byte 0xf6 at position 18, line 2, is not UTF-8"),
        ("x.csv", "question,answer\n1?,2\n".encode("utf-16"), "is UTF-16"),
        ("x.csv", b"", "is empty"),
        ("x.csv", b"question,answer\n1, or 2?,2\n", r"line 2: has 3 fields and the first line has 2 .*double quotes"),
        ("x.csv", b'question,answer\n"never closed,2\n', "line 2: unexpected end of data"),
        ("x.csv", b'q,a\n"' + b"x" * (MAX_FIELD + 1) + b'",2\n', "field larger than field limit"),
        ("x.csv", b"question,question\n1?,2\n", "two columns are called question"),
        ("x.jsonl", b'{"q": "1?"}\n{"q": \n', "line 2: not readable as JSON"),
        ("x.jsonl", b'{"q": "1?"}\n["2?"]\n', "line 2 is .*; must be an object"),
        ("x.json", b'{"a": [], "b": []}', r"an object with 0 arrays of objects \(a, b\)"),
        ("x.json", b'[{"q": 1}', "not readable as JSON"),
        ("x.json", b"[" * 100_000, "nested too deeply"),
        ("x.xlsx", b"PK", r"\.xlsx is none of \.csv, "),
        ("x", b"question", "no ending is none of"),
        ("x.parquet", b"PAR1", "not readable as parquet"),
    ],
)
def test_odd_files_are_one_line(name: str, content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{why}") as error:
        read_raw(tmp_path / name)
    assert "\n" not in str(error.value)


def test_no_file_and_a_folder_without_one(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "absent.csv", "no such file"), (tmp_path, "a folder without a file of questions")):
        with pytest.raises(ValueError, match=why):
            read_raw(path)


def test_a_text_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("co_rewarding.storage.raw_table.MAX_BYTES", 10)
    (tmp_path / "x.csv").write_text("question,answer\n")
    with pytest.raises(ValueError, match="has 16 bytes, more than 10"):
        read_raw(tmp_path / "x.csv")
