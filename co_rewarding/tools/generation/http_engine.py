# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server as the engine (co_rewarding.tools.generation.engine).

What becomes of trouble:
| what | outcome |
|---|---|
| prompt longer than the model's context; status 400, 413, 422 | completion with failure "refused", no text |
| status 408, 409, 425, 429, 5xx, no or unreadable answer | asked again, up to `http_retries` times, in growing pauses |
| ... still so, while the server answers others | completion with failure "server_error" |
| ... still so, and the server answers nothing else | EngineDown: the server is to blame, not the requests |
| refused like every request so far | EngineError: the configuration is to blame, not the requests |
| status 401, 403, 404, other 4xx, a redirection; no connection at first | EngineError at once, one line |

Where no other answer tells the request's fault from the server's, a question of one line does, asked with the same
sampling. Nothing is told of the failures until then, so that an outage is never recorded against a request.

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
from typing import Any

from co_rewarding.tools.cli import one_line
from co_rewarding.tools.generation.engine import Completion, EngineDown, EngineError, Request, Sampling

MAX_RESPONSE_BYTES = 8 * 2**20
MAX_PAUSE_S = 30.0
_AGAIN = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})
_SHORT = [{"role": "user", "content": "What is 1 + 1?"}]


class HTTPEngine:
    """A client of POST {base_url}/chat/completions with `concurrency` requests under way.

    Args:
        base_url: such as http://localhost:8000/v1.
        model: name of the served model; "": the server's only one.
        api_key: sent as a bearer token where not "", without the spaces and line breaks around it.
        http_retries: times that a request is asked again for a passing trouble, >= 0.
        timeout_s: of one request.
        thinking_field: send chat_template_kwargs.enable_thinking, as vLLM and SGLang read it.

    Raises:
        EngineError: no server at that address, a key that is none or that it refuses, or the model must be named.
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
        if not _is_address(base_url):
            raise EngineError(f"--base_url {base_url}: use an address such as http://localhost:8000/v1")
        self._url = base_url.rstrip("/")
        self._key = api_key.strip()
        if not (self._key.isascii() and self._key.isprintable()):  # never printed, not even in an error
            raise EngineError("the API key has a line break or a letter that is not ASCII: see to --api_key_env")
        self._retries = http_retries
        self._timeout_s = timeout_s
        self._thinking_field = thinking_field
        self._first_pause_s = first_pause_s
        self._waiting: queue.Queue[Request | None] = queue.Queue()
        self._done: queue.Queue[Completion | Exception] = queue.Queue()
        self._pending = 0
        self._sampling = Sampling()  # of the latest request
        self._has_answered = False  # so that what it refuses is the request, not how everything is asked
        self._doubtful: list[Completion] = []  # not known yet whether the request or the server is to blame
        self._stop = threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirection)
        self.model = self._greet(model)
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, concurrency))]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> None:
        self._pending += 1
        self._sampling = request.sampling
        self._waiting.put(request)

    def collect(self) -> list[Completion]:
        while self._pending:
            try:
                found = self._done.get(timeout=0.5)  # so that Ctrl-C is seen
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                raise found
            self._pending -= 1
            self._doubtful.append(found)
            if found.failure is None:
                self._has_answered = True
            elif found.failure == "server_error" or not self._has_answered:
                if self._pending and len(self._doubtful) < max(3, min(len(self._threads), 16)):
                    continue
                self._check_server()
            # The server lives and answers: what failed before was about those requests.
            told, self._doubtful = self._doubtful, []
            return told
        return []

    def close(self) -> None:
        self._stop.set()
        for _ in self._threads:
            self._waiting.put(None)

    def _check_server(self) -> None:
        """Raises unless the server answers another question than those that failed."""
        short = self._complete(Request((), _SHORT, self._sampling))
        if short.failure == "server_error":
            raise EngineDown(
                f"{self._url}: the last {len(self._doubtful)} requests failed, and so did a short question, asked "
                f"{self._retries + 1} times ({short.detail}); see to the server"
            )
        if short.failure == "refused" and not self._has_answered:
            raise EngineError(
                f"--base_url {self._url} refuses every request: change the option that it names, or the server: "
                f"{short.detail}"
            )
        self._has_answered = True

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
            except (_RequestRefused, _NotFound, KeyError, TypeError):
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
            except Exception as error:  # whatever it is: collect() would wait for ever for a request that is lost
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
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                content = _whole(response, MAX_RESPONSE_BYTES, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._trouble(path, error, deadline) from None
        except (http.client.HTTPException, OSError) as error:
            raise _Passing(one_line(getattr(error, "reason", None) or error)) from None
        if len(content) > MAX_RESPONSE_BYTES:
            raise _RequestRefused(f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Passing("an answer that is not JSON") from None

    def _trouble(self, path: str, error: urllib.error.HTTPError, deadline: float) -> Exception:
        """What a status that is no success means."""
        where, status = f"--base_url {self._url}{path}", f"status {error.code}"
        if error.code in _AGAIN or error.code >= 500:
            return _Passing(status, _retry_after(error.headers.get("Retry-After")))
        if 300 <= error.code < 400:
            to = one_line(error.headers.get("Location") or "nowhere")
            return EngineError(f"{where} redirects to {to}: name that address if it is the server that you mean")
        try:
            said = " ".join(_whole(error.fp, 2000, deadline).decode(errors="replace").split())[:300]
        except (http.client.HTTPException, OSError):  # the status is known, its reasons are not
            said = ""
        if error.code in _REFUSED:
            return _RequestRefused(f"{status}: {said}")
        hint = {401: "check the API key", 403: "check the API key", 404: "check the address and --model_path"}
        kind = _NotFound if error.code in (404, 405) else EngineError
        return kind(f"{where}: {status}, {hint.get(error.code, 'check the server')}: {said}")


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without end, a port that is no number
        return False
    return is_complete and url.isascii()


def _whole(response: http.client.HTTPResponse, limit: int, deadline: float) -> bytes:
    """The body, at most one byte above the limit; the socket's own timeout begins anew with each byte that comes."""
    content = b""
    while len(content) <= limit and (part := response.read1(limit + 1 - len(content))):
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


class _NotFound(EngineError):
    """The server has no such page."""


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """A redirection is an error, as urllib would send the API key wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _retry_after(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:  # a date
        return None
