# SPDX-License-Identifier: Apache-2.0
"""What a check worked out of a file's content, kept in the user's cache folder for the next start.

An entry is named by a hash of all that it depends on, so it is never out of date. One that cannot be read or written is
as good as none.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import atomic_write_text

MAX_ENTRIES = 64  # those used least recently go; one is about 10 bytes for a row of data


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "co_rewarding" / "preflight"


def cached(depends_on: tuple[str, ...], compute: Callable[[], Any]) -> Any:
    """`compute()`, or what it returned for the same `depends_on`.

    Args:
        depends_on: hashes and settings that together decide the result, the version of its code included.
        compute: returns what JSON can hold, and `cached` returns what JSON makes of it.
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
