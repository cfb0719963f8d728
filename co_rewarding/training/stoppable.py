# SPDX-License-Identifier: Apache-2.0
"""Requests to vLLM that can be stopped early and return their text so far.

verl 0.9.1 does not say which server has a request. Its server's `abort_request` does not find the request, since vLLM
renames it, and leaves the engine generating. So the client remembers the server, and the server asks vLLM to end the
request with the tokens so far. Remove this once verl's works.

A context variable, visible to a coroutine and all that it awaits, says which group a request belongs to, since verl's
loop makes the request and its name.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import ray
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.replica import RolloutReplicaRegistry, TokenOutput

from co_rewarding.training.rollout_io import STOPPED


@dataclass
class Group:
    """Requests whose remaining output may become unnecessary."""

    servers: dict[str, ray.actor.ActorHandle] = field(default_factory=dict)  # of requests in flight, by name
    is_stopped: bool = False


class _Needless(Exception):
    """A request that was not sent."""


_group: ContextVar[Group | None] = ContextVar("group of requests", default=None)


@contextmanager
def requests_of(group: Group) -> Iterator[None]:
    """Within the block, requests belong to `group`."""
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


async def stop(group: Group) -> None:
    """Stop the requests of the group, future ones too; their awaiters get the output so far."""
    group.is_stopped = True
    await asyncio.gather(*(server.abort_request.remote(name) for name, server in list(group.servers.items())))


class StoppableClient(LLMServerClient):
    """Overrides of verl 0.9.1: `_acquire_server` and `_release_server` (which server has which request),
    `_vllm_request_id` (vLLM's name of a request is the caller's), `generate` (whether it was stopped).
    """

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, ray.actor.ActorHandle]:
        server_id, server = await super()._acquire_server(request_id, **extra)
        if (group := _group.get()) is not None:
            group.servers[request_id] = server
            if group.is_stopped:
                self._release_server(server_id, request_id)
                raise _Needless
        return server_id, server

    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        if (group := _group.get()) is not None:
            group.servers.pop(request_id, None)
        super()._release_server(server_id, request_id)

    def _vllm_request_id(self, request_id: str) -> str:
        return super()._vllm_request_id(request_id) if _group.get() is None else request_id

    async def generate(self, request_id: str, **request: Any) -> TokenOutput:
        try:
            output = await super().generate(request_id, **request)
        except _Needless:
            output = TokenOutput(token_ids=[], stop_reason="aborted")
        if _group.get() is not None:
            output.extra_fields[STOPPED] = output.stop_reason == "aborted"
        return output


def stoppable_server() -> type:
    """verl's vLLM server that can stop a request."""
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer  # imports vLLM

    class StoppableServer(vLLMHttpServer):
        """Overrides `abort_request`."""

        async def abort_request(self, request_id: str, reset_prefix_cache: bool = False) -> dict[str, Any]:
            await self.engine.abort(request_id)
            return {"aborted": True, "request_id": request_id}

    return StoppableServer


def serve(server_class: Callable[[], type]) -> None:
    """Make verl's server manager in this process start servers of this class.

    Args:
        server_class: a subclass of verl's vLLMHttpServer; called when a server is started, since it imports vLLM.
    """
    RolloutReplicaRegistry.register("vllm", lambda: _replica_with(server_class()))


def _replica_with(server: type) -> type:
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMReplica

    class Replica(vLLMReplica):
        """Overrides `__init__`: the class of its server."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(server)

    return Replica
