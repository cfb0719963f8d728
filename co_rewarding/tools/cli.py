# SPDX-License-Identifier: Apache-2.0
"""Shared by the commands: one-line errors, progress, and model text made safe for a terminal or page."""

from __future__ import annotations

import functools
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm


class UserError(ValueError):
    """A user error, with a one-line message."""


def command(program: str) -> Callable[[Callable[[Sequence[str]], int | None]], Callable[..., int]]:
    """Turns a function of the arguments into a command: exit codes, and user errors in one line.

    Exit codes: 0 done; 2 a user error (UserError, ValueError, OSError); 130 interrupted; what the function returns. A
    closed pipe (| head) ends it quietly.
    """

    def decorate(main: Callable[[Sequence[str]], int | None]) -> Callable[..., int]:
        @functools.wraps(main)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                code = main(sys.argv[1:] if arguments is None else arguments) or 0
                sys.stdout.flush()
                return code
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing remains to be flushed at exit
                return 141  # as for a process ended by a closed pipe
            except ValueError as error:
                message = str(error)
            except OSError as error:
                message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            except KeyboardInterrupt:
                print(f"{program}: interrupted", file=sys.stderr)
                return 130
            print(f"{program}: error: {message}", file=sys.stderr)
            return 2

        return run

    return decorate


class _Lines:
    """tqdm's updates as lines of a log."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress(what: str, unit: str, total: int | None, already: int = 0, delay: float = 0.0) -> tqdm:
    """A progress bar on standard error with rate and time left; occasional lines if that is no terminal.

    Args:
        total: None if unknown.
        already: of `total`, done by an earlier run.
        delay: seconds; faster work is not shown.
    """
    bar = {"desc": what, "unit": f" {unit}", "total": total, "initial": already, "delay": delay}
    if sys.stderr.isatty():
        return tqdm(**bar, dynamic_ncols=True)
    of, left = (" of {total_fmt}", ", {remaining} left") if total is not None else ("", "")
    line = f"{{desc}}: {{n_fmt}}{of}{{unit}} in {{elapsed}}, {{rate_fmt}}{left}{{postfix}}"
    return tqdm(**bar, file=_Lines(), mininterval=10, miniters=1, bar_format=line)


def one_line(error: Any) -> str:
    """A library's error message on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def printable(text: Any, limit: int, keep_end: bool = False) -> str:
    """`text` on one line without control characters, at most `limit` long; of a long prompt the end is kept."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(clean) <= limit:
        return clean
    return "…" + clean[len(clean) - limit + 1 :] if keep_end else clean[: limit - 1] + "…"


def visible(text: str, limit: int) -> str:
    r"""`text` cut after `limit` characters, with control, format and surrogate characters spelled out as \u{202e}."""
    shown = "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
        else f"\\u{{{ord(character):x}}}"
        for character in text[:limit]
    )
    return shown + (f" … ({len(text) - limit:,} more characters)" if len(text) > limit else "")
