# SPDX-License-Identifier: Apache-2.0
r"""ans(y): the answer that a response states (arXiv 2508.00410, section 2).

    ans(y) = the content of the last \boxed{...} or \fbox{...} of y that closes and states something, or None

"Last" is the box that opens last, so of nested boxes the inner one counts: \boxed{\boxed{5}} states 5. Braces are
counted; \{ and \} are characters. Decisions for degenerate text:
- a box that never closes (a response cut off at its length limit) states nothing: the last box that did close counts;
- an empty box, or one with a placeholder (\boxed{}, \boxed{...}, \boxed{?}, \boxed{\text{your answer}}), neither votes
  nor takes the place of an earlier answer: a model that repeats the instruction has not changed its mind;
- text before the last </think> is thinking and not the answer (the opening tag may be in the prompt). If thinking never
closes, its boxes count;
- a model that continues after its answer with a made-up next turn has answered: text after an answer is ignored from a
turn's mark on (NEXT_TURN: a chat template's token, "User:", or a new line "Question:");
- the brace-less TeX spelling \boxed 5 states nothing; \boxed {5} and a doubled backslash, \\boxed{5}, are read;
- an answer longer than MAX_ANSWER_CHARS is still an answer, but the equivalence compares it as a string only.

Time and memory are linear in the length of the text, for any text.

This is the default of several formats (answer_format.py). Deliberately absent: looking for an answer outside a box.
Such a response casts no vote and earns 0.
"""

from __future__ import annotations

import re

MAX_ANSWER_CHARS = 512
"""Longest answer, in characters, that is read as mathematics; a longer one equals only its own string."""

THINKING_ENDS = "</think>"
NEXT_TURN = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|start_header_id|begin_of_text|user|assistant|system)\|>"
    r"|(?<!\w)(?:User|Human|Assistant)\s?:"
    r"|\n\s{0,8}(?:#{1,6} )?(?:Question|Problem|Instruction|Exercise)\s?(?:\d{1,4}\s?)?:"
)
"""Marks the next turn in a response that has already answered."""
MAX_PLACEHOLDER_CHARS = 64


class TextAnswer(str):
    """An answer that is compared as text and not as mathematics: "5 apples" is not "5", "ab" is not "ba".

    The answer itself carries its comparison (algo/answer_format.py), so callers need not know it.
    """

    __slots__ = ()


_PLACEHOLDER = re.compile(
    r"(?:[.…?_□\s{}]|\\[ ,;!_]|\\(?:[lc]?dots[bcimo]?|quad|square|Box|underline)|\\hspace\{[^{}]*\})*"
    r"|(?:\\(?:text|textbf|mathrm|mathbf)\s*)?[{(<\[]*\s*"
    r"(?:answer|(?:(?:your|the|final|my|correct|numerical|insert)[\s_~]+)+(?:answer|result|solution|number|value))"
    r"(?:[\s_~]+here)?\s*[})>\]]*",
    re.IGNORECASE,
)

# A box command with its brace, an escaped character (skipped, so that \{ and \} do not count), or a brace.
_TOKEN = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,8}\{|\\.|[{}]", re.DOTALL)


def extract_answer(text: str) -> str | None:
    r"""Content of the box that counts, stripped; None if there is none."""
    text = after_thinking(text)
    first = text.find("box")
    if first < 0:
        return None
    open_braces: list[int] = []  # per open brace: where its content starts if it is a box's, else -1
    last_start, answer, end = -1, None, len(text)
    # Braces before the first box do not matter: none of them is a box's. -2: \f of \fbox.
    for token in _TOKEN.finditer(text, max(0, first - 2)):
        if token.start() >= end:
            break
        spelling = token.group()
        if spelling == "}":
            # A closing brace that nothing opened is a stray character.
            start = open_braces.pop() if open_braces else -1
            if start > last_start:
                last_start = start
                content = text[start : token.start()].strip()
                if not is_placeholder(content):
                    if answer is None and (turn := NEXT_TURN.search(text, token.end())):
                        end = turn.start()
                    answer = content
        elif spelling == "{":
            open_braces.append(-1)
        elif spelling.endswith("{") and "box" in spelling:
            open_braces.append(token.end())
    return answer


def after_thinking(text: str) -> str:
    """The text after the last </think>, or all of it."""
    return text[text.rfind(THINKING_ENDS) + len(THINKING_ENDS) :] if THINKING_ENDS in text else text


def is_placeholder(content: str) -> bool:
    """Whether it is a placeholder: nothing, dots, a question mark, "your answer"."""
    return len(content) <= MAX_PLACEHOLDER_CHARS and _PLACEHOLDER.fullmatch(content) is not None


def ground_truth_answer(text: str | None) -> str | None:
    r"""The answer in a ground-truth field, which may be raw (42), boxed (\boxed{42}), empty or absent (both None)."""
    if isinstance(text, TextAnswer):
        return text  # was read before
    if text is None or not text.strip():
        return None
    if "\\boxed" in text or "\\fbox" in text:
        return extract_answer(text)
    return text.strip()
