# SPDX-License-Identifier: Apache-2.0
"""The questions of a file, and the two parquet files of a rewriting.

    questions_P      row i's question: the text column itself, or the last user message of a column of messages
    texts            the same for all rows of the file, "" if there is none
    output parquet   the same rows with only those texts changed: all other columns, types and metadata are kept
    original parquet the same rows unchanged; if no row is dropped, an exact copy of a parquet input

A parquet file with the column is used unchanged; any other file is converted to verl's schema (storage/questions.py),
as are both outputs: the input itself pairs up with them if no row is dropped. The metadata of the output parquet names
its writer, under MADE_OF.

Legend: P questions, rows of the input.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.storage.columns import Columns
from co_rewarding.storage.files import atomic_write
from co_rewarding.storage.questions import is_verl_parquet
from co_rewarding.storage.raw_table import is_parquet
from co_rewarding.storage.rows import ANSWER_COLUMNS, MADE_OF, read_table
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.data.questions import instruction_of
from co_rewarding.tools.data.questions import read_table as read_any_table
from co_rewarding.tools.rephrase.asked import Asked

PROMPT = "prompt"


class Questions:
    """The rows of a file (the first `max_rows` of them, 0: all) and the questions in them.

    Raises:
        ValueError: no such file or column, a column of another type, text that is no UTF-8, a row without a question.
    """

    def __init__(self, path: Path, column: str, max_rows: int = 0, answer_format: str = "") -> None:
        self.path = path
        self.column = column
        self._usual_format = answer_format
        self._is_copied = is_verl_parquet(path) or (path.is_file() and is_parquet(path) and _has_column(path, column))
        if self._is_copied:
            self._table = read_table(path)
        else:
            self._table = read_any_table(path, Columns(question=None if column == PROMPT else column), answer_format)
            self.column = column = PROMPT
        names = self._table.column_names
        if column not in names:
            raise UserError(f"{path} has no column {column!r}: choose --question_column from {', '.join(names)}")
        kind = self._table.schema.field(column).type
        self._is_messages = _is_messages(kind)
        if not self._is_messages and not _is_text(kind):
            raise UserError(
                f"{path}: column {column!r} is {kind}; it must hold text, or messages with role and content"
            )
        self._values = self._table.column(column).to_pylist()
        self.texts = [self._text(value) for value in self._values]
        self.questions_P = self.texts[: max_rows or None]
        if not self.questions_P:
            raise UserError(f"{path} has no rows")
        for row, text in enumerate(self.questions_P):
            if not text.strip():
                what = "no user message with text" if self._is_messages else "no text"
                raise UserError(f"{path}, row {row}: column {column!r} has {what}; fill it or remove the row")

    def asked(self, row: int) -> Asked:
        """Prompt settings of a row's question: its own system message if it has messages.

        Raises:
            ValueError: its columns answer_format and choices are invalid.
        """
        there = [name for name in ANSWER_COLUMNS if name in self._table.column_names]
        columns = {name: self._table.column(name)[row].as_py() for name in there}
        try:
            spec, choices = stated_as(columns, self._usual_format)
            instruction = instruction_of(spec)
        except ValueError as error:
            raise UserError(f"{self.path}, row {row}: {error}") from None
        if self._is_messages:
            contents = [message["content"] for message in self._values[row] if message and message["role"] == "system"]
            return Asked("\n\n".join(filter(None, contents)), spec, choices)
        return Asked(instruction, spec, choices)

    def __len__(self) -> int:
        return len(self.questions_P)

    def _text(self, value: Any) -> str:
        if self._is_messages:
            place = _user_place(value)
            value = None if place is None else value[place]["content"]
        return value or ""

    def write_original(self, rows: Sequence[int], path: Path) -> None:
        with atomic_write(path) as part:
            if self._is_copied and len(rows) == self._table.num_rows:
                shutil.copyfile(self.path, part)
            else:
                pq.write_table(self._table.take(list(rows)), part)

    def write_rewritten(self, rows: Sequence[int], texts: Sequence[str], path: Path, made_of: str) -> None:
        """The given rows with their questions replaced."""
        values = [self._with_text(self._values[row], text) for row, text in zip(rows, texts, strict=True)]
        number = self._table.schema.get_field_index(self.column)
        field = self._table.schema.field(number)
        table = self._table.take(list(rows)).set_column(number, field, pa.array(values, type=field.type))
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), MADE_OF: made_of.encode()})
        with atomic_write(path) as part:
            pq.write_table(table, part)

    def _with_text(self, value: Any, text: str) -> Any:
        if not self._is_messages:
            return text
        place = _user_place(value)
        return [{**message, "content": text} if i == place else message for i, message in enumerate(value)]


def _has_column(path: Path, column: str) -> bool:
    return column in pq.read_schema(path).names


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_messages(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    types = {field.name: field.type for field in kind.value_type}
    return all(name in types and _is_text(types[name]) for name in ("role", "content"))


def _user_place(messages: list[dict[str, Any]] | None) -> int | None:
    """Index of the last user message."""
    places = [i for i, message in enumerate(messages or []) if message and message["role"] == "user"]
    return places[-1] if places else None
