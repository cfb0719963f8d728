# SPDX-License-Identifier: Apache-2.0
"""How a row says that its answer is to be stated: two columns that a file need not have.

answer_format   str    a format of algo/answer_format.py; null: the usual one
choices         [str]  texts of the options, of which the first is A; null: there are none
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANSWER_FORMAT, CHOICES = "answer_format", "choices"


def stated_as(row: Mapping[str, Any], default: str = "") -> tuple[str, tuple[str, ...]]:
    """The row's answer format, `default` where the row does not say, and the texts of its options.

    Raises:
        ValueError: there is something else in their places.
    """
    spec, choices = row.get(ANSWER_FORMAT), row.get(CHOICES)
    if not isinstance(spec, str | None):
        raise ValueError(f"{ANSWER_FORMAT} is {spec!r:.60}; make it text")
    if not isinstance(choices, list | tuple | None) or not all(isinstance(choice, str) for choice in choices or ()):
        raise ValueError(f"{CHOICES} is {choices!r:.60}; make it a list of texts")
    return spec or default, tuple(choices or ())
