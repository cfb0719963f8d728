# SPDX-License-Identifier: Apache-2.0
r"""When two answers are the same: the relation behind is_match(a, y) and the vote (arXiv 2508.00410, Eq. 8).

    same(a, b) = one normal form, or equal exact numbers, or equal part by part, or verify(a, b) and verify(b, a)

The normal form, numbers and parts are algo.equivalence.normal_form's, where the policies stand (units, percent, bases,
sets and pairs); verify is math-verify's, run in worker processes (algo.equivalence.worker) that are killed when
they exceed their time or memory. Both directions must hold: math-verify lets the kind of its first argument decide,
so one direction alone is a reading of the answer (6 fits 2x+3y=6), not an equality.

The relation is symmetric by construction, and what it has once answered it answers again (a cache, the least
recently used pairs go first). It is transitive except at the edges of math-verify's rounding (six decimals where one
side is a decimal, fifteen digits elsewhere); a vote compares with the first member of each class.

Failure is never an exception and never silent: a pair whose comparison ran out of time or memory, crashed the worker,
or could not be read is "not the same", is remembered as such, and is counted by kind in `counts`. What is wrong with
the installation (math-verify missing, no process can be started) is raised instead.

Modes, from wide to narrow: "math", all of the above; "string", the normal form alone; "exact", the characters alone.

Deliberately absent: math-verify's own extraction from running text (it makes a set of two boxes and reads formulas
outside boxes) and its timeouts (SIGALRM: they raise in every thread but the main one).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from co_rewarding.algo.equivalence.normal_form import is_explosive, normal_form, relate

Mode = Literal["math", "string", "exact"]
MODES: tuple[str, ...] = get_args(Mode)

START_TIMEOUT_S = 120.0
_WORKER_FILE = Path(__file__).with_name("worker.py")


class WorkerError(RuntimeError):
    """The installation does not allow answers to be compared; no answer is to blame."""


@dataclass(frozen=True)
class Counts:
    """What an Equivalence has done since it was made; every field is a number of events."""

    calls: int = 0  # same() was asked
    cache_hits: int = 0  # ... and the pair had been settled by algebra before
    verified: int = 0  # ... and a worker was asked
    timeouts: int = 0  # a worker exceeded its CPU time, or the wall-clock deadline
    memory_kills: int = 0  # a worker exceeded its memory
    crashes: int = 0  # a worker died otherwise
    parse_failures: int = 0  # answers that math-verify cannot read
    screened: int = 0  # answers refused unread, as their value obviously explodes

    @property
    def failures(self) -> int:
        """Comparisons that were given up: timeouts, memory kills and crashes."""
        return self.timeouts + self.memory_kills + self.crashes

    def __sub__(self, earlier: Counts) -> Counts:
        """What happened since `earlier`, for logging one step."""
        return Counts(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})


class Equivalence:
    """The relation, with its cache, its worker processes and its counts. Safe to use from many threads.

    same() blocks while a worker computes: in a coroutine, call it through an executor. No process is started before
    the first pair that needs algebra. A process forked from this one starts workers of its own.

    Args:
        mode: which relation; see the module's docstring.
        timeout_s: CPU seconds that one pair may take, > 0. The wall-clock deadline is five times that plus 1 s, so
            that a verdict does not depend on how busy the machine is.
        workers: largest number of worker processes, >= 1; as many pairs can be compared at the same time.
        memory_mb: address space of a worker in MiB, >= 256.
        cache_size: pairs remembered, >= 1.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        mode: Mode = "math",
        timeout_s: float = 2.0,
        workers: int = 1,
        memory_mb: int = 1024,
        cache_size: int = 32_768,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"equivalence mode {mode!r} is unknown: use one of {', '.join(MODES)}")
        for name, value, least in (
            ("workers", workers, 1),
            ("memory_mb", memory_mb, 256),
            ("cache_size", cache_size, 1),
        ):
            if value < least:
                raise ValueError(f"equivalence {name} is {value}: use {least} or more")
        if not timeout_s > 0:
            raise ValueError(f"equivalence timeout_s is {timeout_s}: use a number of seconds above 0")
        self.mode = mode
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._cache_size = cache_size
        self._lock = threading.Lock()  # guards the next three
        self._verdicts: OrderedDict[tuple[str, str], bool] = OrderedDict()
        self._unreadable: OrderedDict[str, None] = OrderedDict()
        self._counts: Counter[str] = Counter()  # by the names of Counts' fields
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._workers = workers
        self._closed = False

    @property
    def counts(self) -> Counts:
        """A snapshot of the counts."""
        with self._lock:
            return Counts(**self._counts)

    def same(self, a: str, b: str) -> bool:
        """Whether a and b are the same answer. a and b are contents of boxes, not responses.

        Raises:
            WorkerError: a worker is needed and cannot be started.
            RuntimeError: a worker is needed and the object is closed.
        """
        self._count("calls")
        if self.mode == "exact":
            return a.strip() == b.strip()
        first, second = sorted((normal_form(a), normal_form(b)))
        if first == second or self.mode == "string":
            return first == second
        skip: set[str] = set()
        verdict = relate(first, second, lambda x, y: self._settled_leaf(x, y, skip))
        if verdict is not None:
            return verdict
        with self._lock:
            verdict = self._verdicts.get((first, second))
            if verdict is not None:
                self._verdicts.move_to_end((first, second))
                self._counts["cache_hits"] += 1
                return verdict
        verdict = self._verify(first, second, skip)
        with self._lock:
            self._verdicts[first, second] = verdict
            if len(self._verdicts) > self._cache_size:
                self._verdicts.popitem(last=False)
        return verdict

    def close(self) -> None:
        """End the worker processes, once they are free. Needs no call at exit: they end with this process."""
        self._closed = True
        for _ in range(self._workers):
            worker = self._slots.get()
            if worker is not None and worker.is_mine():
                worker.kill()
        for _ in range(self._workers):
            self._slots.put(None)

    def __enter__(self) -> Equivalence:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self, what: str, times: int = 1) -> None:
        with self._lock:
            self._counts[what] += times

    def _settled_leaf(self, x: str, y: str, skip: set[str]) -> bool | None:
        """False where one of two answers is known to be unreadable (collected in skip), None where algebra decides."""
        for answer in (x, y):
            with self._lock:
                unreadable = answer in self._unreadable
            if not unreadable and is_explosive(answer):
                self._give_up_on(answer)
                self._count("screened")
                unreadable = True
            if unreadable:
                skip.add(answer)
        return False if skip & {x, y} else None

    def _give_up_on(self, answer: str) -> None:
        with self._lock:
            self._unreadable[answer] = None
            if len(self._unreadable) > self._cache_size:
                self._unreadable.popitem(last=False)

    def _verify(self, a: str, b: str, skip: set[str]) -> bool:
        if self._closed:
            raise RuntimeError("this Equivalence is closed: make a new one")
        worker = self._slots.get()
        try:
            if worker is None or not worker.can_be_asked():
                worker = None
                worker = _Worker(self._timeout_s, self._memory_mb)
            answer = worker.ask({"a": a, "b": b, "skip": sorted(skip)})
        finally:
            self._slots.put(worker if worker is not None and worker.is_usable else None)
        self._count("verified")
        if "failure" in answer:
            self._count({"timeout": "timeouts", "memory": "memory_kills", "crash": "crashes"}[answer["failure"]])
            if answer["culprit"] is not None:
                self._give_up_on(answer["culprit"])
            return False
        for unparsed in answer["unparsed"]:
            self._give_up_on(unparsed)
        self._count("parse_failures", len(answer["unparsed"]))
        return answer["same"]


