# SPDX-License-Identifier: Apache-2.0
"""Any file of questions (storage/questions.py) as a run and verl's loader read it.

`data.answer_format`, which is `co_rewarding.answer_format`, is the format of rows that name none.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.storage.files import atomic_write
from co_rewarding.storage.questions import Reading, is_verl_parquet, question_tables


def reading(data: Mapping[str, Any], say: Callable[[str], object] = lambda text: None) -> Reading:
    """How a run with the block `data` reads a file that is not in verl's schema."""
    return Reading(lambda spec: answer_format(spec).instruction, data.get("answer_format") or "", say=say)


def verl_files(paths: Sequence[str], data: Mapping[str, Any], folder: Path) -> list[str]:
    """Parquet files in verl's schema with the questions of `paths`; unchanged files where verl can read them.

    Args:
        folder: for converted files, named by their content.
    """
    files = [Path(path).expanduser() for path in paths]
    is_read = [file.suffix == ".parquet" and is_verl_parquet(file) for file in files]
    if all(is_read):
        return list(paths)
    tables = question_tables(files, reading(data))
    return [
        path if as_it_is else str(_kept(table, folder))
        for path, as_it_is, table in zip(paths, is_read, tables, strict=True)
    ]


def _kept(table: pa.Table, folder: Path) -> Path:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content: Any = sink.getvalue()
    path = folder / f"questions-{hashlib.sha256(content).hexdigest()}.parquet"
    if not path.is_file():
        with atomic_write(path) as part:
            part.write_bytes(content)
    return path
