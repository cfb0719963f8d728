# SPDX-License-Identifier: Apache-2.0
"""The engine that asks a server: every kind of trouble is bounded, and blamed on whom it is due to."""

import gzip
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from scripted_server import Handler, Server

from co_rewarding.tools.generation.engine import EngineDown, EngineError, Request, Sampling, ServerOptions
from co_rewarding.tools.generation.server_engine import ServerEngine

pytestmark = pytest.mark.usefixtures("nothing_waits")


def ask(engine: ServerEngine, *questions: str) -> list:
    for question in questions:
        engine.submit(Request((question,), [{"role": "user", "content": question}], Sampling()))
    done = []
    while found := engine.collect():
        done += found
    return done


OPENED: list[ServerEngine] = []


def quick(url: str, model: str = "", api_key: str = "", **options) -> ServerEngine:
    engine = ServerEngine(ServerOptions(base_url=url, **{"http_retries": 1, **options}), model, api_key)
    OPENED.append(engine)
    return engine


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def test_last_request_that_fails_is_told_from_an_outage(server) -> None:
    server.trouble = lambda question, asked: (500, (), b"") if question == "hm" else None
    (completion,) = ask(quick(server.url), "hm")  # the server still answers something else
    assert (completion.failure, completion.detail) == ("server_error", "status 500")
    server.trouble = lambda question, asked: (500, (), b"")  # it lists its models, and that is all
    with pytest.raises(EngineDown, match=r"tried 2 times \(status 500\); check the server"):
        ask(quick(server.url), "hm")
    engine = quick(server.url)
    server.shutdown()
    server.server_close()
    with pytest.raises(EngineDown):
        ask(engine, "hm")


def stalled(handler: Handler) -> None:
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"oo")
    time.sleep(1.5)


def reset(handler: Handler) -> None:
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(handler.connection.detach())


def broken_chunk(handler: Handler) -> None:
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"zz\r\n")


@pytest.mark.parametrize(("status", "failure"), [(502, "server_error"), (400, "refused")])
@pytest.mark.parametrize("body", [stalled, reset, broken_chunk])
def test_a_status_counts_whatever_becomes_of_its_body(server, status, failure, body) -> None:
    def trouble(handler: Handler) -> None:
        handler.send_response(status)
        body(handler)

    server.trouble = lambda question, asked: trouble if question == "hm" else None
    done = {c.key: c for c in ask(quick(server.url, http_timeout=1, http_retries=0), "hm", "fine")}
    assert done["hm",].failure == failure and done["hm",].detail.startswith(f"status {status}")
    assert done["fine",].text


def test_an_unforeseen_error_ends_the_run(server, monkeypatch) -> None:
    engine = quick(server.url, max_concurrency=1)
    monkeypatch.setattr(engine, "_complete", lambda request: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(engine, "hm", "hm")


def test_slow_server_times_out(server) -> None:
    server.delay_s = 1.5
    with pytest.raises(EngineDown, match="timed out"):
        ask(quick(server.url, http_timeout=0.5, http_retries=0), "slow")


def test_an_answer_that_trickles_in_times_out(server) -> None:
    server.pause_s = 0.2  # each byte well within the time limit, the 20 and more of them not
    started = time.monotonic()
    with pytest.raises(EngineDown, match="longer than --http_timeout"):
        ask(quick(server.url, http_timeout=0.5, http_retries=0), "slow")
    assert time.monotonic() - started < 3


def test_oversized_answer_is_refused(server, monkeypatch) -> None:
    monkeypatch.setattr("co_rewarding.tools.generation.server_engine.MAX_RESPONSE_BYTES", 200)
    server.trouble = lambda question, asked: (200, (), b" " * 201) if question == "big" else None
    (completion,) = ask(quick(server.url), "big")
    assert completion.failure == "refused"


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (401, "bad key", "status 401, check the API key: "),
        (404, "no such model", "status 404, check the address and the model's name: "),
    ],
)
def test_what_the_user_can_mend_is_reported_at_once(server, status, answer, message) -> None:
    server.trouble = lambda question, asked: (status, (), answer.encode())
    with pytest.raises(EngineError) as error:
        ask(quick(server.url), "a", "b")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_questions_that_are_refused_alone_are_told_from_that(server) -> None:
    server.trouble = lambda question, asked: (400, (), b"too long") if "long" in question else None
    done = ask(quick(server.url, max_concurrency=1), *[f"long {k}" for k in range(7)])
    assert [completion.failure for completion in done] == ["refused"] * 7
    assert len(server.requests) == 7 + 1  # the short question once


