# SPDX-License-Identifier: Apache-2.0
"""Who answers: vLLM in this process, or an OpenAI-compatible server. One interface, requests in, completions out.

    engine.submit(request)      any number of times, also while others are under way
    engine.collect()            what has finished since, at least one; [] when nothing is under way

All requests are handed over as early as possible. Completions come in whatever order they finish.

A request's seed is passed on where it has one; vLLM's CPU build dies of it.

Deliberately absent: logits, streaming, tools; any knowledge of what is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from co_rewarding.tools.generation.vllm_engine import (
    VLLM,
    EngineOptions,
    ModelError,
    context_length,
    load_config,
    load_tokenizer,
    prompt_ids,
)

NUM_SEQS_ON_CPU = 32  # responses under way at a time
MAX_TEMPERATURE = 2.0  # vLLM refuses a request above it


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


class VLLMEngine:
    """vLLM with one model.

    Args:
        model: folder or hub name of the model; `tokenizer` likewise.
        context: given the tokenizer, tokens that the longest prompt and its response need.

    Raises:
        ModelError: the model or tokenizer cannot be loaded or has no chat template, or vLLM does not start.
    """

    def __init__(self, model: str, tokenizer: str, context: Callable[[Any], int], options: EngineOptions) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # vLLM warns of what is set here on purpose
        config = load_config(model, "--model_path")
        whose = f"--model_path {model}: its tokenizer" if tokenizer == model else f"--tokenizer_path {tokenizer}:"
        self._tokenizer = load_tokenizer(tokenizer, whose)
        max_len = min(context_length(config), context(self._tokenizer))
        self._vllm = VLLM(model, "--model_path", max_len, options, NUM_SEQS_ON_CPU, tokenizer=tokenizer)
        self._refused: list[Completion] = []

    def submit(self, request: Request) -> None:
        sampling = request.sampling
        ids = prompt_ids(self._tokenizer, request.messages, enable_thinking=sampling.enable_thinking)
        with _up():
            has_room = self._vllm.add(
                request.key,
                ids,
                sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=request.seed,
            )
        if not has_room:
            detail = f"prompt of {len(ids)} tokens, the context has {self._vllm.max_len}"
            self._refused.append(Completion(request.key, failure="refused", detail=detail))

    def collect(self) -> list[Completion]:
        done, self._refused = self._refused, []
        if done:
            return done
        with _up():
            return [Completion(key, best.text, best.finish_reason == "length") for key, best in self._vllm.finished()]

    def close(self) -> None:
        self._vllm.close()


@contextmanager
def _up() -> Iterator[None]:
    """vLLM's end is the engine's."""
    try:
        yield
    except ModelError as error:
        raise EngineDown(str(error)) from error
