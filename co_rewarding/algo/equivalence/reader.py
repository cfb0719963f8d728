# SPDX-License-Identifier: Apache-2.0
r"""From an answer to its value, from the outside in: lists, relations, unions, brackets, and at last expressions.

    read(r"x = 2 \text{ or } x = \frac12") = Collection(Expression 2, Expression 1/2)

The policies, with examples, are in docs/ANSWERS.md. What cannot be read is words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

from co_rewarding.algo.answers import MAX_ANSWER_CHARS
from co_rewarding.algo.equivalence import algebra
from co_rewarding.algo.equivalence.brackets import Tokens, closing, split
from co_rewarding.algo.equivalence.equations import RELATIONS, in_order_of_names, is_domain, is_name, name_of, relation
from co_rewarding.algo.equivalence.spelling import MAX_NESTING, OPENING, nesting, spaced, tokens
from co_rewarding.algo.equivalence.units import BASES, factor_of
from co_rewarding.algo.equivalence.values import (
    INFINITY,
    Collection,
    Computation,
    Expression,
    Ordered,
    Union,
    Unread,
    Value,
    Words,
    number,
)

_SEPARATORS = (",", ", ", "&", ";", "or")
_OUTER_SEPARATORS = (";", "or")  # x=1, y=2 or x=2, y=1 are two points
_OPERATORS = ("+", "-", r"\cdot", "/", "^", r"\cup", r"\cap", r"\pm", "!", *RELATIONS)
_TO_BE_CARRIED_OUT = {r"\sum", r"\prod", r"\int", r"\lim", r"\gcd", r"\lcm", r"\max", r"\min", r"\det"}
_MODULI = (r"\pmod", r"\bmod", r"\mod")
_MATRICES = ("pmatrix", "bmatrix", "matrix", "Bmatrix", "smallmatrix", "array")
# of up to three letters, which would be products of variables otherwise
_SHORT_WORDS = frozenset(("yes", "no", "odd", "all", "dne", "one", "two", "six", "ten", "red"))
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})")
_LETTERS = re.compile(r"[A-Za-z]+")
_NO_EXPRESSION = frozenset("'?=:;.\"#@")  # an apostrophe that names no variable may be minutes of arc


@lru_cache(maxsize=16_384)
def read(answer: str) -> Value:
    """The value of an answer; never raises."""
    if len(answer) > MAX_ANSWER_CHARS:
        return Words("".join(answer.split()))
    found = tokens(answer)
    if nesting(found) <= MAX_NESTING:
        with suppress(RecursionError):  # what is nested without brackets, as |||||x and \sin\sin\sin x
            return _value(found)
    return Words(" ".join(found))


def is_computation(answer: str) -> bool:
    """Whether an answer only poses what is to be computed, as 58+23 does."""
    return isinstance(read(answer), Computation)


def _value(found: Tokens) -> Value:
    found = _trimmed(found)
    if len(found) == 1 and found[0].startswith(r"\text{") and len(found[0]) > 8:
        return _value(tokens(found[0][6:-1]))
    for kind in (_choice, _named_set, _matrix, _residue, _list, _relation, _union, _bracketed, _either_sign, _numeral):
        if (value := kind(found)) is not None:
            return value
    return _ratio(found) or _quantity(found) or _expression(found)


def _trimmed(found: Tokens) -> Tokens:
    r"""Without separators at its ends and brackets around all of it; ((5)) and {5} are 5, but (1,2) is a pair."""
    while found:
        if found[-1] in (".", ":", r"\\", *_SEPARATORS):
            found = found[:-1]
        elif found[0] in (".", r"\\", *_SEPARATORS):
            found = found[1:]
        elif found[0] in ("{", "(") and closing(found, 0) == len(found) - 1 and found[-1] in ("}", ")"):
            inner = found[1:-1]
            if found[0] == "(" and (len(split(inner, _SEPARATORS)) > 1 or not inner):
                break
            found = inner
        else:
            break
    return found


def _bare(token: str) -> str:
    r"""The content of a \text{…}."""
    return token[6:-1].strip(" ().") if token.startswith(r"\text{") else token


# --- choices, sets with a name, matrices, residues ---


def _choice(found: Tokens) -> Value | None:
    r"""B), Option C, (E) 12: the letter alone counts."""
    words = [word for token in found for word in _bare(token).split()]
    match found:
        case (letter, ")" | "."):
            pass
        case (letter, ":" | ")", first, *rest) if "=" not in rest and not re.fullmatch("[A-Z]", first):
            pass
        case ("(", letter, ")", first, *_) if first not in (*_OPERATORS, *_SEPARATORS, *OPENING, "'", "_"):
            pass
        case _ if len(words) == 2 and words[0].lower() in ("option", "choice", "answer"):
            letter = words[1]
        case _:
            return None
    letter = _bare(letter)
    return _expression((letter,)) if len(letter) == 1 and "A" <= letter <= "J" else None


def _named_set(found: Tokens) -> Value | None:
    match found:
        case (r"\emptyset",) | (r"\{", r"\}"):
            return Words("∅")
        case (r"\infty",) | ("+", r"\infty"):
            return Words(INFINITY)
        case ("-", r"\infty"):
            return Words("-" + INFINITY)
        case (r"\mathbb", "{", "R", "}") | (r"\mathbb", "R"):
            return Ordered("ℝ", "()", (Words("-" + INFINITY), Words(INFINITY)))
    return None


def _matrix(found: Tokens) -> Value | None:
    if found[:2] != (r"\begin", "{") or found[-4:-2] != (r"\end", "{") or found[2] != found[-2]:
        return None
    inner = found[4:-4]
    if found[2] == "array" and inner[:1] == ("{",):
        inner = inner[closing(inner, 0) + 1 :]
    rows = [row for row in split(inner, (r"\\",)) if row]
    if found[2] == "cases":
        return _value(tuple(token for row in rows for token in (*row, ", ")))
    cells = [split(row, ("&",)) for row in rows]
    if found[2] not in _MATRICES or len({len(row) for row in cells}) != 1:
        return None
    return Ordered(spaced(found), f"matrix {len(rows)}", tuple(_value(cell) for row in cells for cell in row))


def _residue(found: Tokens) -> Value | None:
    r"""x \equiv 5 \pmod{12} is 5 modulo 12."""
    place = next((i for i, token in enumerate(found) if token in _MODULI), None)
    if place is None:
        return None
    parts = (_value(split(found[:place], (r"\equiv", "="))[-1]), _value(found[place + 1 :]))
    return Ordered(f"{parts[0].text} mod {parts[1].text}", "mod", parts)


# --- lists, relations, unions, brackets ---


def _list(found: Tokens) -> Value | None:
    """x=1, y=2 is the point (1,2); other lists are sets, and lists of intervals their union."""
    pieces = split(found, _OUTER_SEPARATORS)
    if len(pieces) < 2:
        pieces = split(_with_thousands(found), _SEPARATORS)
    pieces = [piece for piece in pieces if piece and not is_domain(piece)]
    if len(pieces) < 2:
        return _value(pieces[0]) if pieces and pieces[0] != found else None
    parts, names = [_value(piece) for piece in pieces], [name_of(piece) for piece in pieces]
    if len(set(names)) == len(names) and not any(name is None or "_" in name for name in names):
        return in_order_of_names(dict(zip(names, parts, strict=True)))
    return _set_of(parts)


def _set_of(parts: Sequence[Value]) -> Value:
    flat: list[Value] = []
    for part in parts:
        flat += part.parts if isinstance(part, Collection) else [part]
    text = ", ".join(part.text for part in flat)
    return Union(text, tuple(flat)) if all(map(_is_interval, flat)) else Collection(text, tuple(flat))


def _is_interval(part: Value) -> bool:
    """Certainly one, and not a pair of numbers, which may be a point."""
    if not isinstance(part, Ordered) or len(part.parts) != 2:
        return isinstance(part, Union)
    return part.brackets in ("[)", "(]") or any(INFINITY in end.text for end in part.parts)


def _with_thousands(found: Tokens, in_brackets: bool = False) -> Tokens:
    """1,234 and 12 345 as one number, outside of brackets; in them a comma separates, but before 000."""
    merged: list[str] = []
    depth = i = 0
    while i < len(found):
        depth += (found[i] in OPENING) - (found[i] in (")", "]", "}", r"\}"))
        end = i + 1
        if depth == 0 and re.fullmatch(r"[1-9]\d{0,2}", found[i]) and found[max(0, i - 1) : i] != (",",):
            end = _end_of_thousands(found, i, in_brackets)
        merged.append("".join(found[i:end]).replace(",", "") if end > i + 1 else found[i])
        i = end
    return tuple(merged)


def _end_of_thousands(found: Tokens, start: int, in_brackets: bool) -> int:
    for comma in ((",",), ()):
        end, step = start + 1, len(comma) + 1
        while found[end : end + step - 1] == comma and re.fullmatch(
            r"\d{3}(?:\.\d*)?", "".join(found[end + step - 1 : end + step])
        ):
            end += step
        groups = found[start:end:step]
        if len(groups) > 1 and found[end : end + 1] != (",",) and not (in_brackets and comma and groups[1][0] != "0"):
            return end
    return start + 1


def _relation(found: Tokens) -> Value | None:
    return relation(found, _value)


def _union(found: Tokens) -> Value | None:
    base, *removed = split(found, (r"\setminus", r"\backslash", r"\\"))
    pieces = split(base, (r"\cup",))
    if len(pieces) == 1 and not removed:
        return None
    without = [_value(piece) for piece in removed]
    points = [point for part in without for point in (part.parts if isinstance(part, Collection) else (part,))]
    return Union(spaced(found), tuple(map(_value, pieces)), tuple(points))


def _bracketed(found: Tokens) -> Value | None:
    if not found or found[0] not in ("(", "[", r"\{") or closing(found, 0) != len(found) - 1 or len(found) < 3:
        return None
    condition = split(found[1:-1], ("|", ":"))
    if found[0] == r"\{" and len(condition) == 2 and (is_name(condition[0]) or is_domain(condition[0])):
        return _value(condition[1])  # \{x \mid x > 2\}
    pieces = split(_with_thousands(found[1:-1], in_brackets=True), _SEPARATORS[:4])
    if not all(pieces) or (len(pieces) < 2 and found[0] != r"\{"):
        return None
    parts = [_value(piece) for piece in pieces]
    if found[0] == r"\{":
        return _set_of(parts) if len(parts) > 1 else parts[0]
    return Ordered(spaced(found), found[0] + found[-1], tuple(parts))


def _either_sign(found: Tokens) -> Value | None:
    r"""\pm 2 is 2, -2."""
    if r"\pm" not in found and r"\mp" not in found:
        return None
    signs = [{r"\pm": "+", r"\mp": "-"}, {r"\pm": "-", r"\mp": "+"}]
    return Collection(spaced(found), tuple(_value(tuple(of.get(token, token) for token in found)) for of in signs))


# --- numerals with a base, ratios, quantities, expressions, words ---


def _numeral(found: Tokens) -> Value | None:
    r"""52_8 and 52_{\text{eight}} equal only the same digits in the same base, and never a value."""
    if len(found) < 4 or "_" not in found or found[-1] != "}":
        return None
    place = found.index("_")
    digits, base = "".join(found[:place]), _bare("".join(found[place + 2 : -1]).strip("()."))
    base = str(BASES.get(base.lower(), base))
    if not re.fullmatch(r"-?(?=.*\d)[0-9A-F]+(?:\.[0-9A-F]+)?", digits) or not base.isdigit():
        return None
    return Words(f"{digits}_{base}")


def _ratio(found: Tokens) -> Value | None:
    """3:5 and 8:30 are neither quotients nor each other's multiples: a time of day is written so too."""
    parts = tuple(_expression(piece) for piece in split(found, (":",)))
    return (
        Ordered(spaced(found), ":", parts)
        if len(parts) > 1 and all(number(part) is not None for part in parts)
        else None
    )


