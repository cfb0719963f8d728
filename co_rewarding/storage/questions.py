# SPDX-License-Identifier: Apache-2.0
"""Any file of questions as a table in verl's schema (rows.py), alike for all commands and training.

A parquet file in verl's schema is used unchanged. In any other (raw_table.py) the columns are found (columns.py) and
each row is converted, with the additional columns `answer_format`, `choices` and `id`:

    answer    "… #### 42" and "… \\boxed{42}" are 42; of a choice question it is a letter (choices.py); or none
    format    the row's, else `answer_format`, else "choice" if there are choices, else null, a box
    prompt    the system prompt that asks for the format, the context if there is one (a passage that is read first) and
              the question, with its choices as lettered lines; of a question that is a list of messages, these, and
              that system prompt where they have none
    index     the id, if all ids are different whole numbers, else the row's number; `id` keeps the id itself
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.storage.choices import Options, as_letters, read_options, with_choices
from co_rewarding.storage.columns import Columns, Found, find_columns
from co_rewarding.storage.ground_truths import boxed_truth, hash_mark_truth, number_truth
from co_rewarding.storage.raw_table import MAX_FIELD, RawTable, files_of, is_parquet, read_raw
from co_rewarding.storage.rows import REQUIRED_COLUMNS, arrow_schema, has_verl_schema, make_row, read_table
from co_rewarding.storage.schema import ROLES

BOXED, CHOICE = "boxed", "choice"
SCHEMA = arrow_schema(("id",), has_answer_columns=True)
COMMAND = "python scripts/data_preprocess/my_questions.py"
_BOX = re.compile(r"\\(?:boxed|fbox)")
_WHOLE = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True)
class Reading:
    """How to read a file that is not in verl's schema."""

    instruction_of: Callable[[str], str]  # an answer format -> the system prompt that asks for it
    answer_format: str = ""  # of rows that name none; "": by the row's columns
    columns: Columns = field(default_factory=Columns)
    answer_is: str | None = None  # of choice questions: one of choices.ANSWERS; None: decided from the answers
    system_prompt: str | None = None  # None: the format's
    say: Callable[[str], object] = lambda text: None  # gets a description of how the file was read
    tick: Callable[[], object] = lambda: None  # called once a row


def question_tables(paths: Sequence[Path], reading: Reading) -> list[pa.Table]:
    """One table per file or folder; row numbers continue from one to the next.

    Raises:
        ValueError: see `question_table`.
    """
    tables: list[pa.Table] = []
    for path in paths:
        tables.append(question_table(path, reading, first_index=_next_index(tables)))
    return tables


def question_table(path: Path, reading: Reading, first_index: int = 0) -> pa.Table:
    """The questions of a file, or of the files of a folder, in verl's schema.

    Raises:
        ValueError: names the file, the column or row, and the fix.
    """
    files = files_of(path)
    if all(map(is_verl_parquet, files)):
        tables = [read_table(file) for file in files]
        return tables[0] if len(tables) == 1 else _joined(path, tables)
    raw = read_raw(path)
    try:
        if set(REQUIRED_COLUMNS) <= set(raw.columns) or any(isinstance(row.get("prompt"), list) for row in raw.rows):
            return pa.Table.from_pylist([{name: row.get(name) for name in raw.columns} for row in raw.rows])
        named = replace(reading, say=lambda text: reading.say(f"{path}: {text}"))
        return to_table(raw, path.resolve().stem, named, first_index)
    except (ValueError, pa.ArrowException) as error:
        reason = str(error).split("\n")[0]
        for option in ("question", "answer", "choices", "id", "context", "answer_is"):
            if f"--{option}" in reason:
                reason += f", of {COMMAND} {path}"
                break
        raise ValueError(f"{path}: {reason}") from error


def is_verl_parquet(file: Path) -> bool:
    """Whether verl's loader reads the file as this module does, apart from its name."""
    if not file.is_file() or not is_parquet(file):
        return False
    try:
        return has_verl_schema(pq.read_schema(file))
    except (OSError, pa.ArrowException):  # `read_table` reports the fault
        return True


def to_table(raw: RawTable, data_source: str, reading: Reading, first_index: int = 0, split: str = "train") -> pa.Table:
    """Raw rows converted to verl's schema.

    Raises:
        ValueError: names the column or row, not the file.
    """
    if not raw.rows:
        return SCHEMA.empty_table()
    found = find_columns(raw.columns, reading.columns)
    ids = _ids(raw, found)
    has_numbers = bool(ids) and all(map(_WHOLE.fullmatch, ids)) and len(set(map(int, ids))) == len(ids)
    options = [_row(i, _options, row, found) for i, row in enumerate(raw.rows)]
    answers, marks = _answers(raw, found)
    letters, how = as_letters(answers, options, reading.answer_is)
    converted = []
    for i, row in enumerate(raw.rows):
        texts = list(options[i].values())
        spec = _row(i, _text, row, found.answer_format) or reading.answer_format or (CHOICE if texts else BOXED)
        *before, question = _row(i, _messages, row, found.question)
        if not question["content"].strip():
            raise ValueError(f"row {i}: column {found.question} has no question; fill it or remove the row")
        context = _row(i, _text, row, found.context).strip()
        text = "\n\n".join(part for part in (context, question["content"].strip()) if part)
        made = make_row(
            data_source,
            with_choices(text, texts) if texts else text,
            letters[i],
            int(ids[i]) if has_numbers else first_index + i,
            split,
            {"id": ids[i]} if ids and not has_numbers else None,
            system_prompt=_system_prompt(reading, spec, before),
            answer_format=None if (spec, reading.answer_format) == (BOXED, "") else spec,
            choices=texts,
        )
        made["prompt"][-1:-1] = before
        converted.append(made)
        reading.tick()
    known = sum(map(bool, letters))
    parts = [f"{len(converted):,} questions ({found})", f"{known:,} have an answer", marks, how]
    reading.say("; ".join(filter(None, parts)))
    return pa.Table.from_pylist(converted, schema=SCHEMA)


