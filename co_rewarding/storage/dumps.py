# SPDX-License-Identifier: Apache-2.0
"""Rows of a run's dumps, step by step and one at a time: a long run has gigabytes of responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import jsonl_rows
from co_rewarding.storage.run_dir import RunDir

TRAINING, HELD_OUT = "training", "held-out"
Dump = Iterator[tuple[int, Iterator[dict[str, Any]]]]


def dumps(run: RunDir, last_step: int) -> dict[str, Dump]:
    """(step, rows) of rollouts and of validations, in order, up to a step; later ones are from an earlier run."""
    return {
        TRAINING: _dump(run.dumped_steps(), run.rollouts_file, last_step),
        HELD_OUT: _dump(run.validated_steps(), run.validation_file, last_step),
    }


def dump_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one dump, without a truncated last line (killed run).

    Raises:
        ValueError: another line is no JSON object; names the file and the line.
    """
    with path.open("rb") as file:
        whole = takewhile(lambda line: line.endswith(b"\n"), file)
        for _, row in jsonl_rows(whole, str(path)):
            yield row


def _dump(steps: Sequence[int], file: Callable[[int], Path], last_step: int) -> Dump:
    for step in steps:
        if step <= last_step:
            yield step, dump_rows(file(step))
