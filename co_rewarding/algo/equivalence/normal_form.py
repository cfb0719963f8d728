# SPDX-License-Identifier: Apache-2.0
r"""The spelling of an answer: its normal form, its exact number, and what two forms say without any algebra.

    answer --normal_form--> string key --number--> Fraction, where the key is a plain number
    relate(a, b, leaf): the structure of two keys; leaf(x, y) is asked only where algebra is needed

The normal form removes what is typography: \left, \right, spacing commands, \dfrac, math delimiters, \text{...}, a
final full stop, the braces of {5}, thousands separators of a whole number (300,\!000 and 300,000 and 300 000).
Policies, each chosen so that the relation stays symmetric and transitive:
- units vanish: 15 \text{ cm} = 15 cm = 15. So do the degree, currency and percent signs: 50\% = 50, and not 0.5;
- a name in front vanishes: x=5 and f(x)=5 are 5, x=5, x=-2 is 5, -2; but x=1, y=2 keeps its names;
- "and" and "or" between answers are commas; a bare list is unordered, as \{1,2\} is; (1,2) and [1,2) are ordered,
  so (1,2) is neither \{1,2\} nor [1,2] nor 1,2. Repetition counts by length only: 1,1,2 is not 1,2;
- numbers are exact: 1/2 = 0.5, but 1/3 is not 0.333333. 1\frac{1}{2} is the mixed number 3/2. 1,234 is one number;
- a numeral with a base, 52_8, equals only a numeral with the same digits and base: never 52;
- bare words are compared as words, without regard to case from two letters on; (A) is A;
- an equation or inequality equals no value and no interval: 2x+3y=6 is not 6, and 1<x<2 is not (1,2).

Deliberately absent: algebra (algo.equivalence.relation). Everything here is linear or bounded by MAX_ANSWER_CHARS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache

from co_rewarding.algo.answers import MAX_ANSWER_CHARS

MAX_PARTS = 32
"""Longest list, tuple or set whose parts are compared one by one."""
MAX_DEPTH = 24
"""Deepest nesting of brackets that is read as mathematics."""

_UNICODE = str.maketrans(
    {"−": "-", "×": "\\times ", "÷": "/", "π": "\\pi ", "∞": "\\infty ", "≤": "\\le ", "≥": "\\ge ", "∪": "\\cup "}
    | {"°": "", "£": "", "€": "", "√": "\\sqrt "}
)
_TEXT = r"\\(?:text|textrm|textbf|textit|textsf|mbox|mathrm|mathbf|mathit|mathsf|mathtt|operatorname)"
_REWRITES = [  # (pattern, replacement), in this order
    (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])", ""),
    (r"\\(?:displaystyle|textstyle|limits)(?![a-zA-Z])", ""),
    (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
    (r"(?<=\d)(?:,\\!|\{,\})(?=\d)", ","),
    (r"(?<!\\)\\!", ""),
    (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
    (r"\^\s*\{?\s*\\(?:circ|degree)(?![a-zA-Z])\s*\}?|\\degree(?![a-zA-Z])", ""),
    (r"(?<!\\)\\[()\[\]$%]|[$%]", ""),
    (r"\s*" + _TEXT + r"\{\s*(?:and|or)\s*\}\s*|(?<=\s)(?:and|or)\s", ", "),
    (r",\s*,", ","),
]
_REWRITES = [(re.compile(pattern), replacement) for pattern, replacement in _REWRITES]

# Not \mathbf: 3\mathbf{i} is a vector. Not one letter but these: 2\mathrm{i} is a complex number.
_TEXT_UNIT = re.compile(
    r"(?<=[0-9A-Za-z)}\]])\s*\\(?:text|textrm|mbox|mathrm)\{\s*([msghL]|[^{}]{2,})\s*\}(?:\^\{?\d\}?)?$"
)
_TIME_OF_DAY = re.compile(r"[ap]\.?\s*m\.?", re.IGNORECASE)
_TEXT_COMMAND = re.compile(_TEXT + r"\s*\{([^{}]*)\}")
_UNIT_WORD = re.compile(
    r"(?<=[0-9.}])\s*(?:(?:square|cubic|sq\.?|cu\.?)\s*)?"
    r"(?:mm|cm|km|in|inch(?:es)?|ft|foot|feet|yd|yards?|miles?|met(?:er|re)s?|mph|mg|kg|grams?|lbs?|pounds?|ounces?|oz|"
    r"sec|seconds?|min|minutes?|hours?|hrs?|days?|weeks?|months?|years?|degrees?|radians?|percent|dollars?|cents?|"
    r"units?|points?|ways|people|students)(?:\^\{?\d\}?)?$",
    re.IGNORECASE,
)
_NAME_IN_FRONT = re.compile(r"[A-Za-z](?:\([A-Za-z]\))?\s*(?:=|\\in(?![a-zA-Z]))")
_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|lt|gt|leqslant|geqslant|equiv|approx|sim|in)(?![a-zA-Z])")
_SUBSCRIPT = re.compile(r"(?<=[0-9)])_(\d|\{\d+\})")
_WORD = re.compile(r"[A-Za-z]+")

_NUMERAL = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+"
_PLAIN = re.compile(rf"([+-]?)({_NUMERAL})")
_RATIO = re.compile(rf"([+-]?)(\d*)\\frac\{{([+-]?)({_NUMERAL})\}}\{{([+-]?)({_NUMERAL})\}}")
_SLASH = re.compile(rf"([+-]?)({_NUMERAL})/([+-]?)({_NUMERAL})")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[, ]\d{3})+(?:\.\d*)?")

# What grows past any bound when evaluated: a tower of three numbers, an exponent of five digits, the factorial of a
# number of four digits or (where no variable keeps it symbolic) of an expression. The killable worker is the
# guarantee; this only spares its time.
_EXPLOSIVE = re.compile(r"\d\)?\^[{(]*-?\d+[)}]*\^|\^[{(]*-?\d{5}|\d{4}!")
_FACTORIAL_OF_EXPRESSION = re.compile(r"[)}!]!")
_COMMAND = re.compile(r"\\[A-Za-z]+")


@lru_cache(maxsize=16_384)
def _short_normal_form(answer: str) -> str:
    text = answer.translate(_UNICODE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _without_outer_braces(text.strip().rstrip(".,").strip())
    unit = _TEXT_UNIT.search(text)
    if unit and not _TEXT_COMMAND.search(text, 0, unit.start()) and not _TIME_OF_DAY.search(unit.group(1)):
        text = text[: unit.start()].strip()
    text = _without_outer_braces(_TEXT_COMMAND.sub(r"\1", text).strip().rstrip("."))
    text = _without_names(text)
    text = re.sub(r"\\frac\s*(\w|\\[A-Za-z]+)", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*(\w|\\[A-Za-z]+)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"([\^_])\s*\{\s*(\w)\s*\}", r"\1\2", text)
    # A space stays where it separates: after a command's letters, and between digits.
    listed = re.search(r",\s", text) is not None
    text = re.sub(r"(?<![A-Za-z0-9\\])\s+|\s+(?![A-Za-z0-9])", "", text)
    text = re.sub(r"((?:\\[A-Za-z]+)|[A-Za-z]+|\d+) +", _keep_separating_space, text)
    if number(text) is None and (unit := _UNIT_WORD.search(text)) and number(text[: unit.start()]) is not None:
        text = text[: unit.start()]
    if listed and number(text) is not None:
        text = text.replace(",", ", ")  # 100, 101 are two numbers, 100,101 is one
    if _THOUSANDS.fullmatch(text):
        text = re.sub(r"[, ]", "", text)
    if re.fullmatch(r"\([A-Za-z]\)", text):
        text = text[1]
    return text.casefold() if len(text) > 1 and is_word(text) else text


def _keep_separating_space(match: re.Match[str]) -> str:
    head = match.group(1)
    following = match.string[match.end() : match.end() + 1]
    separates = (head[0] == "\\" and following.isalpha()) or (head.isdigit() and following.isdigit())
    return head + " " if separates else head


def _without_names(text: str) -> str:
    """x=5 becomes 5 and x=5, x=-2 becomes 5, -2; x=1, y=2 and chains such as x=y=2 are left alone."""
    name = _NAME_IN_FRONT.match(text)
    if not name:
        return text
    if _num_relations(text) == 1:
        return text[name.end() :].strip()
    pieces = _split(text)
    if all(piece.startswith(name.group()) and _num_relations(piece) == 1 for piece in pieces):
        return ", ".join(piece[name.end() :].strip() for piece in pieces) or text
    return text


def _without_outer_braces(text: str) -> str:
    while len(text) > 1 and text[0] == "{" and text[-1] == "}" and text[-2] != "\\":
        depth = 0
        for i, char in enumerate(text):
            depth += (char == "{") - (char == "}")
            if depth == 0 and i < len(text) - 1:
                return text
        if depth:
            return text
        text = text[1:-1].strip()
    return text


def normal_form(answer: str) -> str:
    """The key by which answers are compared as strings; an answer that is too long keeps all but its white space."""
    if len(answer) > MAX_ANSWER_CHARS:
        return "".join(answer.split())
    return _short_normal_form(answer)


def number(key: str) -> Fraction | None:
    r"""The exact value of an integer, decimal, a/b, \frac{a}{b} or mixed number; None for anything else."""
    return _short_number(key) if len(key) <= MAX_ANSWER_CHARS else None


@lru_cache(maxsize=16_384)
def _short_number(key: str) -> Fraction | None:
    if match := _PLAIN.fullmatch(key):
        return _signed(match[1], match[2])
    if match := _SLASH.fullmatch(key):
        top, bottom = _signed(match[1], match[2]), _signed(match[3], match[4])
        return top / bottom if bottom else None
    if match := _RATIO.fullmatch(key):
        sign, whole = match[1], match[2]
        top, bottom = _signed(match[3], match[4]), _signed(match[5], match[6])
        if not bottom or (whole and (match[3] or match[5])):
            return None
        value = int(whole or "0") + top / bottom
        return -value if sign == "-" else value
    return None


def _signed(sign: str, numeral: str) -> Fraction:
    value = Fraction(numeral.replace(",", "").rstrip("."))
    return -value if sign == "-" else value


def _num_relations(text: str) -> int:
    r"""Equations and inequalities outside all brackets, so that \sum_{k=1} is none."""
    depth, outside = 0, []
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        outside.append(char if depth <= 0 else " ")
    return len(_RELATION.findall("".join(outside)))


def is_word(key: str) -> bool:
    return _WORD.fullmatch(key) is not None


@lru_cache(maxsize=16_384)
def parts(key: str) -> tuple[str, tuple[str, ...]] | None:
    r"""(brackets, parts) of a list, set, tuple or interval of two or more; brackets is "" where order is free."""
    bracketed = key[:1] in ("(", "[") and key[-1:] in (")", "]")
    if bracketed or (key.startswith("\\{") and key.endswith("\\}")):
        inner = _split(key[1:-1] if bracketed else key[2:-2])
        if len(inner) > 1:
            return (key[0] + key[-1] if bracketed else "", inner)
    bare = _split(key)
    return ("", bare) if len(bare) > 1 else None


def _split(text: str) -> tuple[str, ...]:
    """The pieces between the commas outside all brackets; none where the brackets do not match up."""
    depth, start, pieces = 0, 0, []
    for i, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            pieces.append(text[start:i].strip())
            start = i + 1
        if depth < 0:  # as inside (1,2)\cup(3,4), whose first and last bracket are not a pair
            return ()
    pieces.append(text[start:].strip())
    return tuple(pieces) if depth == 0 else ()


def is_explosive(key: str) -> bool:
    """Whether evaluating the key would obviously not end: such an answer equals only its own string."""
    depth = deepest = 0
    for char in key:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH or _EXPLOSIVE.search(key):
        return True
    return _FACTORIAL_OF_EXPRESSION.search(key) is not None and not re.search("[A-Za-z]", _COMMAND.sub("", key))


def relate(a: str, b: str, leaf: Callable[[str, str], bool | None]) -> bool | None:
    """Whether two keys are the same answer, by structure; leaf(x, y) decides pairs that need algebra.

    Symmetric if leaf is. Where leaf answers None (not known yet), the result is None if it depends on that leaf.
    """
    if a == b:
        return True
    if len(a) > MAX_ANSWER_CHARS or len(b) > MAX_ANSWER_CHARS:
        return False
    number_a, number_b = number(a), number(b)
    if number_a is not None and number_b is not None:
        return number_a == number_b
    word_a, word_b = is_word(a), is_word(b)
    if (word_a or number_a is not None) and (word_b or number_b is not None):
        return False
    if _SUBSCRIPT.findall(a) != _SUBSCRIPT.findall(b):
        return False
    parts_a, parts_b = parts(a), parts(b)
    if parts_a is not None and parts_b is not None:
        return _relate_parts(parts_a, parts_b, leaf)
    if (number_a is not None and parts_b is not None) or (number_b is not None and parts_a is not None):
        return False
    if (_num_relations(a) == 0) != (_num_relations(b) == 0):
        return False
    return leaf(a, b)


def _relate_parts(
    a: tuple[str, tuple[str, ...]], b: tuple[str, tuple[str, ...]], leaf: Callable[[str, str], bool | None]
) -> bool | None:
    (brackets_a, parts_a), (brackets_b, parts_b) = a, b
    if brackets_a != brackets_b or len(parts_a) != len(parts_b) or len(parts_a) > MAX_PARTS:
        return False
    if brackets_a:
        return _every(relate(x, y, leaf) for x, y in zip(parts_a, parts_b, strict=True))
    table = [[relate(x, y, leaf) for y in parts_b] for x in parts_a]
    return _every(_some(line) for line in [*table, *zip(*table, strict=True)])


def _every(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown = unknown or verdict is None
    return None if unknown else True


def _some(verdicts: Iterable[bool | None]) -> bool | None:
    unknown = False
    for verdict in verdicts:
        if verdict:
            return True
        unknown = unknown or verdict is None
    return None if unknown else False
