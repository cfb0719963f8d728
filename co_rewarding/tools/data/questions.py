# SPDX-License-Identifier: Apache-2.0
"""Any file of questions (storage/questions.py) as the commands read it, with a description on standard error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.storage.columns import Columns
from co_rewarding.storage.questions import Reading, question_table
from co_rewarding.storage.raw_table import files_of
from co_rewarding.storage.rows import content_sha256, file_sha256
from co_rewarding.tools.cli import printable


def instruction_of(spec: str) -> str:
    """The system prompt that asks for an answer format. Raises ValueError for an unknown format."""
    return answer_format(spec).instruction


def read_table(path: Path, columns: Columns | None = None, spec: str = "", quiet: bool = False) -> pa.Table:
    """The questions of a file or folder in verl's schema.

    Args:
        spec: answer format of rows that name none, if the file is not in verl's schema.
        quiet: do not print how it was read.

    Raises:
        ValueError: see `question_table`.
    """

    def say(text: str) -> None:
        if not quiet:
            print(printable(text, 500), file=sys.stderr)

    return question_table(path, Reading(instruction_of, spec, columns or Columns(), say=say))


def read_rows(path: Path, spec: str = "") -> list[dict[str, Any]]:
    """The rows of `read_table`."""
    return read_table(path, spec=spec).to_pylist()


def files_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the hashes of a folder's files."""
    hashes = [file_sha256(file) for file in files_of(path)]
    return hashes[0] if len(hashes) == 1 else content_sha256(hashes)
