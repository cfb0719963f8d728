# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server on loopback whose answers stand in a script; shared by the tests that ask one.

An answer is a function of the request (question and seed), so that an interrupted run and an uninterrupted one must
come to the same bytes; only its troubles depend on how often it was asked.
"""

import json
import random
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER


class Server(ThreadingHTTPServer):
    """`trouble(question, asked)` may return (status, headers, body) for the asked-th request of a question, or a
    function that answers with the handler."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests: list[dict] = []
        self.asked: Counter[str] = Counter()
        self.trouble = lambda question, asked: None
        self.delay_s = 0.0
        self.pause_s = 0.0  # between two bytes of an answer to a question
        self.models = ["rewriter"]
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.send(200, {"data": [{"id": name} for name in self.server.models]})
        else:
            self.send(404, {"error": "no such page"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        question = text.rsplit("The question:\n\n", 1)[-1]
        with self.server.lock:
            self.server.asked[question] += 1
            asked = self.server.asked[question]
            self.server.requests.append(body | {"authorization": self.headers.get("Authorization")})
        time.sleep(self.server.delay_s)
        if (found := self.server.trouble(question, asked)) is not None:
            if callable(found):
                return found(self)
            status, headers, answer = found
            return self.send(status, answer, headers)
        reply = rewrite(question, body.get("seed")) if question != text else solution(question)
        choice = {"message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}
        self.send(200, {"choices": [choice]})

    def send(self, status: int, answer, headers=()) -> None:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        try:
            self.send_response(status)
            for name, value in headers or ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "POST" and self.server.pause_s:
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(self.server.pause_s)
            else:
                self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the client was killed
            pass


def marked(text: str) -> str:
    return f"{BEGIN_MARKER}\n{text}\n{END_MARKER}"


def rewrite(question: str, seed: int | None) -> str:
    """Right in most cases; one in four is malformed, one in eight names other numbers. "stubborn" is never right."""
    numbers = re.findall(r"\d+", question)
    drawn = 1.0 if seed is None else draw(question, seed)
    if "stubborn" in question or drawn < 0.25:
        return "I would rather not."
    if drawn < 0.375:
        return marked("How much are 77 and 88 and 99 together?")
    return marked(f"How much are {' and '.join(numbers)} together? ({drawn:.6f})")


def draw(question: str, seed: int) -> float:
    return random.Random(f"{question}:{seed}").random()


def solution(question: str) -> str:
    """The sum; off by one where the rewritten question has 13 in it."""
    numbers = [int(n) for n in re.findall(r"\b\d\d\b", question)]
    return rf"It is \boxed{{{sum(numbers) + (13 in numbers and 'together' in question)}}}."
