# SPDX-License-Identifier: Apache-2.0
"""Where the time from a run's launch to its first step goes, for one line of its output."""

from collections.abc import Callable
from time import time


class StartTimes:
    """Parts of a start, one after another, in the processes that do them: seconds since 1970 travel between those.

    Args:
        begun: when the run was launched.
        clock: a test's.
    """

    def __init__(self, begun: float, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._begun = self._last = begun
        self._seconds: dict[str, float] = {}

    def done(self, part: str) -> None:
        """What was done since the part before was `part`."""
        now = self._clock()
        self._seconds[part] = self._seconds.get(part, 0.0) + now - self._last
        self._last = now

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self._seconds.items())
        return f"start: {parts}; {self._last - self._begun:.1f} s in all"
