# SPDX-License-Identifier: Apache-2.0
"""The answer format of a row: two optional columns.

answer_format   str    a format of algo/answer_format.py; null: the default
choices         [str]  texts of the options, the first is A; null: none
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ANSWER_FORMAT, CHOICES = "answer_format", "choices"


def stated_as(row: Mapping[str, Any], default: str = "") -> tuple[str, tuple[str, ...]]:
    """The row's answer format (`default` if it names none), and the texts of its options.

    Raises:
        ValueError: one of the columns has another type.
    """
    spec, choices = row.get(ANSWER_FORMAT), row.get(CHOICES)
    if not isinstance(spec, str | None):
        raise ValueError(f"{ANSWER_FORMAT} is {spec!r:.60}; make it text")
    if not isinstance(choices, list | tuple | None) or not all(isinstance(choice, str) for choice in choices or ()):
        raise ValueError(f"{CHOICES} is {choices!r:.60}; make it a list of texts")
    return spec or default, tuple(choices or ())
