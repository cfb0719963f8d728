# SPDX-License-Identifier: Apache-2.0
r"""The ground truth of each published set, as text; anything else is a ValueError that shows it.

    MATH              content of the solution's last \boxed{...} or \fbox{...}
    GSM8K             what follows the solution's last ####, without thousands separators
    AMC               a float column: 142.0 is the answer 142
    DAPO, MATH-500    the text itself; OpenRS too, where a missing one is ""

Ground truths keep their spaces and LaTeX, as in the published Co-rewarding files, so runs on either have the same
strings. Equivalence (co_rewarding.algo.equivalence.relation) ignores such differences. co_rewarding.algo.answers, made
for model output, strips them, skips empty boxes and does not read `\boxed 5`.
"""

from __future__ import annotations

import math
import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?<=\s))")


def text_truth(answer: object) -> str:
    if not isinstance(answer, str):
        raise ValueError(f"its answer {answer!r:.60} is not text")
    return answer


def optional_truth(answer: object) -> str:
    return "" if answer is None else text_truth(answer)


def boxed_truth(solution: object) -> str:
    r"""Content of the last box that closes, not stripped; "" if there is none.

    Of nested boxes the inner one counts. TeX's brace-less spelling `$\boxed 5$` is read up to the end of its formula.
    """
    solution = text_truth(solution)
    for box in reversed(list(_BOX.finditer(solution))):
        if not box.group().endswith("{"):
            return solution[box.end() :].split("$", 1)[0]
        end = _closing_brace(solution, box.end())
        if end is not None:
            return solution[box.end() : end]
    return ""


def hash_mark_truth(solution: object) -> str:
    """The text after the last ####, stripped and without thousands separators."""
    _, mark, answer = text_truth(solution).rpartition("####")
    if not mark:
        raise ValueError("its answer has no '####'")
    return re.sub(r"(?<=\d),(?=\d{3})", "", answer.strip())


def number_truth(number: object) -> str:
    """A finite number as text: 142.0 is "142", 0.5 is "0.5"."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"its answer {number!r:.60} is not a number")
    return str(int(number)) if number == int(number) else repr(number)


def _closing_brace(text: str, start: int) -> int | None:
    """Position of the brace that closes the one opened just before `start`; escaped braces are characters."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start + brace.start()
    return None
