# SPDX-License-Identifier: Apache-2.0
"""Which engine rewrites and which one answers, by the options; opened when it is needed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.generation.engine import Engine, VLLMEngine
from co_rewarding.tools.generation.http_engine import HTTPEngine
from co_rewarding.tools.generation.vllm_engine import EngineOptions, prompt_ids
from co_rewarding.tools.rephrase.instruction import Instruction
from co_rewarding.tools.rephrase.verify import SYSTEM_PROMPT


@dataclass(frozen=True)
class EngineChoice:
    """Which engine answers: vLLM with a model, or a server."""

    model: str
    base_url: str = ""
    tokenizer: str = ""


def rewriter(options: argparse.Namespace) -> EngineChoice:
    return EngineChoice(options.model_path, options.base_url, options.tokenizer_path)


def verifier(options: argparse.Namespace) -> EngineChoice:
    if options.verify_base_url:
        return EngineChoice(options.verify_model_path, options.verify_base_url)
    if options.verify_model_path:
        same_server = options.base_url if options.base_url and not Path(options.verify_model_path).is_dir() else ""
        return EngineChoice(options.verify_model_path, same_server)
    return rewriter(options)


class Engines:
    """At most one engine open at a time; asking for the open one gives it again."""

    def __init__(self, options: argparse.Namespace, questions_P: Sequence[str], instruction: Instruction) -> None:
        self._options, self._questions_P, self._instruction = options, questions_P, instruction
        self._open: tuple[EngineChoice, Engine] | None = None

    def get(self, choice: EngineChoice) -> Engine:
        if self._open is not None and self._open[0] == choice:
            return self._open[1]
        self.close()
        options = self._options
        if choice.base_url:
            engine: Engine = HTTPEngine(
                choice.base_url,
                choice.model,
                os.environ.get(options.api_key_env, ""),
                options.max_concurrency,
                options.http_retries,
                options.http_timeout,
                not options.no_thinking_field,
            )
        else:
            if options.seed is not None and is_cpu():
                raise UserError("--seed cannot be used with vLLM on a CPU, which a request's seed stops: leave it out")
            how = EngineOptions(
                options.tensor_parallel_size, options.gpu_memory_utilization, options.kv_cache_mb, options.dtype
            )
            engine = VLLMEngine(choice.model, choice.tokenizer or choice.model, self._context, how)
        self._open = (choice, engine)
        return engine

    def _context(self, tokenizer: Any) -> int:
        """Tokens that the longest prompt and its response need, in either stage."""
        longest = max(self._questions_P, key=len)
        options = self._options
        asked = len(prompt_ids(tokenizer, self._instruction.messages(longest), enable_thinking=options.enable_thinking))
        needed = asked + len(longest) // 4 + options.max_tokens
        if options.verify:
            answered = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": longest + longest}]
            asked = len(prompt_ids(tokenizer, answered, enable_thinking=False))
            needed = max(needed, asked + options.verify_max_tokens)
        return needed

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
