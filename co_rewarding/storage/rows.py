# SPDX-License-Identifier: Apache-2.0
"""One question as a row of verl's parquet schema, files of such rows, and pairs of files in two views.

    data_source str | prompt [{role, content}] | ability str | reward_model {style, ground_truth}
    extra_info {index, split}
    answer_format str, choices [str]    optional: the answer's format and options (stated_as.py)

`extra_info` has the same two fields in every set; other fields of a set (level, subject ...) are separate columns: verl
joins the files of one setting, which fails if structs differ, while a column missing in one file is filled with nulls.

Two files of a pair (paper Algorithm 1 pairs x with its rephrasing x') have the same rows in the same order and differ
only in wording: rows pair up by position.

A ground truth may be "" or null, and a file may have no column reward_model at all (label-free data). Checks of single
rows are in schema.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.storage.files import atomic_write
from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES, stated_as

T = TypeVar("T")
Row = Mapping[str, Any]
SYSTEM_PROMPT = r"Let's think step by step and output the final answer within \boxed{}."
ABILITY = "math"
MAX_NAMED = 3  # rows named in a message
REQUIRED_COLUMNS = ("data_source", "prompt", "extra_info")  # of the above; read in training
ANSWER_COLUMNS = {ANSWER_FORMAT: pa.string(), CHOICES: pa.list_(pa.string())}
READ_COLUMNS = (*REQUIRED_COLUMNS, "reward_model", *ANSWER_COLUMNS)  # read if present
MADE_OF = b"co_rewarding.made_of"
"""Metadata key of a rephrased file: who wrote it."""
PAIR_COLUMNS = ("extra_info.index", "reward_model.ground_truth", *ANSWER_COLUMNS)  # the columns that check_pairs reads


def make_row(
    data_source: str,
    question: str,
    ground_truth: str,
    index: int,
    split: str,
    extra: Mapping[str, str | None] | None = None,
    *,
    system_prompt: str = SYSTEM_PROMPT,
    answer_format: str | None = None,
    choices: Sequence[str] | None = None,
) -> dict[str, Any]:
    """One row; `index` is the question's id and `extra` has further columns, which come last.

    Args:
        system_prompt: "" for a prompt without one.
        answer_format, choices: None for the default, an answer in a box, and for a question without options.
    """
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return {
        "data_source": data_source,
        "prompt": [*system, {"role": "user", "content": question}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {"index": index, "split": split},
        **({"answer_format": answer_format} if answer_format else {}),
        **({"choices": list(choices)} if choices else {}),
        **(extra or {}),
    }


def arrow_schema(
    extra_columns: Sequence[str] = (),
    extra_info: Mapping[str, pa.DataType] | None = None,
    *,
    has_answer_columns: bool = False,
) -> pa.Schema:
    """Explicit types of a file, so that they do not depend on its content.

    Args:
        extra_info: its fields besides index and split, for a file that is never joined with another set.
        has_answer_columns: ANSWER_COLUMNS, too.
    """
    return pa.schema(
        {
            "data_source": pa.string(),
            "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
            "ability": pa.string(),
            "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
            "extra_info": pa.struct({"index": pa.int64(), "split": pa.string(), **(extra_info or {})}),
            **(ANSWER_COLUMNS if has_answer_columns else {}),
            **dict.fromkeys(extra_columns, pa.string()),
        }
    )


def write_rows(rows: Sequence[Row], path: Path, schema: pa.Schema | None = None) -> None:
    """Write rows from `make_row`; the same rows give the same bytes for one version of pyarrow.

    Args:
        schema: of `arrow_schema`, which is the default.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema or arrow_schema())
    with atomic_write(path) as part:
        pq.write_table(table, part, compression="snappy")


def as_paths(files: str | Sequence[str] | None) -> list[str]:
    """The paths of a data setting as a list: one path, a list of them, or none (null or "")."""
    if not files:
        return []
    return [files] if isinstance(files, str) else list(files)


def read_table(path: Path) -> pa.Table:
    """A parquet file with any columns; its texts are UTF-8.

    Raises:
        ValueError: names the file; it is missing, of another format or damaged.
    """
    if not path.is_file():
        raise ValueError(f"{path}: {'not a file' if path.exists() else 'no such file'}; name a parquet file")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not readable as parquet ({_first_line(error)})") from error
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)  # Python reads no text that is not UTF-8
        except pa.ArrowException as error:
            reason = _first_line(error).rpartition(": ")[2]
            raise ValueError(f"{path}: not readable in column {name!r} ({reason}); use UTF-8") from error
    return table


