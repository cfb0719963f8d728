# SPDX-License-Identifier: Apache-2.0
"""A question's options, in any supported form, and its answer as the letter of one of them.

    options    a list of texts; {label: […], text: […]} (ARC); a list of {label, text}; {A: …, B: …}; JSON text of any
               of these; lettered lines; or one column an option
    answer     its letter or label ("B", "(B)", "B. Paris"), its number from 0 or from 1, or its text

What a number means is decided from all rows, since one row rarely shows it: a 0 counts from 0, the number of options
counts from 1. If no row decides, it must be given (--answer_is) and is not guessed.
"""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal

LETTERS = string.ascii_uppercase
MAX_CHARS = 100_000  # of options as text
AnswerIs = Literal["letter", "index0", "index1", "text"]
ANSWERS = {  # kind of answer -> in words
    "letter": "letters (or labels) of options",
    "index0": "numbers of options counted from 0",
    "index1": "numbers of options counted from 1",
    "text": "texts of options",
}
LABELS = ("label", "key", "id", "letter", "option")  # names of an option's label where each option is an object
TEXTS = ("text", "value", "content")  # and of its text
_LABEL = re.compile(r"(?<!\w)\(?([a-z])[).:、．]\s?")
Options = Mapping[str, str]  # label -> text, in order; letters unless the file has its own labels


def read_options(value: Any) -> dict[str, str]:
    """Label → text of each option, in order; {} without options.

    Raises:
        ValueError: another form; does not name the row.
    """
    if isinstance(value, str) and value.strip():
        value = _parsed(value.strip())
    if isinstance(value, Mapping):
        fields = {str(name).casefold(): found for name, found in value.items()}
        labels, texts = (fields.get(name, fields.get(f"{name}s")) for name in ("label", "text"))
        if isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts):
            pairs = list(zip(labels, texts, strict=True))
        else:
            pairs = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        pairs = [_pair(part) for part in value]
    elif isinstance(value, list | tuple):
        pairs = [(LETTERS[i] if i < len(LETTERS) else str(i + 1), text) for i, text in enumerate(value)]
    elif value is None or value == "" or value != value:
        pairs = []
    else:
        raise ValueError(f"its choices are {value!r:.60}; make them a list of texts, or one column an option")
    while pairs and _blank(pairs[-1][1]):  # a question with fewer options than others
        pairs.pop()
    if not pairs:
        return {}
    for label, text in pairs:
        if not isinstance(text, str | int | float) or _blank(text) or not isinstance(label, str | int):
            raise ValueError(f"its choices are {value!r:.60}; each must be a text")
    options = {str(label).strip(): str(text).strip() for label, text in pairs}
    if not 2 <= len(pairs) <= len(LETTERS) or len(options) != len(pairs):
        raise ValueError(f"has {len(pairs)} choices, {value!r:.60}; must be 2 to {len(LETTERS)}, with different labels")
    marked = [_mark(text) for text in options.values()]
    if _are_lettered(marked):
        return {label: found[1] for label, found in zip(options, marked, strict=True)}
    return options


def as_letters(answers: Sequence[str], options: Sequence[Options], answer_is: str | None) -> tuple[list[str], str]:
    """The letter of each answer ("" if none), and how that was decided, in words.

    Args:
        options: of each answer's question; without options the answer is unchanged.
        answer_is: the kind of the answers, one of ANSWERS; None: decided from all of them.

    Raises:
        ValueError: names the row; an answer is no option, or its kind cannot be decided.
    """
    answers = [_whole(answer, of) if of else answer for answer, of in zip(answers, options, strict=True)]
    chosen = [i for i, answer in enumerate(answers) if answer and options[i]]
    meanings = {i: meanings_of(answers[i], options[i]) for i in chosen}
    expected = ANSWERS[answer_is] if answer_is else "choices"
    for i in chosen:
        if (answer_is and answer_is not in meanings[i]) or not meanings[i]:
            raise ValueError(
                f"row {i}: its answer {answers[i]!r:.60} is none of its {expected} "
                f"({', '.join(map(repr, options[i].values())):.100})"
            )
    letters, used = list(answers), dict.fromkeys(ANSWERS, 0)
    for are_numbers in (False, True):
        group = [i for i in chosen if answers[i].strip().isdecimal() == are_numbers]
        kinds = [answer_is] if answer_is else [kind for kind in ANSWERS if all(kind in meanings[i] for i in group)]
        for i in group:
            possible = {kind: letter for kind, letter in meanings[i].items() if kind in kinds} or meanings[i]
            if len(set(possible.values())) > 1:
                raise ValueError(
                    f"row {i}: its answer {answers[i]!r:.60} may be among {' or '.join(ANSWERS[k] for k in possible)}, "
                    f"and no row decides; set --answer_is {'|'.join(possible)}"
                )
            kind, letters[i] = next(iter(possible.items()))
            used[kind] += 1
    return letters, ", ".join(f"{count:,} {ANSWERS[kind]}" for kind, count in used.items() if count)


