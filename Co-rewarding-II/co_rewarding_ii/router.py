# SPDX-License-Identifier: Apache-2.0
"""A request router: each request may name the replicas that may answer it.

While some replicas hold the teacher's weights and the others the student's, each row of the step names its replicas
(`among`). A request that names none, such as validation's, may go to any, so the router works in steps and validations
alike.

The names travel in `extra_args`, a field of vLLM's sampling parameters for plugins: verl's loop and client pass it
unchanged from the row to the router, and vLLM ignores it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from co_rewarding.training.router import Router

CONFIGURATION = Path(__file__).with_suffix(".yaml")
REPLICAS = "replicas"  # in extra_args: [first, beyond the last], counted as verl starts them


def among(first: int, end: int) -> dict[str, Any]:
    """Sampling parameters of a request for replicas first … end − 1."""
    return {"extra_args": {REPLICAS: [first, end]}}


class RouterAmongReplicas(Router):
    """Overrides `choices`, using the sampling parameters passed to `acquire_server`."""

    _named: Collection[int] | None = None  # of the current request; an actor handles one call at a time

    def require_acquire_fields(self) -> list[str]:
        return ["sampling_params"]

    def acquire_server(self, request_id: str, sampling_params: Mapping[str, Any]) -> tuple[str, Any]:
        self._named = (sampling_params.get("extra_args") or {}).get(REPLICAS)
        return super().acquire_server(request_id)

    def choices(self, request_id: str) -> Collection[str]:
        servers = list(super().choices(request_id))
        return servers if self._named is None else servers[slice(*self._named)]
