# SPDX-License-Identifier: Apache-2.0
"""The process in which math-verify runs: algo.equivalence.relation starts it by path, in an interpreter of its own.

A keeper imports math-verify once and forks a child that does the work. What hangs or eats memory kills the child
alone, and the keeper forks the next one in milliseconds, where a new interpreter would import for a second.

    parent --(a line of JSON)--> stdin  of the child
    parent <--(a line of JSON)-- stdout of the child, or of the keeper when the child died over the request

Limits, none of which needs Python to be running (9**(9**9) holds the interpreter lock for hours):
- time: ITIMER_PROF counts the child's CPU seconds, and the default action of SIGPROF ends it. CPU time rather than
  wall time, so that a busy machine changes no reward; the parent has a wall-clock deadline of its own;
- memory: RLIMIT_AS, and a fresh child once half of it has been used, so that caches never bring one near the limit;
- life: end of file on stdin ends the child, and its end the keeper. The keeper also looks every few seconds whether
  the parent is still there, as a process forked from the parent may hold the pipe open or the child may be busy.
  (PR_SET_PDEATHSIG would not do for the keeper: it fires when the *thread* that started it ends.)

math-verify's own timeouts are off: they raise SIGALRM in the main thread only, and are what this process replaces.
"""

from __future__ import annotations

import cmath
import ctypes
import functools
import json
import mmap
import os
import resource
import signal
import sys
import zlib
from dataclasses import dataclass
from typing import Any

DONE, RECYCLE, OUT_OF_MEMORY = 0, 3, 4  # exit codes of a child
PARENT_CHECK_S = 2.0
SCRATCH_BYTES = 4096  # holds one answer of MAX_ANSWER_CHARS, escaped
VALUE_TOLERANCE = 1e-6  # math-verify rounds decimals to six places
PR_SET_PDEATHSIG = 1
WARM_UP = (r"x+1", r"\frac{\sqrt{2}}{2}", r"2\pi", r"y=x^2", r"\begin{pmatrix}1\\2\end{pmatrix}")


class Scratch:
    """Memory shared by keeper and child: what the child was doing, to be read after its death."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, SCRATCH_BYTES)
        self.note("idle")

    def note(self, doing: str, answer: str | None = None) -> None:
        self._page[:] = json.dumps([doing, answer]).encode().ljust(SCRATCH_BYTES)

    def read(self) -> tuple[str, str | None]:
        doing, answer = json.loads(self._page[:])
        return doing, answer


def main() -> int:
    reply_fd = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not end up among the replies
    parent_pid = os.getppid()
    line = read_line()
    if line is None:
        return DONE
    setup = json.loads(line)
    sys.path[:] = setup["sys_path"]
    try:
        for answer in WARM_UP:  # fills the parser's tables once, for all children
            compare(answer, answer + "+0", frozenset(), Scratch())
    except ImportError as error:
        reply(reply_fd, {"error": str(error)})
        return 1
    read_answer.cache_clear()
    limit_bytes = setup["memory_mb"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The parent may have ignored or blocked these, and both are inherited.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD})  # blocked, to be waited for
    scratch, keeper_pid = Scratch(), os.getpid()
    reply(reply_fd, {"ready": True})
    while True:
        child_pid = os.fork()
        if child_pid == 0:
            serve(reply_fd, scratch, keeper_pid, setup["timeout_s"], limit_bytes)
        code = exit_code(child_pid, parent_pid)
        if code == DONE:
            return DONE
        doing, answer = scratch.read()
        scratch.note("idle")
        if doing != "idle":
            failure = {-signal.SIGPROF: "timeout", OUT_OF_MEMORY: "memory"}.get(code, "crash")
            reply(reply_fd, {"failure": failure, "culprit": answer})


def exit_code(child_pid: int, parent_pid: int) -> int:
    """Wait for the child's end and say how it ended; DONE if the parent is gone (the child ends with the keeper)."""
    while True:
        if signal.sigtimedwait({signal.SIGCHLD}, PARENT_CHECK_S) is None and os.getppid() != parent_pid:
            return DONE
        ended, status = os.waitpid(child_pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)


