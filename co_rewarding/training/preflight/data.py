# SPDX-License-Identifier: Apache-2.0
"""Checks of a run's data files before it starts (see check.py).

Files of any format are read completely, as rows in verl's schema (data/README.md): rows are compared with one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from omegaconf import DictConfig, OmegaConf

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.methods import method
from co_rewarding.storage import question_numbers, wordings
from co_rewarding.storage.questions import question_tables
from co_rewarding.storage.rows import (
    MAX_NAMED,
    READ_COLUMNS,
    REQUIRED_COLUMNS,
    Row,
    as_paths,
    check_pairs,
    check_question_ids,
    content_sha256,
    file_sha256,
)
from co_rewarding.storage.schema import row_faults
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.storage.wordings import is_empty, normalized, repeats
from co_rewarding.training.console import say
from co_rewarding.training.preflight.cache import cached
from co_rewarding.training.preflight.truths import check_truths
from co_rewarding.training.questions import reading
from co_rewarding.training.settings import Settings

KEYS = ("data.train_files", "data.train_aug_files", "data.val_files")
PUBLISHED = ("math", "dapo", "openrs", "amc")
"""Folders below data/ into which rephrased.py writes the authors' pairs, and for MATH all questions."""
MAX_SUSPECT_SHARE = 0.2
"""Allowed share of suspect rows of a kind; published pairs of MATH and DAPO have ≤ 0.02, files shifted by a row 0.5."""


@dataclass(frozen=True)
class DataFile:
    path: str  # as it is given
    rows: list[Row]


DataFiles = Mapping[str, Sequence[DataFile]]  # of each key that names any


def read_data(config: DictConfig) -> DataFiles:
    """The files of a run, each read once, in verl's schema.

    Raises:
        ValueError: a file that cannot be read (see `_rows_of`), or a key without a row.
    """
    found = {}
    for key in KEYS:
        given = OmegaConf.select(config, key)
        if not given:  # no second view, no validation
            continue
        paths = as_paths(given)
        for path in paths:
            _check_is_there(key, path)
        try:
            tables = question_tables([Path(path).expanduser() for path in paths], reading(config.data, say))
        except ValueError as error:
            raise ValueError(f"{key}={error}") from error
        found[key] = [DataFile(path, _rows_of(key, path, table)) for path, table in zip(paths, tables, strict=True)]
        if not any(file.rows for file in found[key]):
            raise ValueError(f"{key}={given}: no rows")
    return found


def rows_of(files: DataFiles) -> dict[str, list[Row]]:
    """Of each key, the rows of all its files."""
    return {key: [row for file in of_key for row in file.rows] for key, of_key in files.items()}


def check_data(config: DictConfig, files: DataFiles) -> None:
    """Ids, pairs, ground truths and texts of all rows."""
    rows = rows_of(files)
    named = f"data.train_files={config.data.train_files}"
    if "data.train_aug_files" not in rows:
        check_question_ids(rows["data.train_files"], named)
    else:
        check_pairs(
            rows["data.train_files"],
            rows["data.train_aug_files"],
            names=(named, f"data.train_aug_files={config.data.train_aug_files}"),
        )
    for key, of_key in rows.items():
        check_formats(of_key, f"{key}={OmegaConf.select(config, key)}")
    check_truths(config, rows)
    for key, of_key in rows.items():
        empty = [i for i, row in enumerate(of_key) if is_empty(row["prompt"][-1]["content"])]
        where = f"{key}={OmegaConf.select(config, key)}"
        judge(config, {"questions without a letter or digit": empty}, len(of_key), where)
    asked = [row["prompt"][-1]["content"] for row in rows["data.train_files"]]
    warn({"questions that repeat an earlier row": repeats(asked)}, len(asked), named)
    held_out = rows.get("data.val_files", [])
    if config.data.val_files != config.data.train_files:  # test-time training trains on what it validates
        found = trained_on(held_out, [*rows["data.train_files"], *rows.get("data.train_aug_files", [])])
        where = f"data.val_files={config.data.val_files}"
        warn({"validation questions that are also trained on": found}, len(held_out), where)
    if "data.train_aug_files" in rows and not method(config.co_rewarding.method).repeats_original:
        check_wordings(config, rows["data.train_files"], rows["data.train_aug_files"])


