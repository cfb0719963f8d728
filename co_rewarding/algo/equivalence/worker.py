# SPDX-License-Identifier: Apache-2.0
"""The process in which math-verify reads what our reader cannot; relation.py starts it in its own interpreter.

A keeper imports math-verify once and forks a child that does the work. An answer that hangs or exhausts memory kills
only the child, and the keeper forks the next one in milliseconds; a new interpreter would import for a second.

    parent --(a line of JSON)--> stdin  of the child
    parent <--(a line of JSON)-- stdout of the child, or of the keeper when the child died over the request

Limits, none of which needs Python to be running (9**(9**9) holds the interpreter lock for hours):
- time: ITIMER_PROF counts the child's CPU seconds, and the default action of SIGPROF ends it. CPU time rather than wall
time, so that a busy machine changes no reward; the parent has a separate wall-clock deadline;
- memory: RLIMIT_AS, and a fresh child once half of it has been used, so that caches never bring one near the limit;
- life: end of file on stdin ends the child, and its end the keeper. The keeper also checks every few seconds that the
parent is alive, since a process forked from the parent may hold the pipe open or the child may be busy.
(PR_SET_PDEATHSIG is unsuitable for the keeper: it fires when the *thread* that started it ends.)

math-verify's own timeouts are off: they raise SIGALRM in the main thread only; this process replaces them. Its
normalisation of units is off too, since it reads 4t as 4.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

DONE, RECYCLE, OUT_OF_MEMORY = 0, 3, 4  # exit codes of a child
PARENT_CHECK_S = 2.0
PR_SET_PDEATHSIG = 1
IDLE, BUSY = b"\0", b"\1"
WARM_UP = r"\frac{\sqrt{2}}{2}+2\pi x^2"


def main() -> int:
    reply_fd = os.dup(1)
    os.dup2(2, 1)  # printed text must not mix with the replies
    parent_pid = os.getppid()
    line = read_line()
    if line is None:
        return DONE
    setup = json.loads(line)
    sys.path[:] = setup["sys_path"]
    try:
        values_of(WARM_UP)  # fills the parser's tables once, for all children
    except ImportError as error:
        reply(reply_fd, {"error": str(error)})
        return 1
    limit_bytes = setup["memory_mb"] * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The parent may have ignored or blocked these, and both are inherited.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCHLD})  # blocked, to be waited for
    state, keeper_pid = mmap.mmap(-1, 1), os.getpid()  # shared by keeper and child
    reply(reply_fd, {"ready": True})
    while True:
        child_pid = os.fork()
        if child_pid == 0:
            serve(reply_fd, state, keeper_pid, setup["timeout_s"], limit_bytes)
        code = exit_code(child_pid, parent_pid)
        if code == DONE:
            return DONE
        if state[:1] == BUSY:
            state[:1] = IDLE
            reply(
                reply_fd, {"failure": {-signal.SIGPROF: "timeouts", OUT_OF_MEMORY: "memory_kills"}.get(code, "crashes")}
            )


def exit_code(child_pid: int, parent_pid: int) -> int:
    """Wait for the child and return how it ended; DONE if the parent is gone (the child ends with the keeper)."""
    while True:
        if signal.sigtimedwait({signal.SIGCHLD}, PARENT_CHECK_S) is None and os.getppid() != parent_pid:
            return DONE
        ended, status = os.waitpid(child_pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)


def serve(reply_fd: int, state: mmap.mmap, keeper_pid: int, timeout_s: float, limit_bytes: int) -> None:
    """Answer requests {answer} with {values} until end of file. Never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper_pid:
        os._exit(DONE)
    while (line := read_line()) is not None:
        state[:1] = BUSY
        signal.setitimer(signal.ITIMER_PROF, timeout_s)
        try:
            values = values_of(json.loads(line)["answer"])
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        signal.setitimer(signal.ITIMER_PROF, 0)
        is_bloated = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > limit_bytes // 2
        if is_bloated and values is None:
            os._exit(OUT_OF_MEMORY)  # math-verify takes a MemoryError for an answer that it cannot read
        state[:1] = IDLE
        reply(reply_fd, {"values": values})
        if is_bloated:
            os._exit(RECYCLE)
    os._exit(DONE)


def values_of(answer: str) -> list[Any] | None:
    """algebra.at_points of an expression, numbers as pairs of strings; None without values."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    no_units = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
    )
    found = parse(
        "\\boxed{" + answer + "}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0, normalization_config=no_units)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    try:
        return values_at_points(found[0]) if found else None
    except MemoryError:
        raise
    except Exception:  # sympy raises any kind of error; what it cannot evaluate has no value
        return None


def values_at_points(expression: Any) -> list[Any] | None:
    import sympy

    from co_rewarding.algo.equivalence import algebra
    from co_rewarding.algo.equivalence.expressions import Unreadable
    from co_rewarding.algo.equivalence.spelling import GREEK

    if not isinstance(expression, sympy.Expr):
        return None
    constants = {"e": sympy.E, "i": sympy.I}
    expression = expression.subs({s: constants[s.name] for s in expression.free_symbols if s.name in constants}).doit()
    symbols = {f"\\{s.name}" if s.name in GREEK else s.name: s for s in expression.free_symbols}

    def evaluate(at: Mapping[str, Fraction]) -> algebra.Value:
        point = {symbols[name]: sympy.Rational(*value.as_integer_ratio()) for name, value in at.items()}
        parts = expression.evalf(algebra.PRECISION, subs=point).as_real_imag()
        if not all(part.is_Number and part.is_finite for part in parts):
            raise Unreadable(str(expression))
        real, imaginary = (algebra.MP.mpf(str(part)) for part in parts)
        return algebra.MP.mpc(real, imaginary) if imaginary else real

    has_roots = expression.has(sympy.log) or not all(power.exp.is_integer for power in expression.atoms(sympy.Pow))
    values = algebra.at_points(evaluate, frozenset(symbols), positive_only=len(symbols) > 1 and has_roots)
    digits = algebra.PRECISION
    return [
        [algebra.MP.nstr(part, digits) for part in (value.real, value.imag)] if hasattr(value, "real") else value
        for value in values
    ]


def read_line() -> bytes | None:
    """One line from stdin, None at end of file. At most one is ever waiting, so nothing is lost."""
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
