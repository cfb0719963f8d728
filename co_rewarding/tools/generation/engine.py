# SPDX-License-Identifier: Apache-2.0
"""One interface for vLLM in this process and an OpenAI-compatible server: requests in, completions out.

    with open_engine(model, server, local, ...) as engine:
        engine.submit(request)      any number of times, also while others are in flight
        engine.collect()            newly finished ones, at least one; [] when none is in flight

All requests are submitted as early as possible. Completions come in the order in which they finish.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import field_validator

from co_rewarding.storage.messages import template_in
from co_rewarding.tools.options import Options, option

MAX_TEMPERATURE = 2.0  # vLLM refuses a request above it


class LocalOptions(Options):
    """vLLM in this process"""

    tensor_parallel_size: int = option(0, "GPUs to split the model over (0: as many visible ones as fit)", ge=0)
    gpu_memory_utilization: float = option(0.9, "share of each GPU's memory to use", gt=0, le=1)
    dtype: str = option("auto", "type of the weights; auto: the model's own, float32 on a CPU")
    kv_cache_mb: int = option(1024, "size of the KV cache on a CPU", ge=16)
    chat_template: Path | None = option(None, "Jinja chat template file (the tokenizer's)", metavar="FILE")

    @field_validator("chat_template")
    @classmethod
    def _has_text(cls, path: Path | None) -> Path | None:
        if path is not None:
            template_in(path)
        return path


class ServerOptions(Options):
    """an OpenAI-compatible server instead"""

    base_url: str = option("", "such as http://localhost:8000/v1", metavar="URL")
    api_key_env: str = option(
        "OPENAI_API_KEY", "environment variable with the API key, if one is needed", metavar="NAME"
    )
    max_concurrency: int = option(64, "requests in flight at a time", ge=1, le=4096)
    http_retries: int = option(6, "retries after 429, 5xx or no answer", ge=0)
    http_timeout: float = option(600.0, "seconds per request", gt=0, metavar="SECONDS")


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters."""

    temperature: float = 0.7  # 0: greedy
    top_p: float = 0.8
    top_k: int = 0  # 0: no limit
    max_tokens: int = 4096  # of a response
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One conversation, to be continued once."""

    key: tuple[Any, ...]  # returned with the completion
    messages: list[dict[str, str]]
    sampling: Sampling
    seed: int | None = None  # see seed_of


@dataclass(frozen=True)
class Completion:
    """The result of a request: a text, or a failure with its details."""

    key: tuple[Any, ...]
    text: str = ""
    tokens: int | None = None  # end token included; None: not reported by the server
    reached_limit: bool = False  # cut off at max_tokens
    failure: str | None = None  # "prompt_too_long", "refused" or "server_error"
    detail: str = ""


class EngineError(ValueError):
    """The engine cannot be used as configured; one line that says what to change."""


class EngineDown(Exception):
    """The engine stopped answering; one line. Finished requests are recorded, so resuming later is safe."""


class Engine(Protocol):
    """`model`: the answering model's name, by the server or the user."""

    model: str

    def submit(self, request: Request) -> None: ...
    def collect(self) -> list[Completion]: ...
    def close(self) -> None: ...


def open_engine(
    model: str,
    server: ServerOptions,
    local: LocalOptions,
    room: Callable[[Any], int],
    *,
    tokenizer: str = "",
    seed: int = 0,
) -> Engine:
    """The server at `server.base_url` if given, else vLLM; must be closed.

    Args:
        model: folder or hub id; for a server the served model's name, "" if it serves only one.
        room: given the tokenizer, tokens that the longest prompt and its response need; used for vLLM only. tokenizer:
        folder or hub id whose chat template vLLM uses; "": the model's. seed: for vLLM's engine, which on a CPU cannot
        take request seeds.

    Raises:
        EngineError: see the two engines.
    """
    if server.base_url:
        from co_rewarding.tools.generation.server_engine import ServerEngine

        return ServerEngine(server, model, os.environ.get(server.api_key_env, ""))
    from co_rewarding.tools.generation.vllm_engine import VLLMEngine

    return VLLMEngine(model, local, room, tokenizer=tokenizer, seed=seed)


def seed_of(seed: int | None, *identity: object) -> int | None:
    """A request's own seed, 0 to 2^31 - 1, the same in every retry; None without a seed."""
    if seed is None:
        return None
    return int.from_bytes(hashlib.sha256(repr((seed, *identity)).encode()).digest()[:4], "big") >> 1