def trained_on(held_out: Sequence[Row], trained: Sequence[Row]) -> list[int]:
    """Rows of `held_out` whose question, apart from spaces, is one of `trained`."""
    known = {normalized(row["prompt"][-1]["content"]) for row in trained}
    return [i for i, row in enumerate(held_out) if normalized(row["prompt"][-1]["content"]) in known]


def check_formats(rows: Sequence[Row], where: str) -> None:
    """Every row's answer format is a known one."""
    first_row: dict[str, int] = {}
    for i, row in enumerate(rows):
        first_row.setdefault(stated_as(row)[0], i)
    for spec, i in first_row.items():
        try:
            answer_format(spec)
        except ValueError as error:
            raise ValueError(f"{where}, row {i}: {error}") from error


def check_wordings(config: DictConfig, original: Sequence[Row], rephrased: Sequence[Row]) -> None:
    """The pairs as a whole look like two views of the same questions."""
    texts = [[row["prompt"][-1]["content"] for row in rows] for rows in (original, rephrased)]
    suspicions = cached(
        (file_sha256(Path(wordings.__file__)), file_sha256(Path(question_numbers.__file__)), content_sha256(texts)),
        lambda: wordings.suspect_pairs(*texts),
    )
    where = f"data.train_files={config.data.train_files} and data.train_aug_files={config.data.train_aug_files}"
    judge(config, suspicions, len(original), where)


def _check_is_there(key: str, path: str) -> None:
    file = Path(path).expanduser()
    if not file.exists():
        get = ""
        if file.parent.name in PUBLISHED and (file.parent.name == "math" or file.name.startswith("paired_")):
            get = f"python scripts/data_preprocess/rephrased.py {file.parent.name} gets the published files, "
        without = "; to train without validation set VAL_FILE= in the run script or data.val_files=null"
        raise ValueError(
            f"{key}={path}: no such file (looked for {file.absolute()}); {get}data/README.md says how to make or get "
            f"{'others' if get else 'the files'}{without if key == 'data.val_files' else ''}"
        )


def _rows_of(key: str, path: str, table: pa.Table) -> list[Row]:
    """Rows of one file in verl's schema.

    Raises:
        ValueError: it lacks a column, or a row breaks the schema; the message names `key` and `path`.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{key}={path}: missing columns {', '.join(missing)}; found {', '.join(table.column_names)}; "
            "see data/README.md for the schema"
        )
    rows = table.select([name for name in READ_COLUMNS if name in table.column_names]).to_pylist()
    for i, row in enumerate(rows):
        if faults := row_faults(row, needs_index=False):  # check_question_ids says more about the id
            raise ValueError(f"{key}={path}, row {i}: {faults[0]}; see data/README.md")
    return rows


def judge(
    config: DictConfig,
    suspicions: Mapping[str, Sequence[int]],
    count: int,
    where: str,
    bound: float = MAX_SUSPECT_SHARE,
) -> None:
    """Refuse data with too large a share of suspect rows; print smaller shares.

    Args:
        suspicions: kind of fault -> its rows.
        count: number of rows in all.
        where: the key and the value that name the data.
        bound: the share of rows above which it is refused.

    Raises:
        ValueError: a share is above `bound`, and `co_rewarding.suspect_data` does not allow it.
    """
    worst = max(suspicions, key=lambda text: len(suspicions[text]), default="")
    if worst and len(suspicions[worst]) > bound * count and Settings.read(config).suspect_data == "refuse":
        raise ValueError(
            f"{where}: {counted(worst, suspicions[worst], count)}; see scripts/inspect_data.py, or append "
            "co_rewarding.suspect_data=warn to use the data as it is"
        )
    warn(suspicions, count, where)


def warn(suspicions: Mapping[str, Sequence[int]], count: int, where: str) -> None:
    """Print all suspicions in one line; arguments as for `judge`."""
    if findings := [counted(text, rows, count) for text, rows in suspicions.items() if rows]:
        say(f"WARNING: {where}: {'; '.join(findings)}")


def counted(text: str, rows: Sequence[int], count: int) -> str:
    named = ", ".join(map(str, rows[:MAX_NAMED])) + ", …" * (len(rows) > MAX_NAMED)
    return f"{text}: {len(rows):,} of {count:,} (rows {named})"
