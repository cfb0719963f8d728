# SPDX-License-Identifier: Apache-2.0
"""Results of checks of file contents, kept in the user's cache folder for the next start.

An entry is named by a hash of all its inputs, so it is never stale. An entry that cannot be read or written is skipped.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import atomic_write_text

MAX_ENTRIES = 64  # least recently used entries are removed; one takes about 10 bytes a row of data


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "co_rewarding" / "preflight"


def cached(depends_on: tuple[str, ...], compute: Callable[[], Any]) -> Any:
    """`compute()`, or what it returned for the same `depends_on`.

    Args:
        depends_on: hashes and settings that determine the result, the version of its code included.
        compute: returns a JSON value; `cached` returns it after a round trip through JSON.
    """
    entry = cache_folder() / f"{hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()}.json"
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
        found = json.loads(entry.read_text(encoding="utf-8"))["result"]
        os.utime(entry)
        return found
    text = json.dumps({"result": compute()})
    with suppress(OSError):
        atomic_write_text(entry, text)
        entries = sorted(entry.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for oldest in entries[:-MAX_ENTRIES]:
            oldest.unlink()
    return json.loads(text)["result"]
