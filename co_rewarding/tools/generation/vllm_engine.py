# SPDX-License-Identifier: Apache-2.0
"""vLLM's engine in this process, driven step by step so that a finished response can be recorded at once.

    engine.add(key, ids, ...)   any number of times, also while others are under way
    engine.finished()           what has finished since, at least one; [] when nothing is under way

All requests are handed over as early as possible, so that the engine's own continuous batching fills every gap; there
are no batches here. Responses come in whatever order they finish.

Deliberately absent: what is asked and how it is drawn; logits, streaming; data parallelism.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.tools.cli import one_line


class ModelError(ValueError):
    """The model cannot be used as it was asked to; one line that says what to change."""


@dataclass(frozen=True)
class EngineOptions:
    """How the model is run; nothing of it changes what is asked."""

    tensor_parallel_size: int = 1  # GPUs; 0: as many visible ones as the model's heads can be split over evenly
    gpu_memory_utilization: float = 0.9  # 0-1, of each GPU
    kv_cache_mb: int = 1024  # on a machine without GPU
    dtype: str = "auto"  # of the weights; "auto" is the model's own, float32 on a machine without GPU


class VLLM:
    """A model that vLLM has loaded.

    Args:
        option: the command line's, that named the model.
        max_len: longest prompt and response together, in tokens.
        num_seqs_on_cpu: responses under way at a time on a machine without GPU.
        more: further arguments of vLLM's engine.

    Raises:
        ModelError: vLLM does not start.
    """

    def __init__(
        self, model: str, option: str, max_len: int, options: EngineOptions, num_seqs_on_cpu: int, **more: Any
    ) -> None:
        arguments: dict[str, Any] = {
            "model": model,
            "max_model_len": max_len,
            "dtype": options.dtype,
            "disable_log_stats": True,
            **more,
        }
        if is_cpu():
            # One process, so that a kill leaves nothing behind; vLLM's default pins all threads to one core.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would win over kv_cache_memory_bytes
            arguments |= {
                # bfloat16 is ten times slower without AVX512-BF16 or AMX; compiling pays only for long runs on GPUs.
                "dtype": "float32" if options.dtype == "auto" else options.dtype,
                "enforce_eager": True,
                "kv_cache_memory_bytes": options.kv_cache_mb * 2**20,
                "max_num_seqs": num_seqs_on_cpu,
            }
            memory = "--kv_cache_mb"
        else:
            arguments |= {
                "tensor_parallel_size": options.tensor_parallel_size or _visible_gpus(load_config(model, option)),
                "gpu_memory_utilization": options.gpu_memory_utilization,
            }
            memory = "--gpu_memory_utilization, --tensor_parallel_size"
        from vllm import EngineArgs, LLMEngine

        try:
            self._engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{option} {model}: vLLM cannot start it: {one_line(error)} (if it is memory that lacks: --max_tokens, "
                f"{memory})"
            ) from error
        self.max_len = max_len
        self._under_way: dict[str, Hashable] = {}
        self._count = 0

    def add(self, key: Hashable, ids: Sequence[int], max_tokens: int, **sampling: Any) -> bool:
        """Ask for a response of at most `max_tokens` tokens; False, and nothing asked, if the prompt leaves no room.

        Args:
            key: comes back with the response.
            ids: the prompt's tokens.
            sampling: further fields of vLLM's SamplingParams.

        Raises:
            ModelError: vLLM has stopped.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        room = self.max_len - len(ids)
        if room < 1:
            return False
        params = SamplingParams(max_tokens=min(max_tokens, room), output_kind=RequestOutputKind.FINAL_ONLY, **sampling)
        self._count += 1
        self._under_way[str(self._count)] = key
        with _alive():
            self._engine.add_request(str(self._count), {"prompt_token_ids": list(ids)}, params)
        return True

    def finished(self) -> list[tuple[Any, Any]]:
        """Keys with vLLM's outputs (text, token_ids, finish_reason).

        Raises:
            ModelError: vLLM has stopped, or lost a request.
        """
        done: list[tuple[Any, Any]] = []
        while self._under_way and not done:
            if not self._engine.has_unfinished_requests():
                raise ModelError(f"vLLM has lost {len(self._under_way)} requests")
            with _alive():
                outputs = self._engine.step()
            for output in outputs:
                if output.finished:
                    (response,) = output.outputs
                    done.append((self._under_way.pop(output.request_id), response))
        return done

    def close(self) -> None:
        """End vLLM's processes and free its memory."""
        core = getattr(self._engine, "engine_core", None)
        if core is not None:
            core.shutdown()
        del self._engine


@contextmanager
def _alive() -> Iterator[None]:
    """An engine that dies, in this process or in its own, in one line."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except (EngineDeadError, RuntimeError) as error:
        raise ModelError(f"vLLM stopped: {one_line(error)}") from error


def load_tokenizer(name: str, whose: str) -> Any:
    """The tokenizer `name`, which must have a chat template; `whose` opens the errors. Raises ModelError."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{whose} cannot be loaded ({one_line(error)}); name a model folder or a hub id") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"{whose} has no chat template, which questions are asked with; use an instruction-tuned model's "
            "tokenizer, or put a chat_template.jinja into its folder"
        )
    return tokenizer


def prompt_text(tokenizer: Any, messages: Sequence[Mapping[str, str]], **chat_template_kwargs: Any) -> str:
    """What the model is given: the conversation with the assistant's turn opened."""
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **chat_template_kwargs)


def prompt_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], **chat_template_kwargs: Any) -> list[int]:
    """... in tokens."""
    return tokenizer(prompt_text(tokenizer, messages, **chat_template_kwargs), add_special_tokens=False)["input_ids"]


def load_config(model: str, option: str) -> Any:
    """The model's configuration on the hub or in its folder. Raises ModelError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{option} {model}: cannot be loaded ({one_line(error)}); name a model folder or a hub id"
        ) from error


def context_length(config: Any) -> int:
    """Tokens that the model was made for; 4096 where it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 4096


def _visible_gpus(config: Any) -> int:
    import torch

    visible = max(1, torch.cuda.device_count())
    heads = getattr(config.get_text_config(), "num_attention_heads", visible)
    return max(size for size in range(1, visible + 1) if heads % size == 0)
