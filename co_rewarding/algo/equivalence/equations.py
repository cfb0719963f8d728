# SPDX-License-Identifier: Apache-2.0
r"""Answers with a relation in them: names in front, equations, inequalities.

    x = 5, \text{Area} = 5, f^{-1}(x) = 5 and 5 = x are 5; x < 3 is (-∞, 3); y = 2x + 1 and 2x - y + 1 = 0 are 2x + 1

An equation is left − right up to a factor; one of x and y that is linear in y is its y, so all forms of a line are one
answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from co_rewarding.algo.equivalence import algebra, expressions
from co_rewarding.algo.equivalence.brackets import Tokens, outside, split
from co_rewarding.algo.equivalence.spelling import GREEK, spaced
from co_rewarding.algo.equivalence.values import (
    ABOVE_ALL,
    BELOW_ALL,
    REAL_LINE,
    Collection,
    Equation,
    Expression,
    Ordered,
    Union,
    Value,
    real_number,
)

ReadPart = Callable[[Tokens], Value]
EQUALS = ("=", r"\approx")
RELATIONS = (*EQUALS, "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\equiv")
_MIRRORED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_WRAPPER = r"(?:\\(?:angle|triangle|overline|vec|bar|hat|widehat|tilde|overrightarrow|measuredangle)|m(?=\\angle))"
_NAME = re.compile(
    rf"(?:\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{{2\}})?)?{_WRAPPER}*"
    rf"\{{?(?:[A-Za-z]|[A-Z]{{2,4}}|\\text\{{[^{{}}]*\}}|\\(?:{'|'.join(sorted(GREEK))}))\}}?"
    r"(?:_\{[^{}]*\}|'|\^\{-1\}|°)*"
    r"(?:[(\[](?:[A-Za-z0-9+,|'=<> -]|\\cup|\\cap|\\theta|\\[lg]e){1,12}[)\]])?(?:\\text\{[^{}]*\})?"
    rf"|\|(?:[A-Z]{{2}}|{_WRAPPER}\{{?[A-Za-z]{{1,2}}\}}?)\||\[[A-Z]{{3,}}\]|\\frac\{{[A-Z]{{2}}\}}\{{[A-Z]{{2}}\}}"
    r"|\\frac\{d[A-Za-z]?\}\{d[A-Za-z]\}|[A-Za-z]{1,2}(?::[A-Za-z]{1,2})+"
)


def is_name(side: Tokens) -> bool:
    r"""x, AB, |AB|, a_n, \theta, \angle ABC, f^{-1}(x), P(A \cup B), \text{Area}, and nothing at all."""
    return not side or _NAME.fullmatch(spaced(side).replace(" ", "")) is not None


def name_of(piece: Tokens) -> str | None:
    """The name that an equality or inequality is about, if it is alone on its side."""
    sides = split(piece, RELATIONS)
    named = [side for side in (sides if len(sides) < 3 else sides[1:2]) if side and is_name(side)]
    return spaced(named[0]) if len(sides) > 1 and named else None


def is_inequality(piece: Tokens) -> bool:
    return any(token in RELATIONS and token not in EQUALS for token in outside(piece))


def is_domain(piece: Tokens) -> bool:
    r"""k \in \mathbb{Z} beside an answer."""
    return r"\in" in piece and piece[piece.index(r"\in") + 1 :][:1] == (r"\mathbb",)


def relation(found: Tokens, read: ReadPart) -> Value | None:
    """None without a relation of a known kind."""
    sides = split(found, RELATIONS)
    signs = [token for token in outside(found) if token in RELATIONS]
    if len(sides) == 1:
        return None
    if signs == [r"\in"]:
        return read(sides[1]) if is_name(sides[0]) else None
    if set(signs) <= set(EQUALS):
        return _equality(found, sides, read)
    if len(sides) == 2:
        return _inequality(found, sides[0], signs[0], sides[1], read)
    if len(sides) == 3 and is_name(sides[1]):
        return _between(found, sides, signs, read)
    return None


def _equality(found: Tokens, sides: list[Tokens], read: ReadPart) -> Value | None:
    *left, last = sides
    letters = {letter for side in sides for token in side if token.isalpha() for letter in token}
    if len(sides) == 2 and ("x",) in sides and "y" in letters and (line := _equation(found, sides[0], "=", last)):
        return line  # x = 2y, which is y = x/2
    names_itself = len(sides[0]) == 1 and sides[0][0] in last  # a = a^2
    if last and all(is_name(side) and side != last for side in left) and not names_itself:
        return read(last)
    if len(sides) == 2:
        if is_name(last) and last and not is_name(sides[0]):
            return read(sides[0])
        if names := _names_in_order(sides[0]):
            values = read(last)
            if isinstance(values, Ordered) and len(values.parts) == len(names):
                return in_order_of_names(dict(zip(names, values.parts, strict=True)))
        if equation := _equation(found, sides[0], "=", last):
            return equation
    # only chains of values remain: x = 1/2 = 0.5 states the last, 2/3 ≈ 0.67 the first
    if last and not any(token.isalpha() for side in sides[is_name(sides[0]) :] for token in side):
        return read(sides[0] if r"\approx" in found and sides[0] else last)
    return None


def _names_in_order(side: Tokens) -> list[str]:
    """x and y of (x, y) = (1, 2)."""
    names = split(side[1:-1], (",", ", ", ";")) if side[:1] == ("(",) and side[-1:] == (")",) else []
    return [spaced(name) for name in names] if len(names) > 1 and all(name and is_name(name) for name in names) else []


def in_order_of_names(values: dict[str, Value]) -> Ordered:
    """x = 1, y = 2 is the point (1, 2), in either order."""
    parts = tuple(value for _, value in sorted(values.items()))
    return Ordered("(" + ", ".join(part.text for part in parts) + ")", "()", parts)


def _between(found: Tokens, sides: list[Tokens], signs: list[str], read: ReadPart) -> Value | None:
    """-1 < x <= 3"""
    if not set(signs) <= {"<", r"\le"}:
        if not set(signs) <= {">", r"\ge"}:
            return None
        sides, signs = sides[::-1], [_MIRRORED[sign] for sign in reversed(signs)]
    brackets = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return Ordered(spaced(found), brackets, (read(sides[0]), read(sides[2])))


def _inequality(found: Tokens, left: Tokens, sign: str, right: Tokens, read: ReadPart) -> Value | None:
    if is_name(right) and not is_name(left):
        left, sign, right = right, _MIRRORED.get(sign, sign), left
    bound = read(right)
    text = sign + bound.text
    if is_name(left) and real_number(bound) is not None:
        match sign:
            case "<" | r"\le":
                return Ordered(text, "()" if sign == "<" else "(]", (BELOW_ALL, bound))
            case ">" | r"\ge":
                return Ordered(text, "()" if sign == ">" else "[)", (bound, ABOVE_ALL))
            case r"\ne":
                return Union(text, (REAL_LINE,), (bound,))
    if sign == r"\ne" and is_name(left) and isinstance(bound, Collection):  # x \ne \pm 1
        return Union(text, (REAL_LINE,), bound.parts)
    if sign in (">", r"\ge"):
        left, sign, right = right, _MIRRORED[sign], left
    return _equation(found, left, sign, right) if sign in _MIRRORED else None


def _equation(found: Tokens, left: Tokens, operator: str, right: Tokens) -> Value | None:
    try:
        difference = ("+", expressions.tree(left), ("-", expressions.tree(right)))
        names = expressions.symbols(difference)
        if operator == "=" and names == {"x", "y"} and (solved := _solved_for_y(difference)):
            return Expression(spaced(found), solved)
        values = algebra.values(difference, names)
        if operator != "=" and len(names) == 1 and (solved := _solved_inequality(found, operator, names, values)):
            return solved
    except expressions.Unreadable:
        return None
    scale = next((value for value in values if value and value != algebra.UNDEFINED), None)
    if not names or scale is None or (operator != "=" and isinstance(scale, algebra.MP.mpc)):
        return None
    scale = scale if operator == "=" else abs(scale)
    ratios = tuple(None if value is None else algebra.quotient(value, scale) for value in values)
    return Equation(spaced(found), operator, ratios)


def _solved_inequality(
    found: Tokens, operator: str, names: frozenset[str], values: tuple[algebra.Value, ...]
) -> Value | None:
    """The interval of a x + b < 0, if the values are on a line."""
    if not all(isinstance(value, algebra.Exact) for value in values):
        return None
    xs = [next(iter(algebra.point(names, i).values())) for i in range(algebra.POINTS)]
    slopes = {(values[i] - values[0]) / (xs[i] - xs[0]) for i in range(1, algebra.POINTS)}
    if len(slopes) != 1 or 0 in slopes:
        return None
    slope = slopes.pop()
    bound = xs[0] - values[0] / slope
    end, closed = Expression(str(bound), (bound,) * algebra.POINTS), operator != "<"
    if slope > 0:
        return Ordered(spaced(found), "(]" if closed else "()", (BELOW_ALL, end))
    return Ordered(spaced(found), "[)" if closed else "()", (end, ABOVE_ALL))


def _solved_for_y(difference: expressions.Tree) -> tuple[algebra.Value, ...] | None:
    """y at each point of x, where left − right is a y + b: its values at y = 0, 1 and 2 are on a line."""
    solved = []
    for i in range(algebra.POINTS):
        x = algebra.point(frozenset("x"), i)["x"]
        at = [algebra.value(difference, {"x": x, "y": algebra.Exact(y)}) for y in range(3)]
        if not all(isinstance(v, algebra.Exact) for v in at) or at[2] - at[1] != at[1] - at[0] or at[1] == at[0]:
            return None
        solved.append(-at[0] / (at[1] - at[0]))
    return tuple(solved)
