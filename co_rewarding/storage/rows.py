# SPDX-License-Identifier: Apache-2.0
"""One question as a row of verl's parquet schema, and such files on disk.

    data_source str | prompt [{role, content}] | ability str | reward_model {style, ground_truth}
    extra_info {index, split}

`extra_info` has the same two fields in every set, and what a set has beside them (level, subject ...) stands in columns
of its own: verl joins the files of one setting, and two files whose structs differ do not join, while a column that
one of them lacks is filled with nulls.

Degenerate cases: a ground truth may be "" (label-free data). A file is written under another name and then renamed, so
that a name always holds a complete file.

Deliberately absent: checks that two files pair up (co_rewarding.storage.pairs), checks of single rows (inspection.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.storage.files import atomic_write

SYSTEM_PROMPT = r"Let's think step by step and output the final answer within \boxed{}."
ABILITY = "math"
COLUMNS = ("data_source", "prompt", "ability", "reward_model", "extra_info")


def make_row(
    data_source: str, question: str, ground_truth: str, index: int, split: str, extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """One row; `index` is the question's id and `extra` holds further columns, which come last."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {"index": index, "split": split},
        **(extra or {}),
    }


def arrow_schema(extra_columns: Sequence[str] = ()) -> pa.Schema:
    """Types of a file, written out rather than inferred, so that they do not depend on its content."""
    return pa.schema(
        {
            "data_source": pa.string(),
            "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
            "ability": pa.string(),
            "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
            "extra_info": pa.struct({"index": pa.int64(), "split": pa.string()}),
            **dict.fromkeys(extra_columns, pa.string()),
        }
    )


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path, extra_columns: Sequence[str] = ()) -> None:
    """Write rows that `make_row` made; the same rows give the same bytes for one version of pyarrow."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=arrow_schema(extra_columns))
    with atomic_write(path) as part:
        pq.write_table(table, part, compression="snappy")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a parquet file, with whatever columns it has.

    Raises:
        ValueError: one line naming the file, where it is absent or not readable as parquet.
    """
    if not path.is_file():
        raise ValueError(f"{path}: {'not a file' if path.exists() else 'no such file'}; name a parquet file")
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: not readable as parquet ({_first_line(error)})") from error


def question_text(row: Mapping[str, Any]) -> str | None:
    """Content of the last user message, None where the row has none of that form."""
    prompt = row.get("prompt")
    messages = [m for m in prompt if isinstance(m, Mapping)] if isinstance(prompt, list | tuple) else []
    contents = [m.get("content") for m in messages if m.get("role") == "user"]
    return contents[-1] if contents and isinstance(contents[-1], str) else None


def content_sha256(items: Iterable[Any]) -> str:
    """SHA-256 of JSON values, one a line: a fingerprint of content that no file format or library version changes."""
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
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
