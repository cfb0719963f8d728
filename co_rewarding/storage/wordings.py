# SPDX-License-Identifier: Apache-2.0
"""Checks that two files as a whole are two views of the same questions, and finds pairs that are not.

`storage.rows.check_pairs` compares ids and ground truths, which also agree if texts were copied, lost or moved to
another row. The texts reveal that (measured on 21,609 published pairs of MATH and DAPO: a question shares 41 % of its
words and numbers, rare ones counting more, with its rephrasing, and 3 % with that of the next question).

The quality of single pairs is checked elsewhere (tools.data.validators, tools.rephrase.verify).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from co_rewarding.storage.question_numbers import vanished

MAX_CHARS = 20_000  # characters read of a text
MIN_RUN = 4  # consecutive rows that fit the same neighbour better; single ones occur by chance (3 % of good pairs)
MIN_LEAD = 0.1  # margin by which the neighbour must fit better
_PART = re.compile(r"\\?[^\W\d_]+|\d+(?:\.\d+)?")


def is_empty(text: str) -> bool:
    """Whether it has no letter or digit."""
    return re.search(r"[^\W_]", text) is None


def normalized(text: str) -> str:
    """Without differences in spaces and line ends."""
    return " ".join(text.split())


def repeats(texts: Sequence[str]) -> list[int]:
    """Rows whose text repeats an earlier row, ignoring spaces."""
    first_row: dict[str, int] = {}
    return [i for i, text in enumerate(texts) if first_row.setdefault(normalized(text), i) != i]


def suspect_pairs(original_P: Sequence[str], rephrased_P: Sequence[str]) -> dict[str, list[int]]:
    """Kinds of fault in P pairs of texts -> their rows; only kinds that occur.

    Args:
        original_P, rephrased_P: the questions, without system prompt; row i of both is a pair.
    """
    a_P, b_P = ([text[:MAX_CHARS] for text in texts] for texts in (original_P, rephrased_P))
    found = {
        "rephrasings without a letter or digit": [i for i, b in enumerate(b_P) if is_empty(b)],
        "identical pairs, which vote for themselves": [
            i for i, (a, b) in enumerate(zip(a_P, b_P, strict=True)) if normalized(a) == normalized(b)
        ],
        "rephrasings used for several questions": shared(a_P, b_P),
        "rephrasings that fit the question in the previous or next row better": shifted(a_P, b_P),
        "rephrasings without most of the question's numbers": [
            i for i, (a, b) in enumerate(zip(a_P, b_P, strict=True)) if not is_empty(b) and loses_numbers(a, b)
        ],
    }
    return {text: rows for text, rows in found.items() if rows}


def shared(original_P: Sequence[str], rephrased_P: Sequence[str]) -> list[int]:
    """Rows whose rephrasing is also that of another question: a placeholder or a copy."""
    questions_of: dict[str, set[str]] = {}
    for a, b in zip(original_P, rephrased_P, strict=True):
        questions_of.setdefault(normalized(b), set()).add(normalized(a))
    return [i for i, b in enumerate(rephrased_P) if len(questions_of[normalized(b)]) > 1 and not is_empty(b)]


def shifted(original_P: Sequence[str], rephrased_P: Sequence[str]) -> list[int]:
    """Rows in runs that all fit the next row's rephrasing better than their own, or all the previous row's.

    Fit is the share of the question's words and numbers in the rephrasing, each weighted by one over the number of
    texts that have it. A neighbour with the same question does not count.
    """
    a_P, b_P = ([set(_PART.findall(text.lower())) for text in texts] for texts in (original_P, rephrased_P))
    weight = {part: 1 / count for part, count in Counter(part for parts in (*a_P, *b_P) for part in parts).items()}

    def fit(i: int, j: int) -> float:
        return sum(weight[part] for part in a_P[i] & b_P[j]) / sum(weight[part] for part in a_P[i])

    own_P = [fit(i, i) if a else 1.0 for i, a in enumerate(a_P)]
    found: set[int] = set()
    for step in (1, -1):
        run: list[int] = []
        for i, own in enumerate(own_P):
            j = i + step
            is_better = (
                0 <= j < len(a_P)
                and own + MIN_LEAD < 1
                and original_P[i] != original_P[j]
                and rephrased_P[i] != rephrased_P[j]
                and fit(i, j) > own + MIN_LEAD
            )
            run = [*run, i] if is_better else []
            if len(run) >= MIN_RUN:
                found.update(run)
    return sorted(found)


def loses_numbers(original: str, rephrased: str) -> bool:
    """Whether the rephrasing lacks most of the question's numbers in any form (storage.question_numbers)."""
    digits = set(re.findall(r"\d+", original))
    if 2 * len(digits & set(re.findall(r"\d+", rephrased))) > len(digits):
        return False  # a quick check; the exact one takes a millisecond
    return bool(vanished(original, rephrased)[0])