def meanings_of(answer: str, options: Options) -> dict[str, str]:
    """Readings of a single answer: kind (of ANSWERS) → its letter."""
    answer, found = answer.strip(), {}
    labels = [label.casefold() for label in options]
    texts = [_folded(text) for text in options.values()]
    bare = re.fullmatch(r"\(?([^\W_]{1,3})[).:]?", answer)
    mark = _mark(answer)
    if bare and bare[1].casefold() in labels:
        found["letter"] = LETTERS[labels.index(bare[1].casefold())]
    elif mark and mark[0] in LETTERS[: len(texts)] and _folded(mark[1]) == texts[LETTERS.index(mark[0])]:
        found["letter"] = mark[0]
    if answer.isdecimal() and "letter" not in found:  # a label of digits is a label
        number = int(answer[:9])
        found |= {f"index{base}": LETTERS[number - base] for base in (0, 1) if 0 <= number - base < len(texts)}
    if texts.count(_folded(answer)) == 1:
        found["text"] = LETTERS[texts.index(_folded(answer))]
    return found


def with_choices(question: str, texts: Sequence[str]) -> str:
    """The question with its options as lettered lines, unless it has them already."""
    asked = _folded(question)
    lettered = list(zip(LETTERS, texts, strict=False))
    folded = {letter.lower(): _folded(text) for letter, text in lettered}
    there = {mark[1] for mark in _LABEL.finditer(asked) if asked.startswith(folded.get(mark[1], "\n"), mark.end())}
    if len(there) == len(folded):
        return question
    return question.rstrip() + "\n\n" + "\n".join(f"{letter}. {text}" for letter, text in lettered)


def _parsed(text: str) -> Any:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and _are_lettered([_mark(line) for line in lines]):
        return lines
    if len(text) > MAX_CHARS or text[0] not in "[{":
        raise ValueError(f"its choices are {text!r:.60}; make them a list as JSON, or one column an option")
    for parse in (json.loads, ast.literal_eval):  # Python literals, which pandas writes into CSV
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise ValueError(f"its choices are {text!r:.60}; not readable as JSON")


def _mark(text: str) -> tuple[str, str] | None:
    """The letter at a text's beginning, and the rest: "B. Paris", "(b) Paris"."""
    found = re.fullmatch(r"\(?([A-Za-z])[).:、．]\s*(\S.*)", text, re.DOTALL)
    return (found[1].upper(), found[2].strip()) if found else None


def _are_lettered(marked: Sequence[tuple[str, str] | None]) -> bool:
    return all(found and found[0] == letter for found, letter in zip(marked, LETTERS, strict=False))


def _pair(part: Mapping[str, Any]) -> tuple[Any, Any]:
    """Label and text of an option that is an object: {label: A, text: Paris}, {A: Paris}."""
    if len(part) == 1:
        return next(iter(part.items()))
    fields = {str(name).casefold(): value for name, value in part.items()}
    label, text = (next((fields[name] for name in names if name in fields), None) for names in (LABELS, TEXTS))
    if label is None or not set(TEXTS) & set(fields):
        raise ValueError(f"its choices have the option {dict(part)!r:.60}; it must have a label and a text")
    return label, text


def _whole(answer: str, options: Options) -> str:
    """The number of an option without the decimal point of a column with gaps: "2.0" is 2."""
    found = re.fullmatch(r"(\d{1,9})\.0+", answer.strip())
    return found[1] if found and _folded(answer) not in map(_folded, options.values()) else answer


def _blank(text: Any) -> bool:
    return text is None or text != text or (isinstance(text, str) and not text.strip())


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