class _Worker:
    """One worker process and the conversation with it: a line out, a line back."""

    def __init__(self, timeout_s: float, memory_mb: int) -> None:
        self._owner_pid = os.getpid()
        self._deadline_s = 5 * timeout_s + 1
        self.is_usable = True
        if not sys.executable:
            raise WorkerError("equivalence: sys.executable is empty, so that no worker process can be started")
        # A session of its own: Ctrl-C in a terminal reaches the program, which decides, and not its workers.
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER_FILE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        answer = self._exchange({"sys_path": sys.path, "timeout_s": timeout_s, "memory_mb": memory_mb}, START_TIMEOUT_S)
        if "ready" not in answer:
            self.kill()
            reason = answer.get("error") or f"{answer['failure']} after {START_TIMEOUT_S:.0f} s at most"
            raise WorkerError(
                f"equivalence: the worker process did not start ({reason}); check that math-verify can be imported "
                f"by {sys.executable}, or use equivalence mode 'string'"
            )

    def is_mine(self) -> bool:
        """Whether this very process started it, and not one that this process was forked from."""
        return self._owner_pid == os.getpid()

    def can_be_asked(self) -> bool:
        return self.is_mine() and self._process.poll() is None

    def ask(self, request: dict[str, object]) -> dict:
        return self._exchange(request, self._deadline_s)

    def _exchange(self, request: dict[str, object], deadline_s: float) -> dict:
        line = b""
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            end = time.monotonic() + deadline_s
            replies = select.poll()  # select() would refuse the high file numbers of a large program
            replies.register(self._process.stdout, select.POLLIN)
            while not line.endswith(b"\n"):
                left_s = end - time.monotonic()
                if not replies.poll(max(0.0, left_s * 1000)):
                    self.kill()
                    return {"failure": "timeout", "culprit": None}
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    self.kill()
                    return {"failure": "crash", "culprit": None}
                line += chunk
        except BrokenPipeError:
            self.kill()
            return {"failure": "crash", "culprit": None}
        except BaseException:  # interrupted between question and answer: the next answer would be the wrong one
            self.kill()
            raise
        return json.loads(line)

    def kill(self) -> None:
        """End keeper and child, and reap. An idle worker holds nothing that is worth a farewell."""
        self.is_usable = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
