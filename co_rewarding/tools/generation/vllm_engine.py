# SPDX-License-Identifier: Apache-2.0
"""vLLM in this process, driven step by step so that finished responses can be recorded at once.

All requests are submitted as early as possible, so vLLM's continuous batching fills every gap; there are no batches
here. Prompts are built as in training, by the chat template with the assistant's turn opened, and responses are decoded
from token ids as in training (without special tokens).

A prompt that leaves no room in the model's context gets the failure "prompt_too_long"; max_tokens is cut to the room
that a prompt leaves. On a CPU a request's seed crashes vLLM, so there the engine has one. There is no data parallelism.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.messages import Messages, arguments, merged, takes_no_system, template_in
from co_rewarding.tools.cli import one_line
from co_rewarding.tools.generation.engine import (
    Completion,
    EngineDown,
    EngineError,
    LocalOptions,
    Request,
)

NUM_SEQS_ON_CPU = 64  # responses in flight at a time
# vLLM runs on one machine: it listens to no others
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": "127.0.0.1"}


class VLLMEngine:
    """A model loaded by vLLM; arguments as of engine.open_engine.

    Raises:
        EngineError: the model or tokenizer cannot be loaded or has no chat template, or vLLM does not start.
    """

    def __init__(
        self, model: str, options: LocalOptions, room: Callable[[Any], int], *, tokenizer: str = "", seed: int = 0
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it warns of settings made here on purpose
        os.environ.update(LOOPBACK)
        self.model = model
        self._on_cpu = is_cpu()
        if glob.has_magic(os.path.abspath(model)) and os.path.isdir(model):
            raise EngineError(f"model {model}: vLLM finds no weights in a path with one of [ * ?; rename the folder")
        config = load_config(model)
        self._tokenizer = load_tokenizer(tokenizer or model, options.chat_template)
        self._max_len = min(context_length(config), room(self._tokenizer))
        arguments: dict[str, Any] = {
            "model": model,
            "tokenizer": tokenizer or model,
            "max_model_len": self._max_len,
            "dtype": options.dtype,
            "seed": seed,
            "disable_log_stats": True,
        }
        if self._on_cpu:
            # One process, so that a kill leaves nothing behind; vLLM's default pins all threads to one core.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
            os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would override kv_cache_memory_bytes
            arguments |= {
                # bfloat16 is ten times slower without AVX512-BF16 or AMX; compiling pays only for long runs on GPUs.
                "dtype": "float32" if options.dtype == "auto" else options.dtype,
                "enforce_eager": True,
                "kv_cache_memory_bytes": options.kv_cache_mb * 2**20,
                "max_num_seqs": NUM_SEQS_ON_CPU,
            }
        else:
            arguments |= {
                "tensor_parallel_size": options.tensor_parallel_size or _visible_gpus(config),
                "gpu_memory_utilization": options.gpu_memory_utilization,
            }
        from vllm import EngineArgs, LLMEngine

        try:
            self._vllm = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except (OSError, ValueError, RuntimeError) as error:
            memory = "--kv_cache_mb" if self._on_cpu else "--gpu_memory_utilization, --tensor_parallel_size"
            raise EngineError(
                f"model {model}: vLLM cannot start it: {one_line(error)} (if memory is short: --max_tokens, {memory})"
            ) from error
        self._under_way: dict[str, Request] = {}
        self._refused: list[Completion] = []
        self._count = 0

    def submit(self, request: Request) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        ids = prompt_ids(self._tokenizer, request.messages, **sampling.chat_template_kwargs)
        if (room := self._max_len - len(ids)) < 1:
            detail = f"prompt of {len(ids)} tokens, the context has {self._max_len}"
            self._refused.append(Completion(request.key, failure="prompt_too_long", detail=detail))
            return
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            max_tokens=min(sampling.max_tokens, room),
            seed=None if self._on_cpu or sampling.temperature == 0 else request.seed,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._count += 1
        self._under_way[str(self._count)] = request
        with _up():
            self._vllm.add_request(str(self._count), {"prompt_token_ids": ids}, params)

    def collect(self) -> list[Completion]:
        done, self._refused = self._refused, []
        while self._under_way and not done:
            if not self._vllm.has_unfinished_requests():
                raise EngineDown(f"vLLM lost {len(self._under_way)} requests")
            with _up():
                outputs = self._vllm.step()
            done = [self._completion(output) for output in outputs if output.finished]
        return done

    def close(self) -> None:
        """End vLLM's processes and free its memory."""
        core = getattr(self._vllm, "engine_core", None)
        if core is not None:
            core.shutdown()
        del self._vllm

    def _completion(self, output: Any) -> Completion:
        request = self._under_way.pop(output.request_id)
        (best,) = output.outputs
        ids = list(best.token_ids)
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(request.key, text, len(ids), best.finish_reason == "length")


@contextmanager
def _up() -> Iterator[None]:
    """Report a dying engine, in this process or its own, in one line."""
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except (EngineDeadError, RuntimeError) as error:
        raise EngineDown(f"vLLM stopped: {one_line(error)}") from error


def load_tokenizer(name: str, chat_template: Path | None = None) -> Any:
    """The tokenizer of a folder or hub id, with the chat template of a file or its own. Raises EngineError."""
    from transformers import AutoTokenizer

    tokenizer = _load(AutoTokenizer, name, "tokenizer")
    if chat_template is not None:
        tokenizer.chat_template = template_in(chat_template)
    if not tokenizer.chat_template:
        raise EngineError(
            f"tokenizer {name}: has no chat template; name a file with one: "
            "--chat_template FILE (recipes/chat_templates/plain.jinja is one for base models)"
        )
    return tokenizer


def load_config(name: str) -> Any:
    """The configuration of a model's folder or hub id. Raises EngineError."""
    from transformers import AutoConfig

    return _load(AutoConfig, name, "model")


def _load(kind: Any, name: str, what: str) -> Any:
    path = Path(name)
    if (
        not path.exists() and path.parent != Path() and path.parent.is_dir()
    ):  # the hub would be retried for half a minute
        raise EngineError(f"{what} {name}: no such folder; name a model folder or a hub id")
    try:
        return kind.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(
            f"{what} {name}: cannot be loaded ({one_line(error)}); name a model folder or a hub id"
        ) from error


def prompt_text(tokenizer: Any, messages: Sequence[Mapping[str, str]], **chat_template_kwargs: Any) -> str:
    """The prompt: the conversation with the assistant's turn opened, as in training."""

    def render(messages: Messages) -> str:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **arguments(chat_template_kwargs)
        )

    return render(merged(messages) if takes_no_system(render) else messages)


def prompt_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]], **chat_template_kwargs: Any) -> list[int]:
    """... in tokens."""
    return tokenizer(prompt_text(tokenizer, messages, **chat_template_kwargs), add_special_tokens=False)["input_ids"]


def context_length(config: Any) -> int:
    """The model's context length in tokens; 4096 if unspecified."""
    return getattr(config.get_text_config(), "max_position_embeddings", None) or 4096


def num_gpus(model: str, options: LocalOptions) -> int:
    """The effective --tensor_parallel_size on this machine."""
    return options.tensor_parallel_size or _visible_gpus(load_config(model))


def _visible_gpus(config: Any) -> int:
    """The most GPUs that divide the model's heads evenly."""
    import torch

    visible = max(1, torch.cuda.device_count())
    heads = getattr(config.get_text_config(), "num_attention_heads", visible)
    return max(size for size in range(1, visible + 1) if heads % size == 0)
