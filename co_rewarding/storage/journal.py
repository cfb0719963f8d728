# SPDX-License-Identifier: Apache-2.0
"""A file that outlives a killed run: one JSON object a line, only ever appended to.

    line 1      {"kind": "header", "version", "settings": {...}}   what the records depend on
    afterwards  records, each with an identity (`key`): of two with the same one the first counts

So nothing is doubled, and nothing that was found is changed later. A record reaches the kernel before it counts as
done, so a killed process loses none, and the disk every SYNC_S seconds or `checkpoint` records, which bounds what a
power failure can take.

Degenerate cases: a last line without its end (the process or machine died while writing it) is cut off when the file
is opened; a broken line anywhere else is damage and refused, as are other settings and a second writer. A file system
without locks cannot tell a second writer, which is said on standard error.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from co_rewarding.storage.files import short_json

SYNC_S = 5.0
VERSION = 1
_EMPTY = object()

Record = dict[str, Any]
J = TypeVar("J", bound="Journal")


class JournalError(ValueError):
    """The file cannot be resumed; its message is one line that says what to do."""


class Journal:
    """An open file; a subclass says what its records are and what a user can do.

    `records` are those that it had when it was opened and those appended since, by their keys.

    Args:
        path: the file; it is made where it is missing, with its folder.
        settings: JSON values by name; a file made with other ones is refused.
        restart: throw away what it has.
        checkpoint: records after which the disk is waited for, >= 1; None: only the time counts.

    Raises:
        JournalError: another process writes to it, it was made with other settings, it is damaged, or the disk is full.
            So do all methods that write.
    """

    RESTART: ClassVar[str] = "--restart"  # the option that throws the file away
    CANNOT_OPEN: ClassVar[str]  # follows "PATH cannot be opened: REASON; "
    IN_USE: ClassVar[str]  # follows "PATH is in use by "
    OTHER_SETTINGS: ClassVar[str]  # follows "PATH was "; has a {} for the earlier and one for the present setting
    DAMAGED: ClassVar[str]  # follows "PATH, line NUMBER: "

    @staticmethod
    def key(record: Record) -> Hashable:
        """What may exist once. A KeyError or TypeError says that it is no record."""
        raise NotImplementedError

    def __init__(
        self, path: Path, settings: Mapping[str, Any], restart: bool = False, checkpoint: int | None = None
    ) -> None:
        self.path = path
        self.records: dict[Any, Record] = {}
        self._checkpoint = checkpoint
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise JournalError(f"{path} cannot be opened: {error.strerror}; {self.CANNOT_OPEN}") from None
        try:
            self._lock()
            with self._on_disk():
                self._open(settings, restart)
        except BaseException:
            with suppress(OSError):
                self._file.close()
            raise

    def append(self, record: Record) -> bool:
        """Add `record`, unless there is one with its key; whether it was added."""
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
        """Wait until the disk has everything."""
        with self._on_disk():
            os.fsync(self._file.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()

    def close(self) -> None:
        if not self._file.closed:
            with self._on_disk():
                try:
                    self.sync()
                finally:
                    self._file.close()

    def __enter__(self: J) -> J:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{self.path} is in use by {self.IN_USE}") from None
        except OSError as error:
            print(f"{self.path} cannot be locked ({error.strerror}): let nothing else write to it", file=sys.stderr)

    def _open(self, settings: Mapping[str, Any], restart: bool) -> None:
        if restart:
            self._file.truncate(0)
        lines = self._read()
        header = next(lines, _EMPTY)
        if header is _EMPTY:
            self._write({"kind": "header", "version": VERSION, "settings": dict(settings)})
            _sync_folder(self.path.parent)
        else:
            self._check(header, settings)
        for number, record in enumerate(lines, start=2):
            try:
                self.records.setdefault(self.key(record), record)
            except (KeyError, TypeError):
                raise self._damaged(number) from None
        self.sync()

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        """A disk that is full or fails is reported in one line."""
        try:
            yield
        except OSError as error:
            raise JournalError(f"{self.path} cannot be written: {error.strerror}; what it has is kept") from None

    def _write(self, record: Record) -> None:
        # ASCII: half a surrogate pair, which a decoded response can hold, has no other spelling.
        with self._on_disk():
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()

    def _read(self) -> Iterator[Any]:
        """The value of each line; a last one without its end is cut off."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            end += len(line)
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise self._damaged(number) from None

    def _check(self, header: Any, settings: Mapping[str, Any]) -> None:
        match header:
            case {"kind": "header", "version": version, "settings": dict(found)} if version == VERSION:
                for name in sorted({*found, *settings}):
                    old, new = found.get(name), settings.get(name)
                    if old != new:
                        change = self.OTHER_SETTINGS.format(f"{name}={short_json(old)}", short_json(new))
                        raise JournalError(f"{self.path} was {change}")
            case _:
                raise JournalError(
                    f"{self.path}: its first line is no header of this version; start anew with {self.RESTART}"
                )

    def _damaged(self, number: int) -> JournalError:
        return JournalError(f"{self.path}, line {number}: {self.DAMAGED}")


def _sync_folder(folder: Path) -> None:
    """Make the folder's new entry durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
