# SPDX-License-Identifier: Apache-2.0
"""One file from a server on loopback: whole or not at all, bounded, tried again, from the next address after a 404."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from co_rewarding.tools.data import download as module
from co_rewarding.tools.data.download import NotDownloaded, download

CONTENT = b"PAR1" + bytes(range(256)) * 40  # 10,244 bytes


class Server(ThreadingHTTPServer):
    """Has /file, /gone (404), /elsewhere (to /file), /busy (503 twice, then the file), /cut (half of it, always)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        is_busy = self.path == "/busy" and self.server.asked.count("/busy") <= 2
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/file")
        else:
            self.send_response(404 if self.path == "/gone" else 503 if is_busy else 200)
        if self.path in ("/gone", "/elsewhere") or is_busy:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_the_next_address_is_asked_where_one_has_no_such_file(server: Server, tmp_path: Path) -> None:
    urls = [server.url("/gone"), server.url("/elsewhere")]
    assert download(urls, tmp_path / "new/file", len(CONTENT)) == urls[1]
    assert (tmp_path / "new/file").read_bytes() == CONTENT
    assert server.asked == ["/gone", "/elsewhere", "/file"]
    with pytest.raises(NotDownloaded, match=r"/gone: HTTP 404$"):
        download(urls[:1], tmp_path / "other", len(CONTENT))


def test_a_server_that_fails_is_asked_again(server: Server, tmp_path: Path) -> None:
    download([server.url("/busy")], tmp_path / "file", len(CONTENT))
    assert server.asked == ["/busy"] * 3 and (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize(("path", "limit", "why"), [("/cut", 10_244, "/cut: "), ("/file", 10_243, "more than 10,243")])
def test_what_is_not_whole_is_not_written(path: str, limit: int, why: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"earlier")
    with pytest.raises(NotDownloaded, match=why):
        download([server.url(path)], tmp_path / "file", limit)
    assert [(place.name, place.read_bytes()) for place in tmp_path.iterdir()] == [("file", b"earlier")]
    assert len(server.asked) == (3 if path == "/cut" else 1)


def test_no_server_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    with Server() as stopped:
        url = stopped.url("/file")
    with pytest.raises(NotDownloaded) as error:
        download([url, url], tmp_path / "file", 10)
    assert str(error.value).startswith(f"{url}: ConnectError: ") and "\n" not in str(error.value)
