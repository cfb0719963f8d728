# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server as the engine (co_rewarding.rephrase.engines).

What becomes of trouble:
| what | outcome |
|---|---|
| prompt longer than the model's context; status 400, 413, 422 | completion with failure "refused", no text |
| status 408, 409, 425, 429, 5xx, no or unreadable answer | asked again, up to `http_retries` times, in growing pauses |
| ... still so, while other requests succeed | completion with failure "server_error" |
| ... still so, and no other request succeeds | EngineDown: the server is to blame, not the requests |
| status 401, 403, 404, other 4xx; no connection at first | EngineError at once, one line |

Deliberately absent: the openai package, which reads an answer of any size, asks no second time for one that it cannot
read, and has its own pauses: with all that put right around it, it is no shorter.
"""

from __future__ import annotations

import http.client
import json
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from typing import Any, NoReturn

from co_rewarding.command_line import one_line
from co_rewarding.rephrase.engines import Completion, EngineDown, EngineError, Request

MAX_RESPONSE_BYTES = 8 * 2**20
MAX_PAUSE_S = 30.0
_AGAIN = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})


class HTTPEngine:
    """A client of POST {base_url}/chat/completions with `concurrency` requests under way.

    Args:
        base_url: such as http://localhost:8000/v1.
        model: name of the served model; "": the server's only one.
        api_key: sent as a bearer token where not "".
        http_retries: times that a request is asked again for a passing trouble, >= 0.
        timeout_s: of one request.
        thinking_field: send chat_template_kwargs.enable_thinking, as vLLM and SGLang read it.

    Raises:
        EngineError: no server at that address, it refuses the key, or the model must be named.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str = "",
        concurrency: int = 64,
        http_retries: int = 6,
        timeout_s: float = 600.0,
        thinking_field: bool = True,
        first_pause_s: float = 1.0,
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise EngineError(f"--base_url {base_url}: use an address such as http://localhost:8000/v1")
        self._url = base_url.rstrip("/")
        self._key = api_key
        self._retries = http_retries
        self._timeout_s = timeout_s
        self._thinking_field = thinking_field
        self._first_pause_s = first_pause_s
        self._waiting: queue.Queue[Request | None] = queue.Queue()
        self._done: queue.Queue[Completion | EngineError] = queue.Queue()
        self._pending = 0
        self._exhausted: deque[Completion] = deque()  # not known yet whether the request or the server is to blame
        self._stop = threading.Event()
        self.model = self._greet(model)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, concurrency))]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        self._pending += 1
        self._waiting.put(request)

    def collect(self) -> list[Completion]:
        while self._pending:
            try:
                found = self._done.get(timeout=0.5)  # so that Ctrl-C is seen
            except queue.Empty:
                continue
            if isinstance(found, EngineError):
                raise found
            self._pending -= 1
            if found.failure == "server_error":
                self._exhausted.append(found)
                if len(self._exhausted) >= max(3, min(len(self._threads), 16)):
                    self._raise_down()
                if self._pending:
                    continue
                # Nothing else is under way to compare with: does the server answer anything at all?
                try:
                    self._ask("GET", "/models", None)
                except _Passing:
                    self._raise_down()
                except (EngineError, _RequestRefused):
                    pass
                return self._take_exhausted()
            # The server lives: what failed before was about those requests.
            return [*self._take_exhausted(), found]
        return []

    def close(self) -> None:
        self._stop.set()
        for _ in self._threads:
            self._waiting.put(None)

    def _take_exhausted(self) -> list[Completion]:
        taken = list(self._exhausted)
        self._exhausted.clear()
        return taken

    def _raise_down(self) -> NoReturn:
        last = self._exhausted[-1]
        raise EngineDown(
            f"{self._url}: the last {len(self._exhausted)} requests failed {self._retries + 1} times each "
            f"({last.detail}); see to the server"
        )

    def _greet(self, model: str) -> str:
        """The model to name in requests; that there is a server at all."""
        for pause_s in (0.5, 1.0, None):
            try:
                listed = self._ask("GET", "/models", None)
                names = [str(entry["id"]) for entry in listed["data"]]
                break
            except _Passing as trouble:
                if pause_s is None:
                    raise EngineError(f"--base_url {self._url}: no server answers there ({trouble})") from None
                time.sleep(pause_s)
            except (_RequestRefused, KeyError, TypeError, EngineError) as error:
                if isinstance(error, EngineError) and "API key" in str(error):
                    raise
                if model:  # not every server lists its models
                    return model
                raise EngineError(f"--base_url {self._url}: no list of models there; name one: --model_path") from None
        if model or len(names) == 1:
            return model or names[0]
        raise EngineError(f"--base_url {self._url} serves {', '.join(names[:5]) or 'nothing'}: name one: --model_path")

    def _work(self) -> None:
        while (request := self._waiting.get()) is not None and not self._stop.is_set():
            try:
                self._done.put(self._complete(request))
            except EngineError as error:
                self._done.put(error)

    def _complete(self, request: Request) -> Completion:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if sampling.top_k > 0:
            body["top_k"] = sampling.top_k
        if request.seed is not None:
            body["seed"] = request.seed
        if self._thinking_field:
            body["chat_template_kwargs"] = {"enable_thinking": sampling.enable_thinking}
        trouble = ""
        for attempt in range(self._retries + 1):
            try:
                answer = self._ask("POST", "/chat/completions", body)
                choice = answer["choices"][0]
                text = choice["message"]["content"]
                if not isinstance(text, str | None):
                    raise TypeError
                return Completion(request.key, text or "", choice.get("finish_reason") == "length")
            except _RequestRefused as refusal:
                if self._thinking_field and "chat_template_kwargs" in str(refusal):
                    raise EngineError(
                        f"--base_url {self._url} does not know chat_template_kwargs: add --no_thinking_field"
                    ) from None
                return Completion(request.key, failure="refused", detail=str(refusal))
            except _Passing as passing:
                trouble, pause_s = str(passing), passing.pause_s
            except (KeyError, IndexError, TypeError, AttributeError):
                trouble, pause_s = "an answer without choices[0].message.content", None
            if attempt < self._retries:
                growing = self._first_pause_s * 2**attempt * random.uniform(0.5, 1.0)
                if self._stop.wait(min(MAX_PAUSE_S, growing if pause_s is None else max(pause_s, 0.0))):
                    break
        return Completion(request.key, failure="server_error", detail=trouble)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                content = _whole(response, time.monotonic() + self._timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(2000).decode(errors="replace").split())[:300]
            if error.code in _REFUSED:
                raise _RequestRefused(f"status {error.code}: {said}") from None
            if error.code in _AGAIN or error.code >= 500:
                raise _Passing(f"status {error.code}", _retry_after(error.headers.get("Retry-After"))) from None
            hint = {401: "check the API key", 403: "check the API key", 404: "check the address and --model_path"}
            raise EngineError(
                f"--base_url {self._url}{path}: status {error.code}, {hint.get(error.code, 'check the server')}: {said}"
            ) from None
        except (TimeoutError, urllib.error.URLError, http.client.HTTPException, ConnectionError, OSError) as error:
            raise _Passing(one_line(getattr(error, "reason", None) or error)) from None
        if len(content) > MAX_RESPONSE_BYTES:
            raise _RequestRefused(f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Passing("an answer that is not JSON") from None


def _whole(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body, at most one byte too many; the socket's own timeout begins anew with each byte that trickles in."""
    content = b""
    while len(content) <= MAX_RESPONSE_BYTES and (part := response.read1(MAX_RESPONSE_BYTES + 1 - len(content))):
        content += part
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took longer than --http_timeout")
    return content


class _Passing(Exception):
    """Trouble that may pass."""

    def __init__(self, what: str, pause_s: float | None = None) -> None:
        super().__init__(what)
        self.pause_s = pause_s


class _RequestRefused(Exception):
    """The server will never answer this request."""


def _retry_after(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:  # a date
        return None
