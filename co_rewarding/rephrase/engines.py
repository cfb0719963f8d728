# SPDX-License-Identifier: Apache-2.0
"""Who answers: vLLM in this process, or an OpenAI-compatible server. One interface, requests in, completions out.

    engine.submit(request)      any number of times, also while others are under way
    engine.collect()            what has finished since, at least one; [] when nothing is under way

All requests are handed over as early as possible. Completions come in whatever order they finish.

What becomes of trouble:
| what | outcome |
|---|---|
| prompt longer than the model's context; status 400, 413, 422 | completion with failure "refused", no text |
| status 408, 409, 425, 429, 5xx, no or unreadable answer | asked again, up to `http_retries` times, in growing pauses |
| ... still so, while other requests succeed | completion with failure "server_error" |
| ... still so, and no other request succeeds | EngineDown: the server is to blame, not the requests |
| status 401, 403, 404, other 4xx; no connection at first | EngineError at once, one line |

A request's seed is passed on where it has one; vLLM's CPU build dies of it.

Deliberately absent: logits, streaming, tools; any knowledge of what is asked.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from co_rewarding.vllm_engine import (
    VLLM,
    EngineOptions,
    ModelError,
    context_length,
    load_config,
    load_tokenizer,
    prompt_ids,
)

MAX_RESPONSE_BYTES = 8 * 2**20
MAX_PAUSE_S = 30.0


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn."""

    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 0  # 0: no limit
    max_tokens: int = 4096  # of a response
    enable_thinking: bool = False


@dataclass(frozen=True)
class Request:
    """One conversation to be continued once."""

    key: tuple[Any, ...]  # comes back with the completion
    messages: list[dict[str, str]]
    sampling: Sampling
    seed: int | None = None  # 0 to 2^31 - 1


@dataclass(frozen=True)
class Completion:
    """The end of a request: a text, or a failure and what is known about it."""

    key: tuple[Any, ...]
    text: str = ""
    reached_limit: bool = False  # cut off at max_tokens
    failure: str | None = None  # "refused" or "server_error"
    detail: str = ""


class EngineError(Exception):
    """The engine cannot be used as it was asked to; one line that says what to change."""


class EngineDown(Exception):
    """The engine stopped answering; one line. What was finished is recorded, going on later is safe."""


class Engine(Protocol):
    def submit(self, request: Request) -> None: ...
    def collect(self) -> list[Completion]: ...
    def close(self) -> None: ...


# --- vLLM in this process


class VLLMEngine:
    """vLLM with one model.

    Args:
        model: folder or hub name of the model; `tokenizer` likewise, the model's where None.
        context: given the tokenizer, tokens that the longest prompt and its response need.

    Raises:
        ModelError: the model or tokenizer cannot be loaded or has no chat template, or vLLM does not start.
    """

    def __init__(
        self, model: str, tokenizer: str | None, context: Callable[[Any], int], options: EngineOptions
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # vLLM warns of what is set here on purpose
        tokenizer = tokenizer or model
        self._tokenizer = load_tokenizer(tokenizer, f"--tokenizer_path {tokenizer}:")
        max_len = min(context_length(load_config(model, "--model_path")), context(self._tokenizer))
        self._vllm = VLLM(model, "--model_path", max_len, options, num_seqs_on_cpu=32, tokenizer=tokenizer)
        self._refused: list[Completion] = []

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        ids = prompt_ids(self._tokenizer, request.messages, enable_thinking=sampling.enable_thinking)
        if not self._vllm.add(
            request.key,
            ids,
            sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=request.seed,
        ):
            detail = f"prompt of {len(ids)} tokens, the context has {self._vllm.max_len}"
            self._refused.append(Completion(request.key, failure="refused", detail=detail))

    def collect(self) -> list[Completion]:
        done, self._refused = self._refused, []
        if done:
            return done
        try:
            return [Completion(key, best.text, best.finish_reason == "length") for key, best in self._vllm.finished()]
        except ModelError as error:
            raise EngineDown(str(error)) from error

    def close(self) -> None:
        self._vllm.close()


# --- an OpenAI-compatible server

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
                content = response.read(MAX_RESPONSE_BYTES + 1)
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
            raise _Passing(_line(error)) from None
        if len(content) > MAX_RESPONSE_BYTES:
            raise _RequestRefused(f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Passing("an answer that is not JSON") from None


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


def _line(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return " ".join(str(reason).split())[:200] or type(error).__name__
