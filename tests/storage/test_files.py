# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, and lines of JSONL."""

import errno
import json
import os
from pathlib import Path

import pytest

from co_rewarding.storage.files import atomic_write, atomic_write_text, json_line, parse_jsonl


def test_a_file_is_replaced_with_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "sub/file"
    atomic_write_text(path, "ü")
    atomic_write_text(path, "two\n")
    assert path.read_bytes() == b"two\n" and os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize(
    "error", [ValueError("not a row"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
def test_a_failure_leaves_what_there_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    atomic_write_text(path, "old")
    with pytest.raises(type(error)), atomic_write(path) as part:
        part.write_text("ne")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]


def test_the_error_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(OSError) as told, atomic_write(tmp_path / "file"):
        raise OSError("disk on fire")  # a library's, without number or name
    assert (told.value.filename, told.value.strerror) == (str(tmp_path / "file"), "disk on fire")


def test_json_lines_hold_every_text() -> None:
    assert json_line({"a": "ü\n"}) == '{"a": "ü\\n"}\n'.encode()
    assert json.loads(json_line("\ud83d")) == "\ud83d"


def test_cut_off_last_line_is_left_out_and_said() -> None:
    assert parse_jsonl(b'{"a": 1}\n{"a": ', "f") == ([{"a": 1}], True)
    assert parse_jsonl('{"a": "é'.encode()[:-1], "f") == ([], True)  # cut inside a character
    assert parse_jsonl(b"", "f") == ([], False)


def test_a_separator_inside_a_response_is_not_a_line_end() -> None:
    assert parse_jsonl('{"a": "1\u20282"}\n'.encode(), "f") == ([{"a": "1\u20282"}], False)


@pytest.mark.parametrize(
    "content", [b'{"a": 1}\n{"a"\n{"a": 2}\n', b'{"a": 1}\n[2]\n', b'{"a": 1}\n' + 100_000 * b"[" + b"\n"]
)
def test_a_broken_line_elsewhere_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"^dump\.jsonl, line 2: not a JSON object"):
        parse_jsonl(content, "dump.jsonl")
