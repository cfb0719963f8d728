# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a run's data files, reported in one line before it starts (see preflight.py).

Rows are in verl's schema (data/README.md). Files are read whole: their rows are compared with one another.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet
from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.rows import (
    READ_COLUMNS,
    REQUIRED_COLUMNS,
    as_paths,
    check_pairs,
    check_question_ids,
    read_table,
)
from co_rewarding.training.preflight_truths import check_truths


def check_data(config: DictConfig) -> None:
    rows = {}
    for key in ("data.train_files", "data.train_aug_files", "data.val_files"):
        files = OmegaConf.select(config, key)
        if not files:  # no second wording, no validation
            continue
        rows[key] = [row for path in as_paths(files) for row in read_rows(key, path)]
        if not rows[key]:
            raise ValueError(f"{key}={files}: no rows")
    named = f"data.train_files={config.data.train_files}"
    if "data.train_aug_files" not in rows:
        check_question_ids(rows["data.train_files"], named)
    else:
        check_pairs(
            rows["data.train_files"],
            rows["data.train_aug_files"],
            names=(named, f"data.train_aug_files={config.data.train_aug_files}"),
        )
    check_truths(config, rows)
    questions, batch = len(rows["data.train_files"]), config.data.train_batch_size
    if questions < batch:
        raise ValueError(
            f"data.train_batch_size={batch}: data.train_files has {questions} questions, less than one batch"
        )


def read_rows(key: str, path: str) -> list[dict[str, Any]]:
    """Rows of one parquet file in verl's schema.

    Raises:
        ValueError: the file is missing, is not parquet or lacks a column; the message names `key` and `path`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        without = "; to train without validation set VAL_FILE= in the run script or data.val_files=null"
        raise ValueError(
            f"{key}={path}: no such file (looked for {file.absolute()}); data/README.md says how to make or get the "
            f"files{without if key == 'data.val_files' else ''}"
        )
    if file.suffix != ".parquet":
        raise ValueError(
            f"{key}={path}: the name must end in .parquet, by which verl knows the format; rename the file"
        )
    try:
        table = read_table(file)
    except ValueError as error:
        raise ValueError(f"{key}={error}") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{key}={path}: missing columns {', '.join(missing)}; found {', '.join(table.column_names)}; "
            "see data/README.md for the schema"
        )
    rows = table.select([name for name in READ_COLUMNS if name in table.column_names]).to_pylist()
    bad = [i for i, row in enumerate(rows) if not _is_chat(row["prompt"])]
    if bad:
        raise ValueError(
            f"{key}={path}: column prompt must be a list of {{role, content}} messages ending with the user's; "
            f"row {bad[0]} has {str(rows[bad[0]]['prompt'])[:80]!r}"
        )
    return rows


def check_steps(config: DictConfig) -> None:
    steps = config.trainer.total_training_steps
    if steps is None or config.data.filter_overlong_prompts is None:
        return
    paths = [Path(path).expanduser() for path in as_paths(config.data.train_files)]
    questions = sum(pyarrow.parquet.read_metadata(path).num_rows for path in paths)
    possible = questions // config.data.train_batch_size * config.trainer.total_epochs
    if steps > possible:
        raise ValueError(
            f"trainer.total_training_steps={steps}: {questions} questions in batches of {config.data.train_batch_size} "
            f"for trainer.total_epochs={config.trainer.total_epochs} epochs make {possible} steps; raise "
            "trainer.total_epochs"
        )


def _is_chat(prompt: Any) -> bool:
    return (
        isinstance(prompt, list)
        and len(prompt) > 0
        and all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in prompt)
        and prompt[-1]["role"] == "user"
        and all(isinstance(message["content"], str) for message in prompt)
    )
