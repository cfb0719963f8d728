# SPDX-License-Identifier: Apache-2.0
"""Both ends of the weights' socket (co_rewarding.training.weight_sync), apart from it because vLLM imports slowly."""

from typing import Any

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

from co_rewarding.training import loopback_store  # noqa: F401 - before vLLM's worker creates a store
from co_rewarding.training.weight_sync import own_socket


class WeightSender(ServerAdapter):
    """In the worker that trains. Overrides `__init__`, which names the socket."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zmq_handle = own_socket(self.zmq_handle)


class WeightReceiver(vLLMColocateWorkerExtension):
    """In vLLM's worker. Overrides `_get_zmq_handle`."""

    def _get_zmq_handle(self) -> str:
        return own_socket(super()._get_zmq_handle())
