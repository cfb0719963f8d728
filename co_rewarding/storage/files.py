# SPDX-License-Identifier: Apache-2.0
"""Atomic files (written beside their place, synced, then moved), and lines of JSONL."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """The temporary file that the block writes and that then becomes `path`; on failure `path` is unchanged.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def atomic_write_text(path: Path, text: str) -> None:
    """`text` as UTF-8. Raises OSError, see `atomic_write`."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def json_line(value: Any) -> bytes:
    """`value` as a line of a JSONL file, without escapes if possible."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, which needs an escape
        return json.dumps(value).encode() + b"\n"


def jsonl_rows(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every non-blank line of a JSONL file.

    Raises:
        ValueError: a line is no JSON object; names the file and the line.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number}: not a JSON object; repair or remove the line")
        yield number, row


def parse_jsonl(content: bytes, name: str) -> tuple[list[dict[str, Any]], bool]:
    """Rows of a JSONL file, and whether its last line was truncated (and left out).

    Raises:
        ValueError: another line is no JSON object; names the file and the line.
    """
    # split only at newlines: str.splitlines would also cut at separators inside a response
    *lines, last = content.split(b"\n")
    rows = [row for _, row in jsonl_rows(lines, name)]
    try:
        return rows + [row for _, row in jsonl_rows([last], name)], False
    except ValueError:
        return rows, True


def short_json(value: Any) -> str:
    """`value` as JSON of at most 60 characters, for a message."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
