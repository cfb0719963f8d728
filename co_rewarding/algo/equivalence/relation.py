# SPDX-License-Identifier: Apache-2.0
r"""When two answers are the same: the relation behind is_match(a, y) and the vote (arXiv 2508.00410, Eq. 8).

    same(a, b) = same_value(read(a), read(b))

Each answer is read into its own value (reader.py), and two values are compared (values.py). So the relation is
symmetric and transitive, and independent of order. docs/ANSWERS.md defines which answers are the same.

Expressions that the reader has no values for are read by math-verify, in worker processes that are killed when they
exceed their time or memory (worker.py). Failure is never an exception and never silent: an answer whose reading ran out
of time or memory, crashed the worker, or is no mathematics equals only its own spelling, is remembered as such, and is
counted by kind in `counts`. Faults of the installation (math-verify missing, no process can be started) are raised.

Modes, from wide to narrow: "math", all of the above; "string", the spelling of the values (without names and units);
"exact", the characters.

Answers of text formats (answers.TextAnswer) are compared as text in every mode but "exact" (text.py).

Deliberately absent: math-verify's own comparison, which depends on the kind of its first argument (6 matches 2x+3y=6
but not vice versa).
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
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from co_rewarding.algo.answers import TextAnswer
from co_rewarding.algo.equivalence import algebra
from co_rewarding.algo.equivalence.reader import read
from co_rewarding.algo.equivalence.text import text_key
from co_rewarding.algo.equivalence.values import Expression, Unread, Value, Words, replaced, same_value, unread

Mode = Literal["math", "string", "exact"]
MODES: tuple[str, ...] = get_args(Mode)

TIMEOUT_S = 2.0
"""CPU seconds allowed to read one answer, wherever answers are compared."""
STEP_BUDGET_S = 60.0
START_TIMEOUT_S = 120.0
_WORKER_FILE = Path(__file__).with_name("worker.py")


class WorkerError(RuntimeError):
    """The installation cannot compare answers; no answer is at fault."""


@dataclass(frozen=True)
class Counts:
    """Event counts of an Equivalence since it was created."""

    calls: int = 0  # calls of same()
    asked: int = 0  # requests to workers
    timeouts: int = 0  # a worker exceeded its CPU time, or the wall-clock deadline
    memory_kills: int = 0  # a worker exceeded its memory
    crashes: int = 0  # a worker died otherwise
    parse_failures: int = 0  # answers that math-verify cannot read either
    over_budget: int = 0  # answers skipped because the step's time was used up

    @property
    def failures(self) -> int:
        """Abandoned readings: timeouts, memory kills, crashes and late ones."""
        return self.timeouts + self.memory_kills + self.crashes + self.over_budget

    def __sub__(self, earlier: Counts) -> Counts:
        """Counts since `earlier`, for logging one step."""
        return Counts(**{f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)})


class Equivalence:
    """The relation, with its worker processes and its counts. Safe to use from many threads.

    same() blocks while a worker reads: in a coroutine, call it through an executor. Processes are started on demand or
    by start(). A process forked from this one starts its own workers.

    Args:
        mode: which relation; see the module's docstring.
        timeout_s: CPU seconds that reading one answer may take, > 0. The wall-clock deadline is five times that plus
            1 s, so that a verdict does not depend on how busy the machine is.
        workers: largest number of worker processes, >= 1; as many answers can be read at the same time.
        memory_mb: address space of a worker in MiB, >= 256.
        cache_size: number of remembered readings by workers, >= 1.
        step_budget_s: wall-clock seconds that workers may take from one prepare() to the next, > 0; the remaining
        answers equal only their own spelling, and are counted.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        mode: Mode = "math",
        timeout_s: float = TIMEOUT_S,
        workers: int = 1,
        memory_mb: int = 1024,
        cache_size: int = 32_768,
        step_budget_s: float = STEP_BUDGET_S,
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
        for name, seconds in (("timeout_s", timeout_s), ("step_budget_s", step_budget_s)):
            if not seconds > 0:
                raise ValueError(f"equivalence {name} is {seconds}: use a number of seconds above 0")
        self.mode = mode
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._cache_size = cache_size
        self._step_budget_s = self._seconds_left = step_budget_s
        self._lock = threading.Lock()  # guards the next two, and the remaining seconds
        self._readings: OrderedDict[str, Value] = OrderedDict()
        self._counts: Counter[str] = Counter()  # keyed by the fields of Counts
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
        if a == b:
            return True
        if isinstance(a, TextAnswer) or isinstance(b, TextAnswer):
            return a.strip() == b.strip() if self.mode == "exact" else text_key(a) == text_key(b)
        if self.mode == "exact":
            return a.strip() == b.strip()
        values = read(a), read(b)
        if self.mode == "string" or values[0].text == values[1].text:
            return values[0].text == values[1].text
        if _need_a_worker(*values):
            values = tuple(replaced(value, self._read) for value in values)
        return same_value(*values)

    def prepare(self, groups: Iterable[Sequence[str]]) -> None:
        """Read in parallel what comparisons within each group will need, and start a new step's time budget."""
        with self._lock:
            self._seconds_left = self._step_budget_s
        if self.mode != "math":
            return
        needed: dict[str, Unread] = {}
        for group in groups:
            if any(isinstance(answer, TextAnswer) for answer in group):
                continue
            values = {value.text: value for value in map(read, group)}
            if len(values) > 1:
                needed |= {leaf.text: leaf for value in values.values() for leaf in unread(value)}
        if needed:
            with ThreadPoolExecutor(self._workers) as pool:
                list(pool.map(self._read, needed.values()))

    def start(self) -> None:
        """Start the worker processes now, in the background, rather than when the first is needed."""
        if self.mode == "math":
            for _ in range(self._workers):
                threading.Thread(target=self._start_one, daemon=True).start()

    def close(self) -> None:
        """End the worker processes once they are free. Not needed at exit: they end with this process."""
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

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _read(self, leaf: Unread) -> Value:
        """math-verify's reading of an expression, or its spelling."""
        with self._lock:
            if leaf.text in self._readings:
                self._readings.move_to_end(leaf.text)
                return self._readings[leaf.text]
            if self._seconds_left <= 0:
                self._counts["over_budget"] += 1
                return Words(leaf.text)
        started = time.monotonic()
        answer = self._ask(leaf.text)
        reading: Value = Words(leaf.text)
        if "failure" in answer:
            self._count(answer["failure"])
        elif answer["values"] is None:
            self._count("parse_failures")
        else:
            reading = Expression(leaf.text, tuple(map(_number, answer["values"])))
        with self._lock:
            self._seconds_left -= time.monotonic() - started
            self._readings[leaf.text] = reading
            if len(self._readings) > self._cache_size:
                self._readings.popitem(last=False)
        return reading

    def _ask(self, answer: str) -> dict:
        if self._closed:
            raise RuntimeError("this Equivalence is closed: make a new one")
        worker = self._slots.get()
        try:
            if worker is None or not worker.can_be_asked():
                worker = None
                worker = _Worker(self._timeout_s, self._memory_mb)
            self._count("asked")
            return worker.ask({"answer": answer})
        finally:
            self._slots.put(worker if worker is not None and worker.is_usable else None)

    def _start_one(self) -> None:
        worker = self._slots.get()
        try:
            if worker is None and not self._closed:
                worker = _Worker(self._timeout_s, self._memory_mb)
        except WorkerError:
            pass  # raised where it is needed
        finally:
            self._slots.put(worker)