def _quantity(found: Tokens) -> Value | None:
    """What is left of a value once a unit or "million" behind it, or a currency before it, is gone."""
    if found and _bare(found[0]).lower() in ("rs", "usd"):
        return _value(found[1:])
    for i in range(1, len(found)):
        starts = found[i].startswith(r"\text{") or _LETTERS.fullmatch(found[i]) or not found[i].isascii()
        if not starts or found[i - 1] in _OPERATORS or (found[i] == "°" and i == len(found) - 1):
            continue
        tail = " ".join(_bare(token) for token in found[i:]).lstrip("° ")
        tail = tail.replace("^ { ", "^{").replace(" }", "}")
        factor = factor_of(tail, one_letter=found[i][:1] in ("\\", "°") or "/" in tail)
        if factor is None or any(token.startswith(r"\text{") for token in found[:i]):
            continue
        value = _value(found[:i])
        if factor == 1:
            return None if isinstance(value, Words) else value
        amount = number(value)
        return None if amount is None else Expression(str(amount * factor), (amount * factor,) * algebra.POINTS)
    return None


def _expression(found: Tokens) -> Value:
    text = spaced(found)
    if _TO_BE_CARRIED_OUT & set(found):
        return Computation(text)
    if not found or _is_words(found):
        return _words(found)
    try:
        tree = algebra.tree(found)
    except algebra.Unreadable:
        return Unread(text) if _is_mathematics(found) else _words(found)
    if algebra.is_computation(tree):
        return Computation(text)
    try:
        return Expression(text, algebra.values(tree, algebra.symbols(tree)))
    except algebra.Unreadable:
        return Words(text)  # 1/0, or too large for any reader


def _is_words(found: Tokens) -> bool:
    if len(found) == 1 and (found[0].lower() in _SHORT_WORDS or _ROMAN.fullmatch(found[0])):
        return True
    return any(
        (token.startswith(r"\text{") and len(_bare(token)) > 1)
        or (len(token) > 3 and _LETTERS.fullmatch(token))
        or (not token.isascii() and token != "°")
        for token in found
    )


def _is_mathematics(found: Tokens) -> bool:
    """Worth another parser's time: commands or operators, and no sign that no expression has."""
    return any(token[0] == "\\" or token in "+-/^" for token in found) and not _NO_EXPRESSION & set(found)


def _words(found: Tokens) -> Words:
    """Words whatever their case, a single letter as it is; "solutions" are "solution", and p.m. is pm."""
    words = [word for token in found for word in (tokens(token[6:-1]) if token.startswith(r"\text{") else (token,))]
    spelled = " ".join(word if len(word) == 1 else word.casefold() for word in words if word.strip(" .,"))
    return Words(re.sub(r"(?<=[a-z]{3})s\b", "", re.sub(r"\b([ap]) m\b", r"\1m", spelled)))
