# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server as the engine, through the openai client, which retries where that may help.

Failures:
| what | outcome |
|---|---|
| status 400, 413, 422 (a prompt longer than the context); an answer above MAX_RESPONSE_BYTES | failure "refused" |
| status 408, 409, 429, 5xx, no or unreadable answer, after `http_retries` retries | failure "server_error" |
| ... and the server answers nothing else | EngineDown: the server is at fault, not the requests |
| refused like every request so far | EngineError: the configuration is at fault, not the requests |
| status 401, 403, 404, other 4xx, a redirection; no connection at first | EngineError at once, one line |

If no other answer decides between a fault of the request and of the server, a short test question with the same
sampling does. Failures are held back until then, so that an outage is never recorded against a request.

Reasoning that the server separated (reasoning_content) is put back between <think> and </think>; without an answer
</think> is left out, as in truncated text. If a server refuses chat_template_kwargs, they are left out; if its template
refuses a system message, it is merged into the user's.

The client runs in its own thread. Ctrl-C is raised in the main thread, which only waits: in the thread of the event
loop it would end the current task and leave the loop unable to close.
"""

from __future__ import annotations

import asyncio
import json
import queue
import re
import threading
import urllib.request
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx
import openai

from co_rewarding.storage.messages import merged
from co_rewarding.tools.cli import one_line
from co_rewarding.tools.generation.engine import (
    Completion,
    EngineDown,
    EngineError,
    Request,
    Sampling,
    ServerOptions,
)

MAX_RESPONSE_BYTES = 8 * 2**20
_REFUSED = (400, 413, 422)
_AGAIN = (408, 409, 429)  # the client's retries, also for statuses from 500
_HINTS = {401: "check the API key", 403: "check the API key", 404: "check the address and the model's name"}
_NO_SYSTEM = re.compile("system role|roles must alternate|roles are supported", re.I)  # errors of chat templates
_NAME_ONE = "name one with --model_path (evaluate.py: --model)"
_T = TypeVar("_T")
_SHORT = [{"role": "user", "content": "What is 1 + 1?"}]


class ServerEngine:
    """A client of POST {base_url}/chat/completions with `max_concurrency` requests in flight.

    Args:
        model: name of the served model; "": the server's only one.
        api_key: sent as a bearer token unless "", without surrounding white space.

    Raises:
        EngineError: no server at that address, an invalid or refused key, or the model must be named.
    """

    def __init__(self, options: ServerOptions, model: str = "", api_key: str = "") -> None:
        self._url = _address(options.base_url)
        self._where = f"--base_url {self._url}"
        key = api_key.strip()
        if not (key.isascii() and key.isprintable()):  # never printed, not even in an error
            raise EngineError("the API key has a line break or a non-ASCII character: check --api_key_env")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server engine", daemon=True)
        self._client = openai.AsyncOpenAI(
            base_url=self._url,
            api_key=key or "none",  # the client insists on one
            max_retries=options.http_retries,
            timeout=options.http_timeout,
            http_client=httpx.AsyncClient(transport=_Bounded(self._url, options, bool(key))),  # follows no redirection
        )
        self._asked_at_a_time = asyncio.Semaphore(options.max_concurrency)
        self._tries = options.http_retries + 1
        self._held_back = max(3, min(options.max_concurrency, 16))  # failures before the server is tested
        self._under_way: set[Future[Any]] = set()
        self._done: queue.SimpleQueue[Completion | Exception] = queue.SimpleQueue()
        self._pending = 0
        self._sampling = Sampling()  # of the latest request
        self._has_answered = False  # so a refusal concerns the request, not the configuration
        self._takes_template_arguments = self._takes_system = True
        self._thread.start()
        try:
            self.model = self._start(self._greet(model)).result()
        except BaseException:
            self.close()
            raise

    def submit(self, request: Request) -> None:
        self._pending += 1
        self._sampling = request.sampling
        self._start(self._work(request))

    def collect(self) -> list[Completion]:
        doubtful: list[Completion] = []  # not yet known whether the request or the server is at fault
        while self._pending:
            found = self._done.get()
            if isinstance(found, Exception):
                raise found
            self._pending -= 1
            doubtful.append(found)
            if found.failure is None:
                self._has_answered = True
            elif found.failure == "server_error" or not self._has_answered:
                if self._pending and len(doubtful) < self._held_back:
                    continue
                self._check_server(len(doubtful))
            return doubtful  # the server answers: earlier failures were the requests' fault
        return []

    def close(self) -> None:
        for begun in tuple(self._under_way):
            begun.cancel()
        self._start(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        await self._client.close()

    def _start(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        begun = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        self._under_way.add(begun)
        begun.add_done_callback(self._under_way.discard)
        return begun

    def _check_server(self, num_failed: int) -> None:
        """Raises unless the server answers a test question."""
        short = self._start(self._complete(Request((), _SHORT, self._sampling))).result()
        if short.failure == "server_error":
            raise EngineDown(
                f"{self._url}: the last {num_failed} requests failed, and so did a test question, tried "
                f"{self._tries} times ({short.detail}); check the server"
            )
        if short.failure == "refused" and not self._has_answered:
            raise EngineError(
                f"{self._where} refuses every request; change the option that it names, or the server: {short.detail}"
            )
        self._has_answered = True

    async def _greet(self, model: str) -> str:
        """The model to name in requests; raises if there is no server."""
        try:
            listed = await self._client.with_options(max_retries=2).models.list()
        except openai.APIConnectionError as error:
            raise EngineError(f"{self._where}: no server answers there ({_cause(error)})") from None
        except openai.APIStatusError as error:
            if error.status_code in _AGAIN or error.status_code >= 500:
                raise EngineError(f"{self._where}: no server answers there (status {error.status_code})") from None
            if error.status_code not in (404, 405):  # not every server lists its models
                raise self._status_error("/models", error) from None
            listed = None
        if model:
            return model
        names = [str(getattr(entry, "id", entry)) for entry in getattr(listed, "data", None) or []]
        if not names:
            raise EngineError(f"{self._where}: no list of models there; {_NAME_ONE}")
        if len(names) == 1:
            return names[0]
        raise EngineError(f"{self._where} serves {', '.join(names[:5])}; {_NAME_ONE}")

    async def _work(self, request: Request) -> None:
        try:
            async with self._asked_at_a_time:
                self._done.put(await self._complete(request))
        except Exception as error:  # any error: collect() would wait forever for a lost request
            self._done.put(error)

    async def _complete(self, request: Request) -> Completion:
        sampling, more = request.sampling, {}
        messages = request.messages if self._takes_system else merged(request.messages)
        if sampling.top_k > 0:
            more["top_k"] = sampling.top_k
        if sampling.chat_template_kwargs and self._takes_template_arguments:
            more["chat_template_kwargs"] = dict(sampling.chat_template_kwargs)
        try:
            answer = await self._client.chat.completions.create(
                model=self.model,
                messages=messages,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_tokens,
                seed=openai.omit if request.seed is None else request.seed,
                extra_body=more,
            )
        except _TooLarge as error:
            return Completion(request.key, failure="refused", detail=str(error))
        except openai.APIConnectionError as error:
            return Completion(request.key, failure="server_error", detail=_cause(error))
        except openai.APIStatusError as error:
            said = f"status {error.status_code}"
            if error.status_code in _AGAIN or error.status_code >= 500:
                return Completion(request.key, failure="server_error", detail=said)
            if error.status_code not in _REFUSED:
                raise self._status_error("/chat/completions", error) from None
            if "chat_template_kwargs" in more and "chat_template_kwargs" in error.response.text:
                self._takes_template_arguments = False
                return await self._complete(request)
            if messages is request.messages and _NO_SYSTEM.search(error.response.text):
                self._takes_system = False
                return await self._complete(request)
            return Completion(request.key, failure="refused", detail=f"{said}: {one_line(error.response.text)}")
        choice = answer.choices[0]
        tokens = getattr(answer.usage, "completion_tokens", None)
        return Completion(request.key, _text(choice.message), tokens, choice.finish_reason == "length")

    def _status_error(self, path: str, error: openai.APIStatusError) -> EngineError:
        """The error for a status that the user can fix."""
        status = error.status_code
        if 300 <= status < 400:
            to = one_line(error.response.headers.get("Location") or "nowhere")
            return EngineError(f"{self._where}{path} redirects to {to}: use that address if it is the intended server")
        hint = _HINTS.get(status, "check the server")
        return EngineError(f"{self._where}{path}: status {status}, {hint}: {one_line(error.response.text)}")


def _text(message: Any) -> str:
    """The model's text, reasoning included."""
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if not isinstance(reasoning, str) or not reasoning:
        return message.content or ""
    return f"<think>{reasoning}" if message.content is None else f"<think>{reasoning}</think>{message.content}"


