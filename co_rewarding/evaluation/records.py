# SPDX-License-Identifier: Apache-2.0
"""Every finished generation, kept: one JSON object a line, only ever appended to.

    line 1      {"kind": "header", "version", "settings": {...}}   what the generations depend on
    afterwards  {"index", "sample", "question", "ground_truth", "response", "tokens", "finish"}

index is the question's row, sample counts its responses from 0; of two lines with the same pair the first counts.
tokens includes the end-of-text token, as training's response length does. finish is "stop", "length" (cut off at the
limit) or "prompt_too_long" (never asked, no response).

How many questions and how many responses are wanted is no part of the settings, so a file made with --limit 20 or one
response is gone on with when more are wanted. A line reaches the kernel before it counts as done, so that a killed
process loses none, and the disk every SYNC_S seconds.

Degenerate cases: a last line without its end (killed while writing) is cut off when the file is opened; any other
broken line, other settings and a second writer are refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

SYNC_S = 5.0
VERSION = 1


@dataclass(frozen=True)
class Generation:
    """One response."""

    index: int
    sample: int
    question: str
    ground_truth: str | None
    response: str
    tokens: int | None  # None: not known (graded from a dump that does not say)
    finish: str | None


class Generations:
    """The open file of one task; `done` holds what it has by (index, sample).

    Args:
        path: made where it is missing.
        settings: JSON values by name; a file that was made with others is refused.
        restart: throw away what it has.

    Raises:
        ValueError: one line: other settings, damage, in use by another process, or not to be opened.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
        self.path = path
        self.done: dict[tuple[int, int], Generation] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise ValueError(f"{path} cannot be opened: {error.strerror}; choose another --output_dir") from error
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ValueError(
                    f"{path} is in use by another evaluation: wait for it, or choose another --output_dir"
                ) from None
            if restart:
                self._file.truncate(0)
            self._read(dict(settings))
            self._synced_at = time.monotonic()
        except BaseException:
            self._file.close()
            raise

    def add(self, generation: Generation) -> None:
        key = (generation.index, generation.sample)
        if key in self.done:
            return
        self._write(asdict(generation))
        self.done[key] = generation
        if time.monotonic() - self._synced_at > SYNC_S:
            self._sync()

    def close(self) -> None:
        if not self._file.closed:
            self._sync()
            self._file.close()

    def __enter__(self) -> Generations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def _write(self, row: Mapping[str, Any]) -> None:
        # ASCII: half a surrogate pair, which a decoded response can hold, has no other spelling
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def _read(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                if number == 1:
                    self._check(row, settings)
                else:
                    generation = Generation(**row)
                    self.done.setdefault((generation.index, generation.sample), generation)
            except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError, AttributeError, RecursionError):
                raise ValueError(
                    f"{self.path}, line {number}: not a line of this tool; take it out, or start anew with --restart"
                ) from None
            end += len(line)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        if end == 0:
            self._write({"kind": "header", "version": VERSION, "settings": settings})
            self._sync()
            _sync_folder(self.path.parent)

    def _check(self, header: Mapping[str, Any], settings: dict[str, Any]) -> None:
        if header["kind"] != "header" or header["version"] != VERSION:
            raise KeyError("header")
        found = header["settings"]
        for name in [*settings, *(name for name in found if name not in settings)]:
            if found.get(name) != settings.get(name):
                raise ValueError(
                    f"{self.path} was made with {name}={_short(found.get(name))}, now it is "
                    f"{_short(settings.get(name))}: choose another --output_dir, or throw it away with --restart"
                )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sync_folder(folder: Path) -> None:
    """Make the folder's new entry durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
