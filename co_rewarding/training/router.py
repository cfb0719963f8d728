# SPDX-License-Identifier: Apache-2.0
"""Which of vLLM's servers answers a request: the one with the fewest requests in flight.

verl's router (verl.workers.rollout.router) does the same in a module that imports all of verl and vLLM, which takes 10
s. This one imports neither. verl finds it through router.yaml (`actor_rollout_ref.rollout.router_config_path`), makes
one Ray actor of it, and calls its public methods by name.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).with_name("config") / "router.yaml"
REMEMBERED = 10_000  # requests whose server is known, the newest


class Router:
    """A repeated request (another turn of a conversation) goes to the same server, which has its prefix cached.

    A subclass that restricts requests to some servers overrides `choices`.

    Args:
        servers: Ray handle by server id.
        settings: the content of router.yaml.
    """

    def __init__(self, servers: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._servers = dict(servers)
        self._in_flight = dict.fromkeys(servers, 0)
        self._server_of: OrderedDict[str, str] = OrderedDict()  # by request id

    def choices(self, request_id: str) -> Collection[str]:
        """Ids of the servers that may answer."""
        return self._servers

    def acquire_server(self, request_id: str) -> tuple[str, Any]:
        """The server's id and handle; the request counts as in flight there until `release_server`.

        Raises:
            RuntimeError: there is none.
        """
        may = self.choices(request_id)
        server = self._server_of.get(request_id)
        if server not in may:
            if not may:
                raise RuntimeError(f"no server of {len(self._servers)} may answer request {request_id}")
            server = min(may, key=self._in_flight.__getitem__)
        self._server_of[request_id] = server
        self._server_of.move_to_end(request_id)
        if len(self._server_of) > REMEMBERED:
            self._server_of.popitem(last=False)
        self._in_flight[server] += 1
        return server, self._servers[server]

    def release_server(self, server_id: str, request_id: str | None = None) -> None:
        if self._in_flight.get(server_id):  # unless the server was removed meanwhile
            self._in_flight[server_id] -= 1

    def require_acquire_fields(self) -> list[str]:
        """Arguments of `generate` that `acquire_server` needs besides the request id."""
        return []

    def require_release_fields(self) -> list[str]:
        return []

    def add_servers(self, servers: Mapping[str, Any]) -> None:
        self._servers.update(servers)
        self._in_flight.update(dict.fromkeys(servers, 0))

    def remove_servers(self, server_ids: Collection[str]) -> None:
        for server in server_ids:
            self._servers.pop(server, None)
            self._in_flight.pop(server, None)

    def get_all_servers(self) -> list[str]:
        return list(self._servers)

    def get_total_inflight(self) -> int:
        return sum(self._in_flight.values())

    def get_status(self) -> dict[str, Any]:
        return {
            "servers": dict(self._in_flight),
            "total_inflight": self.get_total_inflight(),
            "active_servers": len(self._servers),
        }

    def clear_sticky_cache(self) -> dict[str, Any]:
        cleared = len(self._server_of)
        self._server_of.clear()
        return {"cleared_entries": cleared, "server_loads": dict(self._in_flight)}
