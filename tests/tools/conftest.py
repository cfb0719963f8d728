# SPDX-License-Identifier: Apache-2.0
"""A scripted server, and nothing that waits for its troubles or for a disk."""

import os
import threading
from collections.abc import Iterator

import pytest
from scripted_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between two requests are short, and a busy disk is not waited for: a killed process leaves the same."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
