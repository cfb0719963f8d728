# SPDX-License-Identifier: Apache-2.0
"""Finds the columns with question, context, answer, choices and id: as given, or by their names.

A name is compared without case, spaces and signs: "Ground Truth" is ground_truth. The first of each list of names wins
(a table with `answer` and `solution` has its answer in `answer`); between two others the user must choose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from co_rewarding.storage.raw_table import shown

QUESTION = (
    "question", "problem", "prompt", "query", "input", "instruction", "questiontext", "questionstem", "题目", "問題",
    "问题", "题干",
)  # fmt: skip
ANSWER = (
    "answer", "solution", "target", "label", "groundtruth", "answerkey", "correctanswer", "finalanswer",
    "expectedanswer", "gold", "ideal", "output", "correct", "correctoption", "answeridx", "answerindex", "答案",
    "正确答案",
)  # fmt: skip
CHOICES = ("choices", "options", "candidates", "选项", "選項")
ID = ("id", "index", "uid", "uuid", "idx", "qid", "questionid", "uniqueid", "problemid", "编号", "序号", "题号")
FORMAT = ("answerformat",)
CONTEXT = ("context", "passage", "article", "paragraph", "文章", "材料")
_OPTION = re.compile(
    r"([A-Z])|(option|opt|op|choice|选项|選項)[ _.-]?([a-z]|\d{1,2})|([a-z])[ _]?(选项|選項)", re.IGNORECASE
)


@dataclass(frozen=True)
class Columns:
    """The user's choice of columns. None: found by name; "": there is none."""

    question: str | None = None
    answer: str | None = None
    choices: str | None = None  # one column, or one per option, separated by commas
    id: str | None = None
    context: str | None = None  # text before the question


@dataclass(frozen=True)
class Found:
    """Columns of a table."""

    question: str
    answer: str | None
    choices: tuple[str, ...]  # one with all options of a row, or one per option
    id: str | None
    answer_format: str | None
    context: str | None = None

    def __str__(self) -> str:
        named = {"answer": self.answer, "choices": shown(self.choices), "id": self.id}
        named |= {"context": self.context} if self.context else {}
        return f"question: {self.question}" + "".join(f", {what}: {name or 'none'}" for what, name in named.items())


def find_columns(names: Sequence[str], given: Columns) -> Found:
    """Raises ValueError, which lists the columns and names the option to choose one."""
    question = _one(names, given.question, QUESTION, "question")
    if question is None:
        raise ValueError(f"no column for the question; name it with --question; its columns are {shown(names)}")
    return Found(
        question=question,
        answer=_one(names, given.answer, ANSWER, "answer"),
        choices=_choices(names, given.choices),
        id=_one(names, given.id, ID, "id"),
        answer_format=_one(names, None, FORMAT, "answer_format"),
        context=_one(names, given.context, CONTEXT, "context"),
    )


def _one(names: Sequence[str], given: str | None, known: Sequence[str], what: str) -> str | None:
    if given is not None:
        return _named(names, given, what) if given else None
    found = [name for name in names if _plain(name) in known]
    first = [name for name in found if _plain(name) == known[0]]
    if len(first or found) > 1:
        raise ValueError(
            f"columns {shown(first or found)} may each be the {what}; name one with --{what}; its columns are "
            f"{shown(names)}"
        )
    return (first or found or [None])[0]


def _named(names: Sequence[str], given: str, option: str) -> str:
    if given not in names:
        raise ValueError(f"--{option} {given}: no such column; its columns are {shown(names)}")
    return given


def _choices(names: Sequence[str], given: str | None) -> tuple[str, ...]:
    if given is not None:
        whole = [given] if given in names else [part.strip() for part in given.split(",") if part.strip()]
        return tuple(_named(names, name, "choices") for name in whole)
    lists = _one(names, None, CHOICES, "choices")
    families = _option_columns(names)
    if len(families) + (lists is not None) > 1:
        both = [*([lists] if lists else []), *(name for family in families for name in family)]
        raise ValueError(
            f"columns {shown(both)} may each hold the choices; name one, or one per option separated by commas, with "
            f"--choices; its columns are {shown(names)}"
        )
    return (lists,) if lists else families[0] if families else ()


def _option_columns(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Consecutive columns A, B, … or option_1, option_2, …, at least two; for lower case at least a, b, c, d."""
    families: dict[tuple[str, bool], dict[int, str]] = {}
    for name in names:
        if (found := _OPTION.fullmatch(name.strip())) is None:
            continue
        bare, word, key, letter, after = found.groups()
        mark = (bare or key or letter).lower()
        number = int(mark) if mark.isdecimal() else ord(mark) - ord("a")
        kind = "small" if bare and bare.islower() else (word or after or "").lower()
        families.setdefault((kind, mark.isdecimal()), {})[number] = name
    runs = []
    for (kind, is_number), of in families.items():
        start = 1 if is_number and 0 not in of else 0
        run = []
        while start + len(run) in of:
            run.append(of[start + len(run)])
        if len(run) >= (4 if kind == "small" else 2):  # a, b and c may be something else
            runs.append(tuple(run))
    return runs


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