def _cause(error: openai.APIConnectionError) -> str:
    silent = isinstance(error, openai.APITimeoutError) and not str(error.__cause__ or "")
    return "timed out" if silent else one_line(error.__cause__ or error)


def _address(url: str) -> str:
    try:
        parts = httpx.URL(url)
        if parts.scheme in ("http", "https") and parts.host and parts.port != 0 and url.isascii():
            return url.rstrip("/")
    except httpx.InvalidURL:
        pass
    raise EngineError(f"--base_url {url}: use an address such as http://localhost:8000/v1")


class _TooLarge(openai.OpenAIError):
    """Not retried by the client."""


class _Bounded(httpx.AsyncHTTPTransport):
    """Reads a complete answer, bounded in size and time; an empty one counts as a lost connection."""

    def __init__(self, url: str, options: ServerOptions, has_key: bool) -> None:
        address = httpx.URL(url)
        proxy = None if urllib.request.proxy_bypass(address.host) else urllib.request.getproxies().get(address.scheme)
        super().__init__(proxy=proxy, limits=httpx.Limits(max_connections=options.max_concurrency))
        self._timeout_s, self._has_key = options.http_timeout, has_key

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Accept-Encoding"] = "identity"
        if not self._has_key:
            del request.headers["Authorization"]
        response = await super().handle_async_request(request)
        content = b""
        try:
            content = await asyncio.wait_for(_read(response), self._timeout_s)
        except (httpx.HTTPError, asyncio.TimeoutError, _TooLarge) as error:
            if response.is_success:  # else the status would come without its reason
                if isinstance(error, asyncio.TimeoutError):
                    raise httpx.ReadTimeout("the answer took longer than --http_timeout") from None
                raise
        finally:
            await response.aclose()
        if response.is_success:
            _check(content, is_answer=request.method == "POST")
        headers = {**response.headers, "content-length": str(len(content)), "content-type": "application/json"}
        headers.pop("transfer-encoding", None)
        return httpx.Response(response.status_code, headers=headers, content=content)


async def _read(response: httpx.Response) -> bytes:
    content = b""
    async for part in response.aiter_raw():  # an answer compressed nevertheless is no JSON
        content += part
        if len(content) > MAX_RESPONSE_BYTES:
            raise _TooLarge(f"an answer of more than {MAX_RESPONSE_BYTES} bytes")
    return content


def _check(content: bytes, is_answer: bool) -> None:
    try:
        found = json.loads(content)
        if is_answer and not isinstance(found["choices"][0]["message"]["content"], str | None):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError):
        raise httpx.RemoteProtocolError("an answer without choices[0].message.content") from None
    except (ValueError, RecursionError):
        raise httpx.RemoteProtocolError("an answer that is not JSON") from None
