# SPDX-License-Identifier: Apache-2.0
"""Times from a run's launch to its first step, printed in one line."""

from collections.abc import Callable
from time import time


class StartTimes:
    """Consecutive parts of a start, in several processes, which share seconds since 1970.

    Args:
        begun: when the run was launched.
        clock: for tests.
    """

    def __init__(self, begun: float, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._begun = self._last = begun
        self._seconds: dict[str, float] = {}

    def done(self, part: str) -> None:
        """Name the time since the previous part `part`."""
        now = self._clock()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self._seconds.items())
        return f"start: {parts}; {self._last - self._begun:.1f} s in all"
