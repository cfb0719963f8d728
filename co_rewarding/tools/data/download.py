# SPDX-License-Identifier: Apache-2.0
"""Atomic download of one file: bounded in size and time, retried on network failures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from co_rewarding.storage.files import atomic_write

TRIES = 3  # per address, on network or server failures
WAIT_S = 1.0  # before the second try; twice that before the third
TIMEOUT_S = 30.0  # without a byte
MAX_SECONDS = 600.0  # for a file


class NotDownloaded(ValueError):
    """One line: the address and the reason."""


def download(urls: Sequence[str], path: Path, max_bytes: int, headers: Mapping[str, str] | None = None) -> str:
    """Download from the first of `urls` that has the file to `path`; return that address.

    Args:
        urls: addresses of the same file; the next one is tried if a server does not have it (4xx).

    Raises:
        NotDownloaded: no address has it, the network fails, or it exceeds `max_bytes`.
        OSError: it cannot be written.
    """
    refusals = []
    for url in urls:
        for attempt in range(TRIES):
            try:
                _fetch(url, path, max_bytes, headers or {})
                return url
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500:
                    refusals.append(f"{url}: HTTP {status}")
                    break
                why = f"HTTP {status}"
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            if attempt + 1 == TRIES:
                raise NotDownloaded(f"{url}: {why}")
            time.sleep(WAIT_S * 2**attempt)
    raise NotDownloaded("; ".join(refusals))


def _fetch(url: str, path: Path, max_bytes: int, headers: Mapping[str, str]) -> None:
    """Raises httpx.HTTPError, NotDownloaded or OSError."""
    until = time.monotonic() + MAX_SECONDS
    with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S, headers=dict(headers)) as answer:
        answer.raise_for_status()
        with atomic_write(path) as part, part.open("wb") as file:
            received = 0
            for block in answer.iter_bytes():
                received += len(block)
                if received > max_bytes:
                    raise NotDownloaded(f"{url}: more than {max_bytes:,} bytes; not the expected file")
                if time.monotonic() > until:
                    raise NotDownloaded(f"{url}: not done after {MAX_SECONDS:g} s")
                file.write(block)
