# SPDX-License-Identifier: Apache-2.0
r"""The ground truth as each published set writes it, as text.

    MATH      content of the solution's last \boxed{...} or \fbox{...}
    GSM8K     what follows the solution's last ####, without thousands separators
    AMC       a float column: 142.0 is the answer 142

Ground truths keep their spaces and their LaTeX, because the published Co-rewarding files do: two runs on either are
compared by the same strings. Equivalence (co_rewarding.algo.equivalence.relation) ignores such differences anyway.

Degenerate cases: no box, or an empty one, gives ""; of nested boxes the inner one counts; a box that never closes is
not a box. TeX's brace-less spelling `$\boxed 5$` is read up to the end of its formula, which
co_rewarding.algo.answers, made for what models write, does not do.
"""

from __future__ import annotations

import math
import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?<=\s))")


def boxed_truth(solution: str) -> str:
    r"""Content of the last \boxed{...}, \fbox{...} or `\boxed 5$`, not stripped; "" where there is none.

    Raises:
        ValueError: not text.
    """
    if not isinstance(solution, str):
        raise ValueError(f"its solution {solution!r} is not text")
    for box in reversed(list(_BOX.finditer(solution))):
        if not box.group().endswith("{"):
            return solution[box.end() :].split("$", 1)[0]
        end = _closing_brace(solution, box.end())
        if end is not None:
            return solution[box.end() : end]
    return ""


def hash_mark_truth(solution: str) -> str:
    """What follows the last ####, without spaces around it and without thousands separators.

    Raises:
        ValueError: there is no ####, or it is not text.
    """
    _, mark, answer = solution.rpartition("####") if isinstance(solution, str) else ("", "", "")
    if not mark:
        raise ValueError("its answer has no '####'")
    return re.sub(r"(?<=\d),(?=\d{3})", "", answer.strip())


def number_truth(number: float) -> str:
    """A number as text: 142.0 is "142", 0.5 is "0.5".

    Raises:
        ValueError: not a finite number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"its answer {number!r} is not a number")
    return str(int(number)) if number == int(number) else repr(number)


def _closing_brace(text: str, start: int) -> int | None:
    """Position of the brace that closes the one opened just before `start`; escaped braces are characters."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start + brace.start()
    return None
