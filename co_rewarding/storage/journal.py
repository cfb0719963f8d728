# SPDX-License-Identifier: Apache-2.0
"""An append-only file that survives a kill: one JSON object a line.

    line 1      {"kind": "header", "version", "settings": {...}}   what the records depend on
    afterwards  records, each with a `key`: of two with the same key the first counts

So no result is duplicated or changed later. A record reaches the kernel before it counts as done, so a killed process
loses none, and the disk every SYNC_S seconds or `checkpoint` records, which bounds the loss in a power failure.

An incomplete last line (the process or machine died while writing) is cut off when the file is opened; a broken line
anywhere else is refused, as are a file of another kind, other settings and a second writer. On a file system without
locks a second writer cannot be detected, which is reported on standard error.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import short_json

SYNC_S = 5.0
VERSION = 1

Record = dict[str, Any]


class JournalError(ValueError):
    """The file cannot be resumed; the one-line message says what to do."""


class Journal:
    """An open file; `records` are those found when opened and those appended since, by key.

    Args:
        path: the file, created with its folder if missing.
        settings: JSON values by name; a file with other settings is refused.
        key: returns the unique key of a record; a KeyError or TypeError means that it is no record.
        restart: discard its content.
        restart_option: the command-line option for it, for the errors.
        digests: settings that are digests -> what they cover, for the errors.
        checkpoint: number of records after which to sync the disk, >= 1; None: by time only.

    Raises:
        JournalError: another process writes to it, it has other settings, it is damaged or no journal, or the disk is
        full. All writing methods raise it too.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        key: Callable[[Record], Hashable],
        *,
        restart: bool = False,
        restart_option: str = "--restart",
        digests: Mapping[str, str] | None = None,
        checkpoint: int | None = None,
    ) -> None:
        self.path, self.key = path, key
        self.records: dict[Any, Record] = {}
        self._anew, self._digests = f"start over with {restart_option}", digests or {}
        self._checkpoint, self._unsynced, self._synced_at = checkpoint, 0, time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}; choose another place") from None
        try:
            self._lock()
            with self._on_disk():
                if restart:
                    self._file.truncate(0)
                self._load({"kind": "header", "version": VERSION, "settings": dict(settings)})
        except BaseException:
            with suppress(OSError):
                self._file.close()
            raise

    def append(self, record: Record) -> bool:
        """Add `record` unless its key exists; return whether it was added."""
        key = self.key(record)
        if key in self.records:
            return False
        self._write(record)
        self.records[key] = record
        self._unsynced += 1
        if self._unsynced == self._checkpoint or time.monotonic() - self._synced_at > SYNC_S:
            self.sync()
        return True

    def sync(self) -> None:
        """Sync everything to disk."""
        with self._on_disk():
            os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            with self._on_disk(), self._file:
                self.sync()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{self.path} is in use by another process: wait for it, or stop it") from None
        except OSError as error:
            print(
                f"{self.path} cannot be locked ({error.strerror}): make sure that nothing else writes to it",
                file=sys.stderr,
            )

    def _load(self, header: Record) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n") and (end or _encoded(header).startswith(line)):
                self._file.truncate(end)  # incomplete write
                break
            end += len(line)
            try:
                value = json.loads(line)
                if number > 1:
                    self.records.setdefault(self.key(value), value)
            except (ValueError, KeyError, TypeError, RecursionError):
                if number > 1:
                    message = f"line {number}: not a record of this tool; remove the line, or {self._anew}"
                    raise JournalError(f"{self.path}, {message}") from None
                value = None
            if number == 1:
                self._check(value, header["settings"])
        if end == 0:
            self._write(header)
            _sync_folder(self.path.parent)
        self.sync()

    def _check(self, header: Any, settings: Mapping[str, Any]) -> None:
        match header:
            case {"kind": "header", "version": version, "settings": dict(found)} if version == VERSION:
                for name in sorted({*found, *settings}):
                    old, new = found.get(name), settings.get(name)
                    if old != new and name in self._digests:
                        raise JournalError(f"{self.path} was made with other {self._digests[name]}; {self._anew}")
                    if old != new:
                        raise JournalError(
                            f"{self.path} was made with {name}={short_json(old)}, now it is {short_json(new)}: set it "
                            f"back to resume, or {self._anew}"
                        )
            case _:
                raise JournalError(f"{self.path}: its first line is no header of this version; {self._anew}")

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """Report a full or failing disk in one line."""
        try:
            yield
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}; its records are kept") from None

    def _write(self, record: Record) -> None:
        with self._on_disk():
            self._file.write(_encoded(record))
            self._file.flush()


def _encoded(record: Record) -> bytes:
    # ASCII: a lone surrogate, which a decoded response can have, needs an escape.
    return json.dumps(record).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    """Sync the folder's new entry."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
