# SPDX-License-Identifier: Apache-2.0
r"""When two answers are one as text, whatever they would be as mathematics.

    text_key(r"**\text{New  York}.**") = "new york"

Case, spaces, width and composition of characters (Unicode NFKC), typographic quotes and dashes, quotation marks,
emphasis and TeX's commands for text vanish, and so does punctuation at the ends. Nothing else does: signs, digits and
words stay, "5 apples" is not "5", and "C++" is not "C".

Degenerate cases: what consists of such marks alone ("?") is itself.
"""

from __future__ import annotations

import re
import unicodedata

_SETTING = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|emph|operatorname)\b|[{}$`]|\*\*|\\(?=[ ,;!$%&#_])")
_SAME = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-"})
_ENDS = " \t\r\n.,;:!?\"'。、，；：！？「」『』"


def text_key(answer: str) -> str:
    """What two answers that are the same text have in common. Time is linear in its length."""
    text = _SETTING.sub(" ", unicodedata.normalize("NFKC", answer).translate(_SAME))
    text = " ".join(text.casefold().split())
    bare = text.strip(_ENDS)
    if len(bare) > 2 and (bare[0], bare[-1]) in (("(", ")"), ("[", "]")) and not re.search(r"[()\[\]]", bare[1:-1]):
        bare = bare[1:-1].strip(_ENDS)
    return bare or text
