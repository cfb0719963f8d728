# SPDX-License-Identifier: Apache-2.0
r"""ans(y): the answer that a response states (arXiv 2508.00410, section 2).

    ans(y) = the content of the last \boxed{...} or \fbox{...} of y that closes, or None

"Last" is the box that opens last, so of nested boxes the inner one counts: \boxed{\boxed{5}} states 5. Braces are
counted; \{ and \} are characters. Decisions for degenerate text:
- a box that never closes (a response cut off at its length limit) states nothing: the last box that did close counts;
- an empty last box, \boxed{} or \boxed{ }, states nothing, and no earlier box is taken in its place;
- the brace-less TeX spelling \boxed 5 states nothing; \boxed {5} and a doubled backslash, \\boxed{5}, are read;
- an answer longer than MAX_ANSWER_CHARS is still an answer, but the equivalence compares it as a string only.

Time and memory are linear in the length of the text, whatever it holds.

Deliberately absent: looking for an answer outside a box. Such a response casts no vote and earns 0.
"""

from __future__ import annotations

import re

MAX_ANSWER_CHARS = 512
"""Longest answer, in characters, that is read as mathematics; a longer one equals only its own string."""

# A box command with its brace, an escaped character (skipped, so that \{ and \} do not count), or a brace.
_TOKEN = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,8}\{|\\.|[{}]", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""Content of the last closed \boxed{...} or \fbox{...}, stripped; None where there is none or it is empty."""
    open_braces: list[int] = []  # per open brace: where its content starts if it is a box's, else -1
    last_start, last_end = -1, -1
    for token in _TOKEN.finditer(text):
        spelling = token.group()
        if spelling == "}":
            # A closing brace that nothing opened is a stray character.
            start = open_braces.pop() if open_braces else -1
            if start > last_start:
                last_start, last_end = start, token.start()
        elif spelling == "{":
            open_braces.append(-1)
        elif spelling.endswith("{") and "box" in spelling:
            open_braces.append(token.end())
    if last_start < 0:
        return None
    return text[last_start:last_end].strip() or None


def ground_truth_answer(text: str | None) -> str | None:
    r"""The answer in a ground-truth field, which may be raw (42), boxed (\boxed{42}), empty or absent (both None)."""
    if text is None or not text.strip():
        return None
    if "\\boxed" in text or "\\fbox" in text:
        return extract_answer(text)
    return text.strip()