def _need_a_worker(a: Value, b: Value) -> bool:
    """Whether an unread part could make the two the same."""
    kinds = {type(a), type(b)}
    return bool(unread(a) or unread(b)) and (len(kinds) == 1 or kinds == {Unread, Expression})


def _number(parts: list[str] | str | None) -> algebra.Value:
    if parts is None or isinstance(parts, str):
        return parts
    real, imaginary = map(algebra.MP.mpf, parts)
    return algebra.MP.mpc(real, imaginary) if imaginary else real


class _Worker:
    """One worker process; the protocol is a line out, a line back."""

    def __init__(self, timeout_s: float, memory_mb: int) -> None:
        self._owner_pid = os.getpid()
        self._deadline_s = 5 * timeout_s + 1
        self.is_usable = True
        if not sys.executable:
            raise WorkerError("equivalence: sys.executable is empty, so no worker process can be started")
        # Own session: Ctrl-C in a terminal reaches the program and not its workers.
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
        """Whether this process started it, and not one from which it was forked."""
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
                    return {"failure": "timeouts"}
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    self.kill()
                    return {"failure": "crashes"}
                line += chunk
        except BrokenPipeError:
            self.kill()
            return {"failure": "crashes"}
        except BaseException:  # interrupted between request and reply: the next reply would be the wrong one
            self.kill()
            raise
        return json.loads(line)

    def kill(self) -> None:
        """Kill and reap keeper and child. An idle worker has no state to save."""
        self.is_usable = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