def _system_prompt(reading: Reading, spec: str, before: Sequence[Mapping[str, str]]) -> str:
    """ "" if the row's own messages begin with one."""
    if before and before[0]["role"] == "system" and reading.system_prompt is None:
        return ""
    return reading.instruction_of(spec) if reading.system_prompt is None else reading.system_prompt


def _answers(raw: RawTable, found: Found) -> tuple[list[str], str]:
    """The final answer of each row ("" if none), and how they were extracted from solutions, in words.

    If most answers are solutions that end in #### or a box, one without it has no answer.
    """
    texts = [_row(i, _answer_text, row, found.answer).strip() for i, row in enumerate(raw.rows)]
    note, known = "", max(1, sum(map(bool, texts)))
    for mark, words, read in (
        (re.compile("####"), "after ####", hash_mark_truth),
        (_BOX, "in a box", boxed_truth),
    ):
        marked = [mark.search(text) is not None for text in texts]
        if sum(marked):
            are_solutions = sum(marked) > known / 2
            missing = sum(not is_marked for is_marked, text in zip(marked, texts, strict=True) if text)
            texts = [
                read(text).strip() if is_marked else "" if are_solutions else text
                for text, is_marked in zip(texts, marked, strict=True)
            ]
            note = f"{sum(marked):,} of them {words}"
            note += f", {missing:,} without it have none" if are_solutions and missing else ""
            break
    return texts, note


def _ids(raw: RawTable, found: Found) -> list[str]:
    """The id of each row; empty unless every row has one."""
    ids = [_row(i, _text, row, found.id).strip() for i, row in enumerate(raw.rows)]
    return ids if all(ids) else []


def _options(row: Mapping[str, Any], found: Found) -> Options:
    if len(found.choices) == 1:
        return read_options(row.get(found.choices[0]))
    return read_options([row.get(name) for name in found.choices])


def _answer_text(row: Mapping[str, Any], column: str | None) -> str:
    value = row.get(column) if column else None
    if isinstance(value, list) and len(value) == 1:  # as in sets of questions with several right answers
        return _text({column: value[0]}, column)
    return _text(row, column)


def _messages(row: Mapping[str, Any], column: str) -> list[dict[str, str]]:
    """A question as messages ending with the user's; text becomes a single user message."""
    value = row.get(column)
    if not isinstance(value, list):
        return [{"role": "user", "content": _text(row, column)}]
    if not value or not all(isinstance(message, Mapping) and message.get("role") in ROLES for message in value):
        raise ValueError(f"column {column} is {value!r:.60}; must be text, or messages with role and content")
    messages = [{"role": message["role"], "content": _text(message, "content")} for message in value]
    if messages[-1]["role"] != "user":
        raise ValueError(f"column {column} ends with a message of the {messages[-1]['role']}; must end with the user's")
    return messages


def _text(row: Mapping[str, Any], column: str | None) -> str:
    """A value as text, "" for none; a whole number without a decimal point."""
    value = row.get(column) if column else None
    if value is None or value != value:
        return ""
    if isinstance(value, Mapping | list | tuple | bytes):
        raise ValueError(f"column {column} is {value!r:.60}; must be text or a number")
    text = number_truth(value) if isinstance(value, float) else str(value)
    if len(text) > MAX_FIELD:
        raise ValueError(f"column {column} has {len(text):,} characters; at most {MAX_FIELD:,}")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"column {column} has a lone surrogate character; use UTF-8")
    return text


def _row(number: int, read: Callable[..., Any], *given: Any) -> Any:
    try:
        return read(*given)
    except ValueError as error:
        raise ValueError(f"row {number}: {error}") from error


def _joined(path: Path, tables: Sequence[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: its files cannot be joined ({str(error).splitlines()[0]}); name one of them"
        ) from error


def _next_index(tables: Sequence[pa.Table]) -> int:
    """One more than the highest number of a row so far."""
    numbers = [
        info["index"]
        for table in tables
        if "extra_info" in table.column_names
        for info in table.column("extra_info").to_pylist()
        if isinstance(info, Mapping) and isinstance(info.get("index"), int)
    ]
    return max(numbers, default=-1) + 1
