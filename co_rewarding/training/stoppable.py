# SPDX-License-Identifier: Apache-2.0
"""Requests to vLLM that can be ended early, with what they have written so far.

verl 0.9.1 does not say where a request went, and its server's `abort_request` looks for vLLM's own name of a request,
which vLLM has made another than the caller's, and leaves the engine generating. So the client remembers, and the server
asks vLLM, which ends the request's answer with the tokens that are there. To go when verl's can be called.

A group of requests is one by a context variable, which a coroutine and all that it awaits see: the loop that makes a
request and its name is verl's.
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
    """Requests of which what is still to come may become needless."""

    servers: dict[str, ray.actor.ActorHandle] = field(default_factory=dict)  # of those under way, by name
    is_stopped: bool = False


class _Needless(Exception):
    """A request that was not sent."""


_group: ContextVar[Group | None] = ContextVar("group of requests", default=None)


@contextmanager
def requests_of(group: Group) -> Iterator[None]:
    """For the length of the block, what is requested belongs to `group`."""
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


async def stop(group: Group) -> None:
    """End the requests of the group, those to come as well; whoever awaits one has its output then."""
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
    """verl's server of vLLM, that can stop a request."""
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer  # imports vLLM

    class StoppableServer(vLLMHttpServer):
        """Overrides `abort_request`."""

        async def abort_request(self, request_id: str, reset_prefix_cache: bool = False) -> dict[str, Any]:
            await self.engine.abort(request_id)
            return {"aborted": True, "request_id": request_id}

    return StoppableServer


def serve(server_class: Callable[[], type]) -> None:
    """Let verl's manager of servers, in this process, start servers of this class.

    Args:
        server_class: a subclass of verl's vLLMHttpServer; called when a server is started, since it imports vLLM.
    """
    RolloutReplicaRegistry.register("vllm", lambda: _replica_with(server_class()))


def _replica_with(server: type) -> type:
    from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMReplica

    class Replica(vLLMReplica):
        """Overrides `__init__`: whose server."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.server_class = ray.remote(server)

    return Replica
