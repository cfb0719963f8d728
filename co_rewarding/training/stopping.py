# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and Ctrl-C during a run: a clean end, reported in one line, with the exit code that a shell expects."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_stopped_by = signal.SIGINT  # whose KeyboardInterrupt it is


@contextmanager
def reported_in_one_line() -> Iterator[None]:
    """SystemExit with 143 after SIGTERM and 130 after Ctrl-C, instead of a traceback."""
    try:
        yield
    except KeyboardInterrupt:
        _exit(_stopped_by)
    except SystemExit as stop:
        if stop.code not in (signal.SIGTERM, 128 + signal.SIGTERM):  # while Ray starts, its own handler's
            raise
        _exit(signal.SIGTERM)


class TakingSigterm:
    """The interface that verl's `run_ppo` expects of a Ray actor class, used right after Ray's start.

    Ray then installs a C++ handler for SIGTERM that prints a stack and aborts the process after 3 s, too early for our
    cleanup. So ours is installed again. It raises KeyboardInterrupt, since `ray.get` turns the code of any SystemExit
    into 1.

    Attributes:
        started: the actor once there is one, for its last lines after `run_ppo` returned.
    """

    started: Any = None

    def __init__(self, actor_class: Any) -> None:
        self.actor_class = actor_class

    def remote(self) -> Any:
        signal.signal(signal.SIGTERM, _interrupt)
        self.started = self.actor_class.remote()
        return self.started

    def options(self, **options: Any) -> "TakingSigterm":
        self.actor_class = self.actor_class.options(**options)
        return self


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    global _stopped_by
    _stopped_by = signal.Signals(number)
    raise KeyboardInterrupt


def _exit(number: signal.Signals) -> NoReturn:
    print(f"Stopped by {number.name}; the same command resumes from the last checkpoint.", file=sys.stderr)
    sys.exit(128 + number)
