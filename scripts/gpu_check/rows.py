# SPDX-License-Identifier: Apache-2.0
"""Results of a stage of the check: rows in a file of the stage's folder, one JSON object a line, each written at once,
so that an interrupted stage keeps its results.

    check     what was checked
    result    "ok" or "FAILED" of a check; "measured", which has no limit; "not run", unavailable on this machine
    value     in words, with units
    seconds   duration, or null
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from co_rewarding.storage.files import parse_jsonl

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Row:
    check: str
    result: str
    value: str
    seconds: float | None = None


class Rows:
    """The rows of one stage; each is printed too."""

    def __init__(self, stage_folder: Path) -> None:
        self._path = stage_folder / ROWS
        self._started = time.monotonic()

    def check(self, name: str, passed: bool, value: str) -> None:
        self._add(name, "ok" if passed else "FAILED", value)

    def measured(self, name: str, value: str) -> None:
        self._add(name, "measured", value)

    def not_run(self, name: str, why: str) -> None:
        self._add(name, "not run", why)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """An error inside fails only this part of a stage."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self._add(name, "FAILED", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

    def _add(self, name: str, result: str, value: str) -> None:
        now = time.monotonic()
        row = Row(name, result, value, round(now - self._started, 2))
        self._started = now
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        print(f"{result}: {name}: {value}", file=sys.stderr, flush=True)


def read_rows(stage_folder: Path) -> list[Row]:
    path = stage_folder / ROWS
    if not path.is_file():
        return []
    return [Row(**row) for row in parse_jsonl(path.read_bytes(), path.name)[0]]
