# SPDX-License-Identifier: Apache-2.0
r"""The record of what a run has found out, which outlives the run: one JSON object a line, only ever appended to.

    line 1      {"kind": "header", ...}    what the records depend on: input, model, instruction, sampling
    afterwards  {"kind": "attempt", "row", "attempt", "rewrite" | "failure" (+ "text")}
                {"kind": "answer", "row", "view", "sample", "digest", "answer"}

A record reaches the kernel before its row counts as done, so a killed process loses none, and the disk every
`checkpoint` records or CHECKPOINT_S seconds, which bounds what a power failure can take. A record has an identity
(`key`): of two with the same one the first counts, so nothing is doubled and nothing that was found is changed later.

Degenerate cases: a last line without its end (the process or machine died while writing it) is cut off when the file
is opened; a broken line anywhere else is damage and refused, as is a header of other settings, and a second writer.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

CHECKPOINT_S = 10.0
VERSION = 1

Record = dict[str, Any]


class JournalError(Exception):
    """The file cannot be gone on with; its message is one line that says what to do."""


def key(record: Record) -> tuple[Any, ...]:
    """What may exist once."""
    if record["kind"] == "attempt":
        return ("attempt", record["row"], record["attempt"])
    return ("answer", record["digest"], record["sample"])


class Journal:
    """An open journal. `records` are those it had when it was opened and those appended since, first one wins.

    Args:
        path: the file; it is made where it is missing.
        settings: JSON values by name; a file made with other ones is refused.
        checkpoint: records after which the disk is waited for, >= 1.

    Raises:
        JournalError: another process writes to it, it was made with other settings, or it is damaged.
    """

    def __init__(self, path: Path, settings: Record, checkpoint: int = 128) -> None:
        self.path = path
        self._checkpoint = checkpoint
        self._unsynced = 0
        self._synced_at = time.monotonic()
        try:
            is_new = not path.exists()
            self._file = path.open("a+b")
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}; choose another --output_jsonl") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise JournalError(f"{path} is in use by another process: wait for it, or end it") from None
        try:
            self.records: dict[tuple[Any, ...], Record] = {}
            header = {"kind": "header", "version": VERSION, "settings": settings}
            lines = self._read()
            first = next(lines, None)
            if first is None:
                self._write(header)
                self.sync()
                if is_new:
                    _sync_folder(path.parent)
            else:
                _check_header(path, first, header)
            for record in lines:
                self.records.setdefault(key(record), record)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Record) -> bool:
        """Add `record`, unless there is one with its key; whether it was added."""
        if key(record) in self.records:
            return False
        self._write(record)
        self.records[key(record)] = record
        self._unsynced += 1
        if self._unsynced >= self._checkpoint or time.monotonic() - self._synced_at > CHECKPOINT_S:
            self.sync()
        return True

    def sync(self) -> None:
        """Wait until the disk has everything."""
        os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, record: Record) -> None:
        # ASCII: half a surrogate pair, which a server's JSON can hold, has no other spelling.
        self._file.write(json.dumps(record, sort_keys=True).encode() + b"\n")
        self._file.flush()

    def _read(self) -> Iterator[Record]:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            try:
                record = json.loads(line)
                if record["kind"] != "header":
                    key(record)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise JournalError(
                    f"{self.path}, line {number}: not a record of this tool; "
                    "take the line out, or start anew with --restart"
                ) from None
            end += len(line)
            yield record
        self._file.seek(0, os.SEEK_END)


def _check_header(path: Path, found: Record, wanted: Record) -> None:
    if found.get("kind") != "header" or found.get("version") != VERSION:
        raise JournalError(f"{path}: its first line is no header of this version; start anew with --restart")
    old, new = found["settings"], wanted["settings"]
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise JournalError(
                f"{path} was begun with {name}={_short(old.get(name))}, now it is {_short(new.get(name))}: "
                "set it back to go on, or start anew with --restart"
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