@pytest.mark.parametrize("status", [301, 307])
def test_redirections_are_reported_and_not_followed(server, status) -> None:
    other = Server()  # never started: a request to it would time out
    server.trouble = lambda question, asked: (status, [("Location", other.url)], b"")
    with pytest.raises(EngineError, match=f"chat/completions redirects to {other.url}: use that address"):
        ask(quick(server.url, api_key="s3cret", http_timeout=5), "hm")
    assert len(server.requests) == 1
    other.server_close()


def test_a_server_that_knows_only_openais_fields_is_asked_without_the_others(server) -> None:
    def trouble(question: str, asked: int) -> tuple | None:
        refused = b"Unrecognized request argument: chat_template_kwargs"
        return (400, (), refused) if "chat_template_kwargs" in server.requests[-1] else None

    server.trouble = trouble
    engine = quick(server.url, max_concurrency=1)
    sampling = Sampling(chat_template_kwargs={"enable_thinking": False})
    for question in ("a", "b"):
        engine.submit(Request((question,), [{"role": "user", "content": question}], sampling))
    done = [completion for _ in range(2) for completion in engine.collect()]
    assert [completion.failure for completion in done] == [None, None] and len(server.requests) == 3


def test_a_template_that_takes_no_system_message_gets_it_in_the_users(server) -> None:
    def trouble(question: str, asked: int) -> tuple | None:
        has_system = server.requests[-1]["messages"][0]["role"] == "system"
        return (400, (), b'{"message": "System role not supported"}') if has_system else None

    server.trouble = trouble
    engine = quick(server.url, max_concurrency=1)
    for question in ("a", "b"):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        engine.submit(Request((question,), messages, Sampling()))
    done = [completion for _ in range(2) for completion in engine.collect()]
    assert [completion.failure for completion in done] == [None, None] and len(server.requests) == 3
    assert server.requests[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nb"}]


def test_reasoning_is_part_of_the_text(server) -> None:
    message = {"content": r"\boxed{2}", "reasoning_content": "1 + 1"}
    answer = {"choices": [{"message": message, "finish_reason": "length"}], "usage": {"completion_tokens": 9}}
    server.trouble = lambda question, asked: (200, (), answer)
    (completion,) = ask(quick(server.url), "hm")
    assert completion.text == r"<think>1 + 1</think>\boxed{2}"
    assert completion.tokens == 9 and completion.reached_limit


def test_a_bomb_is_not_unpacked(server) -> None:
    bomb = gzip.compress(b" " * 2**26)
    server.trouble = lambda question, asked: (200, [("Content-Encoding", "gzip")], bomb) if question == "hm" else None
    (completion,) = ask(quick(server.url, http_retries=0), "hm")
    assert (completion.failure, completion.detail) == ("server_error", "an answer that is not JSON")


def test_model_that_must_be_named(server) -> None:
    server.models = ["a", "b"]
    with pytest.raises(EngineError, match="serves a, b; name one with --model_path"):
        quick(server.url)
    assert quick(server.url, model="b").model == "b"


@pytest.mark.filterwarnings("error")  # one of a coroutine that nobody waits for, too
def test_an_interruption_at_any_moment_leaves_an_engine_that_closes(server) -> None:
    """An event loop in the main thread was left unable to close, about once in ten times."""
    draw = random.Random(7)
    for _ in range(20):
        engine = quick(server.url, max_concurrency=16)
        for question in range(200):
            engine.submit(Request((question,), [{"role": "user", "content": str(question)}], Sampling()))
        timer = threading.Timer(draw.uniform(0.01, 0.1), os.kill, [os.getpid(), signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            while engine.collect():
                pass
        OPENED.pop().close()
        assert not engine._thread.is_alive()
