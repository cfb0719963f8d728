# SPDX-License-Identifier: Apache-2.0
r"""When two answers are the same as text.

    text_key(r"**\text{New  York}.**") = "new york"

Case, spaces beside signs, width and composition of characters (Unicode NFKC), typographic quotes and dashes, quotation
marks, emphasis, TeX's commands for text and punctuation at the ends are removed. Nothing else is: signs, digits and
words stay, "5 apples" is not "5", "10³" not "103", "(1, 2)" not "[1, 2]", and "C++" not "C".

Degenerate cases: an answer of such marks alone ("?") is itself.
"""

from __future__ import annotations

import re
import unicodedata

_SETTING = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|it|sf|tt)|emph|operatorname|underline|bf|bold|boldsymbol)(?![A-Za-z])"
    r"|\\q?quad(?![A-Za-z])|\\[()\[\]]|[{}$`~\u200b\ufeff]|\*\*|\\(?=[ ,;:!$%&#_])"
)
_NOTHING = dict.fromkeys(map(ord, "\u200b\ufeff\u00ad"))  # characters that are not seen
_POWERS = {ord(digit): f"^{i}" for i, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}  # which NFKC makes digits of: 10³ is not 103
_SAME = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-"})
_ENDS = " \t\r\n.,;:!?\"'。、，；：！？「」『』《》〈〉«»„"
_INNER_SPACE = re.compile(r"(?<!\w) | (?!\w)")


def text_key(answer: str) -> str:
    """The key that equal texts share. Time is linear in the length."""
    text = unicodedata.normalize("NFKC", answer.translate(_NOTHING | _POWERS)).translate(_SAME)
    text = _SETTING.sub(" ", text).replace("\\dfrac", "\\frac")
    text = _INNER_SPACE.sub("", " ".join(text.casefold().split()))
    bare = _stripped(text)
    if (
        len(bare) > 2
        and bare[0] + bare[-1] in ("()", "[]", "【】", "**")
        and not re.search(r"[()\[\]【】*,]", bare[1:-1])
    ):
        bare = _stripped(bare[1:-1])
    return bare or text


def _stripped(text: str) -> str:
    """Without punctuation at the ends, of which the point of .5 is none."""
    bare = text.strip(_ENDS)
    return f".{bare}" if bare[:1].isdecimal() and f".{bare}" in text else bare
