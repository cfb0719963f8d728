# SPDX-License-Identifier: Apache-2.0
r"""From an answer to its value, from the outside in: lists, relations, unions, brackets, then expressions.

    read(r"x = 2 \text{ or } x = \frac12") = Collection(Expression 2, Expression 1/2)

The policies, with examples, are in docs/ANSWERS.md. Unreadable text counts as words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from co_rewarding.algo.answers import MAX_ANSWER_CHARS, TextAnswer
from co_rewarding.algo.equivalence import algebra, expressions
from co_rewarding.algo.equivalence.brackets import Tokens, closing, split
from co_rewarding.algo.equivalence.equations import (
    RELATIONS,
    in_order_of_names,
    is_domain,
    is_inequality,
    is_name,
    name_of,
    relation,
)
from co_rewarding.algo.equivalence.spelling import DOTS, MAX_NESTING, nesting, spaced, tokens, turn
from co_rewarding.algo.equivalence.units import BASES, factor_of
from co_rewarding.algo.equivalence.values import (
    ABOVE_ALL,
    BELOW_ALL,
    INFINITY,
    INTERVALS,
    REAL_LINE,
    Collection,
    Computation,
    Expression,
    Intersection,
    Ordered,
    Union,
    Unread,
    Value,
    Words,
    number,
    same_value,
)

MAX_UNIT_TOKENS = 24
_COMMAS = (",", ", ", "&", ";")
_SEPARATORS = (*_COMMAS, "or", r"\\")
_OUTER_SEPARATORS = (";", "or")  # x=1, y=2 or x=2, y=1 are two points
_OPERATORS = ("+", "-", r"\cdot", "/", "^", r"\cup", r"\cap", r"\pm", *RELATIONS)
_MODULI = (r"\pmod", r"\bmod", r"\mod")
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix|smallmatrix|array)\}")
_ROWS = re.compile(r"\\begin\{(?:cases|array|aligned|align|gathered|gather|split|equation)\}")
# of up to three letters, which would be products of variables otherwise
_SHORT_WORDS = frozenset(
    ("yes", "no", "odd", "all", "dne", "one", "two", "six", "ten", "red", "is", "are", "of", "if", "for")
)
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|选项|选|答案)(?: is)?(?: ?[:：])? ?)+\(?([A-J])\)?(?:[ .:)].*)?"
    r"|\(([A-J])\)(?: ?[^ (+*/^_=<>,;'!\-\\].*| ?\\(?:frac|sqrt|pi|text|\{).*)?|([A-J])[).](?: .*)?|([A-J]): ?[^A-Z=]+",
    re.IGNORECASE,
)
_ROMAN = re.compile(r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})|(?=[iv]{2})(?:iv|v?i{0,3})")
_WHOLE_NUMBER = re.compile("-?[0-9]+")
_LETTERS = re.compile(r"[A-Za-z]+")
_NO_EXPRESSION = frozenset((*"'?=:;.\"#@", DOTS, r"\infty", r"\partial", r"\mathbb"))
_DERIVATIVE = re.compile(r"\\frac \{d[^{}]*\}\{d[A-Za-z][^{}]*\}")


@lru_cache(maxsize=16_384)
def read(answer: str) -> Value:
    """The value of an answer; never raises."""
    if len(answer) <= MAX_ANSWER_CHARS:
        if _WHOLE_NUMBER.fullmatch(answer):  # most answers need no parser
            return Expression(answer, (Fraction(answer),) * algebra.POINTS)
        with suppress(RecursionError):  # nesting without brackets, as |||||x and \sin\sin\sin x
            found = tokens(answer)
            return _value(found) if nesting(found) <= MAX_NESTING else Words(" ".join(found))
    return Words("".join(answer.split()))


def is_computation(answer: str) -> bool:
    """Whether an answer only states a computation, such as 58+23."""
    return not isinstance(answer, TextAnswer) and isinstance(read(answer), Computation)


def _value(found: Tokens) -> Value:
    found = _trimmed(found)
    if choice := _choice(found):
        return choice
    found = _without_preface(_without_domain(found))
    if len(found) == 1 and found[0].startswith(r"\text{") and len(found[0]) > 8:
        content = found[0][6:-1]
        return _words(found) if re.fullmatch("[a-z]{3}", content) else _value(tokens(content))
    for kind in (_named_set, _rows, _list, _residue, _relation, _union, _either_sign, _bracketed, _numeral):
        if (value := kind(found)) is not None:
            return value
    return _ratio(found) or _quantity(found) or _expression(found)


def _trimmed(found: Tokens) -> Tokens:
    r"""Without separators at its ends and brackets around all of it; ((5)) and {5} are 5, but (1,2) is a pair."""
    while found:
        if found[-1] in (".", ":", *_SEPARATORS):
            found = found[:-1]
        elif found[0] in (".", *_SEPARATORS):
            found = found[1:]
        elif (found[0], found[-1]) in (("{", "}"), ("(", ")"), ("[", "]")) and closing(found, 0) == len(found) - 1:
            inner = found[1:-1]
            if found[0] != "{" and (len(split(inner, _SEPARATORS)) > 1 or not inner):
                break
            if found[0] == "[" and not inner[0].startswith(r"\begin"):
                break
            found = inner
        else:
            break
    return found


def _without_domain(found: Tokens) -> Tokens:
    r"""k\pi of k\pi (k \in \mathbb{Z}) and of k\pi \text{ for } k \in \mathbb{Z}."""
    for i, token in enumerate(found[1:], start=1):
        if token == "(" and closing(found, i) == len(found) - 1 and is_domain(found[i + 1 : -1]):
            return found[:i]
        if token.startswith((r"\text{for", r"\text{where")) or token in ("for", "where"):
            return found[:i]
    return found


def _without_preface(found: Tokens) -> Tokens:
    r"""5 of \text{Answer: } 5."""
    if len(found) > 1 and found[0].startswith(r"\text{") and found[0].endswith(":}"):
        return found[1:]
    if len(found) > 2 and found[1] == ":" and (len(found[0]) > 3 or not found[0].isascii()) and found[0].isalpha():
        return found[2:]
    return found


def _bare(token: str) -> str:
    r"""The content of a \text{…}."""
    return token[6:-1].strip(" ().") if token.startswith(r"\text{") else token


# --- choices, sets with a name, matrices, residues ---


def _choice(found: Tokens) -> Value | None:
    r"""B), Option C, (E) 12: only the letter counts."""
    plain = " ".join(token[6:-1] if token.startswith(r"\text{") else token for token in found)
    match = _CHOICE.fullmatch(re.sub(r"(?<=\() | (?=[).:])|[{}] ?", "", plain).strip())
    letter = next((group for group in match.groups() if group), "") if match else ""
    return _expression((letter,)) if letter.isupper() else None


def _named_set(found: Tokens) -> Value | None:
    match found:
        case (r"\emptyset",) | (r"\{", r"\}") | ("empty", "set"):
            return Words("∅")
        case (r"\infty",) | ("+", r"\infty"):
            return ABOVE_ALL
        case ("-", r"\infty"):
            return BELOW_ALL
        case (r"\mathbb", "{", "R", "}") | (r"\mathbb", "R") | ("all" | "All", "real", "numbers"):
            return REAL_LINE
    return None


def _rows(found: Tokens) -> Value | None:
    r"""A matrix; equations and cases below each other, as a list of them."""
    if not found or not found[0].startswith(r"\begin") or closing(found, 0) != len(found) - 1:
        return None
    inner = found[1:-1]
    if found[0] == r"\begin{array}" and inner[:1] == ("{",):
        inner = inner[closing(inner, 0) + 1 :]
    cells = [split(row, ("&",)) for row in split(inner, (r"\\",)) if row]
    holds_relations = any(token in RELATIONS for row in cells for cell in row for token in cell)
    if _MATRIX.fullmatch(found[0]) and not holds_relations:
        if len({len(row) for row in cells}) != 1:
            return None
        return Ordered(spaced(found), f"matrix {len(cells)}", tuple(_value(cell) for row in cells for cell in row))
    if not _ROWS.fullmatch(found[0]):
        return None
    if any(len(row) == 2 and not set(row[1][:1]) & set(RELATIONS) for row in cells):  # a value and when it holds
        return _set_of([Ordered(spaced(sum(row, ())), "case", tuple(map(_value, row))) for row in cells])
    return _value(tuple(token for row in cells for token in (*sum(row, ()), ", ")))


def _residue(found: Tokens) -> Value | None:
    r"""x \equiv 5 \pmod{12} is 5 modulo 12."""
    place = next((i for i, token in enumerate(found) if token in _MODULI), None)
    if place is None:
        return None
    parts = (_value(split(found[:place], (r"\equiv", "="))[-1]), _value(found[place + 1 :]))
    return Ordered(f"{parts[0].text} mod {parts[1].text}", "mod", parts)


# --- lists, relations, unions, brackets ---


def _list(found: Tokens) -> Value | None:
    """x=1, y=2 is the point (1,2); x>1, x<3 is (1,3); other lists are sets, and lists of intervals their union."""
    pieces, is_either = split(found, _OUTER_SEPARATORS), "or" in found
    if len(pieces) < 2:
        pieces = split(_with_thousands(found), _SEPARATORS)
    pieces = [piece for piece in pieces if piece and not is_domain(piece)]
    if len(pieces) < 2:
        return _value(pieces[0]) if pieces and pieces[0] != found else None
    parts, names = [_value(piece) for piece in pieces], [name_of(piece) for piece in pieces]
    if None not in names and not any("_" in name for name in names):
        if len(set(names)) == len(names):
            named = in_order_of_names(dict(zip(names, parts, strict=True)))
            return Ordered("or " + named.text, "or", named.parts) if is_either else named
        if len(set(names)) == 1 and not is_either and all(map(is_inequality, pieces)):
            return Intersection(" and ".join(part.text for part in parts), tuple(parts))
    return _set_of(parts, certainly=is_either and any(map(is_inequality, pieces)))


def _set_of(parts: Sequence[Value], certainly: bool = False) -> Value:
    """Args: certainly: a pair among them is an interval, not a point."""
    flat = _members(parts)
    text = ", ".join(part.text for part in flat)
    kinds = {_kind_of_part(part) for part in flat}
    if kinds == {"interval"} or (
        kinds <= {"interval", "pair", "point"} and (certainly or kinds == {"interval", "pair"})
    ):
        return Union(text, tuple(flat))
    return Collection(text, tuple(flat))


def _members(parts: Sequence[Value]) -> list[Value]:
    """Those of the collections among the parts, and the other parts."""
    return [member for part in parts for member in (part.parts if isinstance(part, Collection) else (part,))]


def _kind_of_part(part: Value) -> str:
    if isinstance(part, Expression):
        return "point"
    if not isinstance(part, Ordered) or len(part.parts) != 2 or part.brackets not in INTERVALS:
        return "interval" if isinstance(part, Union | Intersection) else "other"
    is_certain = part.brackets in ("[)", "(]") or any(INFINITY in end.text for end in part.parts)
    return "interval" if is_certain else "pair"


def _with_thousands(found: Tokens, in_brackets: bool = False) -> Tokens:
    """1,234 and 12 345 as one number, outside of brackets; in them a comma separates, but before 000."""
    merged: list[str] = []
    depth = i = 0
    while i < len(found):
        depth += turn(found[i])
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
    base, *removed = split(found, (r"\setminus", r"\backslash"))
    pieces = split(base, (r"\cup",))
    if len(pieces) == 1 and not removed:
        return None
    parts = list(map(_value, pieces))
    points = _members([_value(piece) for piece in removed])
    if any(isinstance(part, Collection) for part in parts) and all(
        isinstance(p, Collection | Expression) for p in parts
    ):
        left = [part for part in _members(parts) if not any(same_value(part, point) for point in points)]
        return _set_of(left)
    return Union(spaced(found), tuple(parts), tuple(points))


def _bracketed(found: Tokens) -> Value | None:
    if len(found) > 2 and re.fullmatch("[A-Z]'?", found[0]) and found[1] == "(" and r"\cup" not in found:
        found = found[1:] if len(split(found[2:-1], (",", ", "))) > 1 else found  # the point P(3,4)
    if len(found) < 3 or found[0] not in ("(", "[", r"\{") or closing(found, 0) != len(found) - 1:
        return None
    condition = split(found[1:-1], ("|", ":"))
    if found[0] == r"\{" and len(condition) == 2 and (is_name(condition[0]) or is_domain(condition[0])):
        return _value(condition[1])  # \{x \mid x > 2\}
    pieces = split(_with_thousands(found[1:-1], in_brackets=True), _COMMAS)
    if not all(pieces) or (len(pieces) < 2 and found[0] != r"\{"):
        return None
    parts = [_value(piece) for piece in pieces]
    if found[0] == r"\{":
        parts = [  # a set within a set stays one
            Ordered(f"{{{part.text}}}", "{}", (part,)) if piece[0] in (r"\{", r"\emptyset") else part
            for part, piece in zip(parts, pieces, strict=True)
        ]
        return _set_of(parts) if len(parts) > 1 else parts[0]
    return Ordered(spaced(found), found[0] + found[-1], tuple(parts))


def _either_sign(found: Tokens) -> Value | None:
    r"""\pm 2 is 2, -2."""
    if found[:1] == (r"\{",) or (r"\pm" not in found and r"\mp" not in found):
        return None
    signs = [{r"\pm": "+", r"\mp": "-"}, {r"\pm": "-", r"\mp": "+"}]
    return Collection(spaced(found), tuple(_value(tuple(of.get(token, token) for token in found)) for of in signs))


# --- numerals with a base, ratios, quantities, expressions, words ---


def _numeral(found: Tokens) -> Value | None:
    r"""52_8 and 52_{\text{eight}} equal only the same digits in the same base, and never a value."""
    if len(found) < 4 or "_" not in found or found[-1] != "}":
        return None
    place = found.index("_")
    digits, base = "".join(found[:place]).strip("()"), _bare("".join(found[place + 2 : -1]).strip("()."))
    base = str(BASES.get(base.lower(), base))
    if not re.fullmatch(r"-?(?=.*\d)[0-9A-F]+(?:\.[0-9A-F]+)?", digits) or not base.isdigit():
        return None
    return Words(f"{digits}_{base}")


def _ratio(found: Tokens) -> Value | None:
    """3:5 and 8:30 are not quotients, and multiples differ: a time of day has the same form."""
    pieces = split(found, (":",))
    if len(pieces) < 2 or not all(pieces) or any(_LETTERS.fullmatch(token) for token in found):
        return None
    parts = tuple(_expression(piece) for piece in pieces)
    clock = "clock" if any(re.fullmatch(r"0\d", piece[0]) for piece in pieces[1:]) else ""
    return Ordered(spaced(found), ":" + clock, parts) if all(isinstance(part, Expression) for part in parts) else None


def _quantity(found: Tokens) -> Value | None:
    """A value without a unit or "million" after it, or a currency before it."""
    if found and _bare(found[0]).lower() in ("rs", "usd"):
        return _value(found[1:])
    for i in range(max(1, len(found) - MAX_UNIT_TOKENS), len(found)):
        starts = found[i].startswith(r"\text{") or _LETTERS.fullmatch(found[i]) or not found[i].isascii()
        if not starts or found[i - 1] in _OPERATORS or (found[i] == "°" and i == len(found) - 1):
            continue
        tail = " ".join(_bare(token) for token in found[i:]).strip("°()[] ")
        tail = re.sub(r"\^ \{ (-? ?\d) \}", lambda power: f"^{{{power[1].replace(' ', '')}}}", tail)
        no_bare_letter = not any(len(token) == 1 and token.isalpha() for token in found[i:])
        factor = factor_of(tail, one_letter=no_bare_letter or "/" in tail or found[i] == "°")
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
    if expressions.TO_BE_CARRIED_OUT & set(found) or _DERIVATIVE.search(text):
        return Computation(text)
    if not found or _is_words(found):
        return _words(found)
    try:
        tree = expressions.tree(found)
    except expressions.Unreadable:
        return Unread(text) if _is_mathematics(found) else _words(found)
    if expressions.is_computation(tree):
        return Computation(text)
    try:
        return Expression(text, algebra.values(tree, expressions.symbols(tree)))
    except expressions.Unreadable:
        return Words(text)  # 1/0, or too large for any reader


def _is_words(found: Tokens) -> bool:
    if len(found) == 1 and _ROMAN.fullmatch(found[0]):
        return True
    return any(
        token.lower() in _SHORT_WORDS
        or (token.startswith(r"\text{") and len(_bare(token)) > 1)
        or (len(token) > 3 and _LETTERS.fullmatch(token))
        or (not token.isascii() and token != "°")
        for token in found
    )


def _is_mathematics(found: Tokens) -> bool:
    """Whether another parser may help: it has commands or operators, and only signs that expressions have."""
    known = any(token[0] == "\\" or token in "+-/^" for token in found)
    return known and not any(token in _NO_EXPRESSION or token.startswith(r"\text{") for token in found)


def _words(found: Tokens) -> Words:
    """Words without case, except single letters; "solutions" are "solution", and p.m. is pm."""
    words = [word for token in found for word in (tokens(token[6:-1]) if token.startswith(r"\text{") else (token,))]
    spelled = " ".join(word if len(word) == 1 else word.casefold() for word in words if word.strip(" .,"))
    return Words(re.sub(r"(?<=[a-z]{3})s\b", "", re.sub(r"\b([ap]) m\b", r"\1m", spelled)))