def made_of(path: Path) -> str:
    """The file's own note on how it was made; "" if there is none."""
    return (pq.read_schema(path).metadata or {}).get(MADE_OF, b"").decode("utf-8", "replace")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a parquet file. Raises ValueError, see `read_table`."""
    return read_table(path).to_pylist()


def has_verl_schema(schema: pa.Schema) -> bool:
    """Whether a table is meant to be in verl's schema, valid or not: it has its columns, or prompts that are no
    text."""
    if set(REQUIRED_COLUMNS) <= set(schema.names):
        return True
    kind = schema.field("prompt").type if "prompt" in schema.names else pa.string()
    return not (pa.types.is_string(kind) or pa.types.is_large_string(kind))


def question_text(row: Row) -> str | None:
    """Content of the last user message, None if the row has none of that form."""
    prompt = row.get("prompt")
    messages = [m for m in prompt if isinstance(m, Mapping)] if isinstance(prompt, list | tuple) else []
    contents = [m.get("content") for m in messages if m.get("role") == "user"]
    return contents[-1] if contents and isinstance(contents[-1], str) else None


def ground_truth(row: Row) -> str:
    """The row's ground truth, "" if it has none (label-free data).

    Raises:
        ValueError: there is something else in its place.
    """
    truth = _field(row, "reward_model", "ground_truth")
    if isinstance(truth, bytes | list | Mapping):
        raise ValueError(f"reward_model.ground_truth is {truth!r:.60}; make it text")
    return "" if truth is None else str(truth)


def question_id(row: Row) -> Any:
    """`extra_info.index` of the row, None where it has none.

    Raises:
        ValueError: there is something else in its place.
    """
    index = _field(row, "extra_info", "index")
    if isinstance(index, list | Mapping):
        raise ValueError(f"extra_info.index is {index!r:.60}; make it a number or text")
    return index


def ground_truths(rows: Sequence[Row], name: str) -> list[str]:
    """`ground_truth` of each row. Raises ValueError, which names the file `name` and the row."""
    return _each(ground_truth, rows, name)


def check_question_ids(rows: Sequence[Row], name: str) -> None:
    """Raise unless all row ids are different: rollouts of rows with the same id would form one group.

    Raises:
        ValueError: names the file and the first rows whose `extra_info.index` is missing or repeated.
    """
    ids = _each(question_id, rows, name)
    _raise_for(
        [i for i, q in enumerate(ids) if q is None],
        lambda i: f"row {i}",
        f"{name}: rows without extra_info.index, the id of a question; add one to each row (of both files of a pair)",
    )
    first_row: dict[Any, int] = {}
    repeated = [i for i, q in enumerate(ids) if first_row.setdefault(q, i) != i]
    _raise_for(
        repeated,
        lambda i: f"row {i} repeats {ids[i]!r:.60} of row {first_row[ids[i]]}",
        f"{name}: extra_info.index must be different in every row, across all files",
    )


def check_pairs(original: Sequence[Row], rephrased: Sequence[Row], names: tuple[str, str]) -> None:
    """Raise unless row i of `rephrased` is a second view of row i of `original`, for every i.

    Args:
        original, rephrased: rows in verl's schema, P each.
        names: of the two files, for messages.

    Raises:
        ValueError: names both files, the difference and its first rows: unequal length, a question id
        (`extra_info.index`) that is missing, repeated or different, different ground truths, options or answer formats.
    """
    both = f"{names[0]} and {names[1]}"
    if len(original) != len(rephrased):
        raise ValueError(
            f"{both} do not pair up: {len(original)} and {len(rephrased)} rows; "
            "both files must have the same rows in the same order"
        )
    check_question_ids(original, names[0])
    files = ((original, names[0]), (rephrased, names[1]))
    ids = list(zip(*(_each(question_id, *file) for file in files), strict=True))
    _raise_for(
        [i for i, (a, b) in enumerate(ids) if a != b],
        lambda i: "row {}: {!r:.60} and {!r:.60}".format(i, *ids[i]),
        f"{both} do not pair up: extra_info.index differs; bring the rows of both files into the same order",
    )
    truths = list(zip(*(ground_truths(*file) for file in files), strict=True))
    _raise_for(
        [i for i, (a, b) in enumerate(truths) if a and b and a != b],
        lambda i: "row {}: {!r:.60} and {!r:.60}".format(i, *truths[i]),
        f"{both} do not pair up: the ground truth differs; a rephrased question must keep its answer",
    )
    stated = list(zip(*(_each(partial(stated_as, default="boxed"), *file) for file in files), strict=True))
    _raise_for(
        [i for i, (a, b) in enumerate(stated) if a != b],
        lambda i: "row {}: {!r:.60} and {!r:.60}".format(i, *stated[i]),
        f"{both} do not pair up: {ANSWER_FORMAT} or {CHOICES} differ; a letter must mean the same option in both, and "
        "both must have the same answer format",
    )


def content_sha256(items: Iterable[Any]) -> str:
    """SHA-256 of JSON values, one a line: a content hash independent of file format and library versions."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(item, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n")
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _field(row: Row, column: str, field: str) -> Any:
    struct = row.get(column) or {}
    if not isinstance(struct, Mapping):
        raise ValueError(f"{column} is {struct!r:.60}; make it a struct with the field {field}")
    return struct.get(field)


def _each(read: Callable[[Row], T], rows: Sequence[Row], name: str) -> list[T]:
    values = []
    for i, row in enumerate(rows):
        try:
            values.append(read(row))
        except ValueError as error:
            raise ValueError(f"{name}, row {i}: {error}") from error
    return values


def _raise_for(rows: Sequence[int], describe: Callable[[int], str], problem: str) -> None:
    if rows:
        more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        raise ValueError(f"{problem} ({'; '.join(describe(i) for i in rows[:MAX_NAMED])}{more})")
