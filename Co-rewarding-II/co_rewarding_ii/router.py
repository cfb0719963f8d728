# SPDX-License-Identifier: Apache-2.0
"""A router of requests that lets a request say which replicas may answer it.

While some replicas hold the teacher's weights and the others the student's, each row of the step names those that may
answer it (`among`). A request that names none, as validation's, goes to any: so the router need not be told
whether a step or a validation is on.

The names travel in `extra_args`, a field of vLLM's sampling parameters for what plugins want to be told: a row, verl's
loop and verl's client hand it on unchanged to the router, and vLLM itself does not look into it.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from co_rewarding.training.router import Router

CONFIGURATION = Path(__file__).with_suffix(".yaml")
REPLICAS = "replicas"  # in extra_args: [first, beyond the last], counted as verl starts them


def among(first: int, end: int) -> dict[str, Any]:
    """Sampling parameters of a request that the replicas first … end − 1 may answer."""
    return {"extra_args": {REPLICAS: [first, end]}}


class RouterAmongReplicas(Router):
    """Overrides `choices`, by the sampling parameters that `acquire_server` is given with the request."""

    _named: Collection[int] | None = None  # of the request at hand; an actor answers one call after the other

    def require_acquire_fields(self) -> list[str]:
        return ["sampling_params"]

    def acquire_server(self, request_id: str, sampling_params: Mapping[str, Any]) -> tuple[str, Any]:
        self._named = (sampling_params.get("extra_args") or {}).get(REPLICAS)
        return super().acquire_server(request_id)

    def choices(self, request_id: str) -> Collection[str]:
        servers = list(super().choices(request_id))
        return servers if self._named is None else servers[slice(*self._named)]