def serve(reply_fd: int, scratch: Scratch, keeper_pid: int, timeout_s: float, limit_bytes: int) -> None:
    """Answer requests {a, b, skip} with {same, unparsed} until end of file. Never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper_pid:
        os._exit(DONE)
    while (line := read_line()) is not None:
        request = json.loads(line)
        scratch.note("comparing")
        signal.setitimer(signal.ITIMER_PROF, timeout_s)
        try:
            answer = compare(request["a"], request["b"], frozenset(request["skip"]), scratch)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        is_bloated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limit_bytes // 2
        if is_bloated and not answer["same"]:
            os._exit(OUT_OF_MEMORY)  # math-verify takes a MemoryError for a no, so this no may be one
        scratch.note("idle")
        reply(reply_fd, answer)
        if is_bloated:
            os._exit(RECYCLE)
    os._exit(DONE)


def compare(a: str, b: str, skip: frozenset[str], scratch: Scratch) -> dict[str, object]:
    """The verdict on two keys; skip names answers that are known to be unreadable."""
    from math_verify import verify

    from co_rewarding.algo.equivalence.normal_form import is_explosive, relate

    unparsed: set[str] = set()

    def same_by_algebra(x: str, y: str) -> bool:
        if x in skip or y in skip or is_explosive(x) or is_explosive(y):
            return False
        readings = []
        for answer in (x, y):
            scratch.note("reading", answer)
            readings.append(read_answer(answer))
            if not readings[-1].expressions:
                unparsed.add(answer)
        scratch.note("comparing")
        gold, answer = readings
        if not gold.expressions or not answer.expressions or gold.differs_from(answer):
            return False
        # verify(gold, answer) lets the gold answer's kind decide and so is not symmetric; what holds one way only,
        # as 6 against 2x+3y=6 does, is a reading of the answer and not an equality.
        return verify(gold.expressions, answer.expressions, timeout_seconds=None) and verify(
            answer.expressions, gold.expressions, timeout_seconds=None
        )

    same = relate(a, b, same_by_algebra)
    return {"same": same, "unparsed": sorted(unparsed)}


@dataclass(frozen=True)
class Reading:
    """What math-verify reads in one answer (nothing, if it cannot), and what tells it from others without algebra."""

    expressions: list[Any]
    value: complex | None  # of a single number or expression, at one point of all variables
    is_many: bool  # an interval, tuple, matrix or set of several

    def differs_from(self, other: Reading) -> bool:
        """Whether the values prove the answers different; verify() would simplify for 20 ms to say so."""
        if self.value is None or other.value is None:
            return (self.is_many and other.value is not None) or (other.is_many and self.value is not None)
        return abs(self.value - other.value) > VALUE_TOLERANCE * max(1.0, abs(self.value), abs(other.value))


@functools.lru_cache(maxsize=2048)
def read_answer(answer: str) -> Reading:
    """Parse one answer and evaluate it, also so that a hang or an explosion names its answer."""
    from math_verify import LatexExtractionConfig, parse

    expressions = parse(
        "\\boxed{" + answer + "}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    value = None
    for expression in expressions:
        try:
            value = value_at_point(expression)
        except MemoryError:
            raise
        except Exception:  # sympy raises of any kind; without a value, verify() decides by itself
            value = None
    if len(expressions) != 1:
        return Reading(expressions, value=None, is_many=False)
    return Reading(expressions, value, is_many(expressions[0]))


def is_many(expression: Any) -> bool:
    import sympy

    if isinstance(expression, sympy.FiniteSet):
        return len(expression) > 1
    return isinstance(expression, sympy.Interval | sympy.Union | sympy.Tuple | sympy.MatrixBase)


def value_at_point(expression: Any) -> complex | None:
    """The number that an expression is where each variable has a value that depends on its name; None if it is none."""
    import sympy
    from sympy.core.function import AppliedUndef

    # A bare symbol may stand for a word, which verify() compares by other rules.
    if not isinstance(expression, sympy.Expr) or isinstance(expression, sympy.Symbol):
        return None
    value = expression.doit()
    if value.has(AppliedUndef, sympy.Integral, sympy.Sum, sympy.Product, sympy.Limit, sympy.Derivative):
        return None
    point = {s: constant_or_variable(s.name.lower()) for s in value.free_symbols}
    number = complex(value.subs(point).evalf())
    return number if cmath.isfinite(number) else None


def constant_or_variable(name: str) -> Any:
    """e and i are read as constants in one answer and as variables in another; others lie between 1/2 and 3/2."""
    import sympy

    if name in ("e", "i"):
        return {"e": sympy.E, "i": sympy.I}[name]
    return sympy.Float(0.5 + zlib.crc32(name.encode()) / 2**32, 30)


def read_line() -> bytes | None:
    """One line from stdin, None at end of file. No more than one is ever waiting, so nothing is left over."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return None
        line += chunk
    return line


def reply(fd: int, message: dict[str, object]) -> None:
    os.write(fd, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
