# SPDX-License-Identifier: Apache-2.0
"""One vLLM engine that answers as student or as teacher, request by request: each is a LoRA adapter.

verl 0.9.1 serves one adapter with a constant name and number. Here the engine has room for two. The teacher's arrives
in the same message as the student's, its tensors marked by a prefix (`both`), and the workers load it as a separate
adapter (vllm_extension.py). A request for the teacher is marked (`answered_by_teacher`) in `extra_args`, a field of
vLLM's sampling parameters for plugins; others, such as validation's, go to the student. vLLM's prefix cache separates
adapters by name.

Remove this once verl serves several adapters.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any

import torch

TEACHER, TEACHER_ID = "teacher", 124  # verl's own adapter, the student's, is 123
PREFIX = "teacher:"  # of tensor names
ADAPTER = "adapter"  # in extra_args
MAX_ADAPTERS = 2
RECEIVER = "co_rewarding_ii.vllm_extension.TwoAdapters"

answered_by_teacher: dict[str, Any] = {"extra_args": {ADAPTER: TEACHER}}
"""Sampling parameters of a request."""


def both(
    student: Iterable[tuple[str, torch.Tensor]], teacher: Iterable[tuple[str, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """One message with the tensors of two adapters."""
    yield from student
    for name, tensor in teacher:
        yield PREFIX + name, tensor


def split(
    message: Iterable[tuple[str, torch.Tensor]],
) -> tuple[list[tuple[str, torch.Tensor]], list[tuple[str, torch.Tensor]]]:
    """The student's tensors and the teacher's, possibly none."""
    message = list(message)
    student = [(name, tensor) for name, tensor in message if not name.startswith(PREFIX)]
    return student, [(name.removeprefix(PREFIX), tensor) for name, tensor in message if name.startswith(PREFIX)]


def two_adapter_server(server: type) -> type:
    """A subclass of verl's vLLMHttpServer, or of a subclass of it, with room for two adapters."""
    from vllm.lora.request import LoRARequest

    class EngineWithTeacher:
        """vLLM's engine; requests to the teacher get the teacher's adapter instead of verl's choice."""

        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def generate(
            self, *, sampling_params: Any, lora_request: LoRARequest | None = None, **request: Any
        ) -> AsyncGenerator[Any, None]:
            if (sampling_params.extra_args or {}).get(ADAPTER) == TEACHER:
                # no such file exists: requests before the adapter has arrived fail
                lora_request = LoRARequest(lora_name=TEACHER, lora_int_id=TEACHER_ID, lora_path=TEACHER)
            return self._engine.generate(sampling_params=sampling_params, lora_request=lora_request, **request)

    class TwoAdapterServer(server):
        """Overrides `run_server` and `run_headless`: room for two adapters, and their selection."""

        async def run_server(self, args: Any) -> None:
            args.max_loras = MAX_ADAPTERS
            await super().run_server(args)
            self.engine = EngineWithTeacher(self.engine)

        async def run_headless(self, args: Any) -> None:  # for an engine over several machines
            args.max_loras = MAX_ADAPTERS
            await super().run_headless(args)

    return TwoAdapterServer
