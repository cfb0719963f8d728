# SPDX-License-Identifier: Apache-2.0
"""Dumps in the order of their steps, one row at a time."""

import json
from pathlib import Path

import pytest

from co_rewarding.storage.dumps import dump_rows, dumps
from co_rewarding.storage.run_dir import RunDir


def write(path: Path, *rows: object, tail: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)


def test_steps_in_order_up_to_the_last(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (10, 9, 2, 11):
        write(run.rollouts_file(step), {"at": step}, {"at": -step})
    write(run.validation_file(0), {"held out": True})
    found = {name: [(step, list(rows)) for step, rows in dump] for name, dump in dumps(run, 10).items()}
    assert found == {
        "training": [(step, [{"at": step}, {"at": -step}]) for step in (2, 9, 10)],  # 11 is of an earlier run
        "held-out": [(0, [{"held out": True}])],
    }
    assert [list(dump) for dump in dumps(RunDir(tmp_path / "none"), 10).values()] == [[], []]


def test_a_last_line_that_was_cut_off_is_left_out_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    write(path, {"a": 1}, tail='{"a": 2, "b')
    assert list(dump_rows(path)) == [{"a": 1}]
    write(path, {"a": 1}, tail='{"a": 2, "b\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"1\.jsonl, line 2: not a JSON object"):
        list(dump_rows(path))


def test_one_row_is_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    write(path, {"a": 1}, tail="broken\n")
    assert next(dump_rows(path)) == {"a": 1}  # what follows is not looked at
