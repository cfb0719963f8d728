# SPDX-License-Identifier: Apache-2.0
"""Values of answers, and when two of them are the same.

    same_value(a, b) = one text, or of one kind and
        Expression  equal values at all points (algebra.py); numbers are expressions without variables
        Equation    left − right of one is a constant multiple of the other's (a positive one for an inequality)
        Ordered     equal brackets and equal parts, one by one: tuples, intervals, matrices, ratios, residues
        Collection  equal parts in some order, each as often: lists and sets
        Union, Intersection  equal intervals once they are merged
        Words       equal words, whatever their case; Computation: equal spelling

Each compares properties of single answers, so the relation is symmetric and transitive (to 350 digits where numbers are
not rational).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from co_rewarding.algo.equivalence.algebra import DIGITS, MP, PRECISION, UNDEFINED, as_real

MAX_PARTS = 32
"""Longest list or set whose parts are compared one by one."""
_TOLERANCE, _NOTHING = MP.mpf(10) ** -DIGITS, MP.mpf(10) ** (20 - PRECISION)
INFINITY = "∞"
INTERVALS = ("()", "[)", "(]", "[]")


@dataclass(frozen=True)
class Value:
    text: str  # its spelling, without names, units and typography


@dataclass(frozen=True)
class Words(Value):
    """Compared by its text: words and unreadable answers."""


@dataclass(frozen=True)
class Computation(Value):
    """An open computation: a question and no answer, so it equals only its own spelling."""


@dataclass(frozen=True)
class Unread(Value):
    """An expression without a value here: the worker's parser may have one."""


@dataclass(frozen=True)
class Expression(Value):
    values: tuple[Any, ...]  # at each point, see algebra.Value


@dataclass(frozen=True)
class Equation(Value):
    operator: str  # "=", "<" (left < right) or r"\le"
    ratios: tuple[Any, ...]  # left − right at each point, over the first of them that is not 0


@dataclass(frozen=True)
class Ordered(Value):
    brackets: str  # "()", "[)", …, "matrix 2", ":", "mod"
    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Collection(Value):
    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Union(Value):
    parts: tuple[Value, ...]  # intervals and collections of points
    without: tuple[Value, ...] = ()  # points that are left out


@dataclass(frozen=True)
class Intersection(Value):
    parts: tuple[Value, ...]  # intervals and unions


ABOVE_ALL, BELOW_ALL = Words(INFINITY), Words("-" + INFINITY)
REAL_LINE = Ordered("ℝ", "()", (BELOW_ALL, ABOVE_ALL))
Parted = Ordered | Collection | Union | Intersection


def number(value: Value) -> Fraction | None:
    """The exact number of an answer, if it is one."""
    first = value.values[0] if isinstance(value, Expression) else None
    return first if isinstance(first, Fraction) and all(other == first for other in value.values) else None


def same_value(a: Value, b: Value) -> bool:
    if a.text == b.text:
        return True
    if isinstance(a, Ordered | Union | Intersection) and isinstance(b, Ordered | Union | Intersection):
        intervals = [_intervals(value) for value in (a, b)]
        if None not in intervals:
            return _same_intervals(*intervals)
    if type(a) is not type(b):
        return False
    match a, b:
        case Expression(), Expression():
            return _same_numbers(a.values, b.values)
        case Equation(), Equation():
            return a.operator == b.operator and _same_numbers(a.ratios, b.ratios)
        case Ordered(), Ordered():
            return a.brackets == b.brackets and len(a.parts) == len(b.parts) and all(map(same_value, a.parts, b.parts))
        case (Collection(), Collection()) | (Intersection(), Intersection()):
            return _same_in_some_order(a.parts, b.parts)
        case Union(), Union():  # of sets with names
            return _same_in_some_order(a.parts, b.parts) and _same_in_some_order(a.without, b.without)
    return False


def _same_in_some_order(a: Sequence[Value], b: Sequence[Value]) -> bool:
    if len(a) != len(b) or len(a) > MAX_PARTS:
        return False
    left = list(b)
    for part in a:
        found = next((i for i, other in enumerate(left) if same_value(part, other)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_numbers(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return all(x is None or y is None or same_number(x, y) for x, y in zip(a, b, strict=True))


def same_number(x: Any, y: Any) -> bool:
    """Exact where both are rational, else to DIGITS digits."""
    if UNDEFINED in (x, y):
        return x == y
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    x, y = as_real(x), as_real(y)
    size = max(abs(x), abs(y))
    # what should be 0 is as small as the precision leaves it
    return abs(x - y) <= size * _TOLERANCE or size < _NOTHING


Interval = tuple[Any, bool, Any, bool]  # from, whether it belongs to it, to, whether that belongs to it


def _intervals(value: Value) -> list[Interval] | None:
    """The merged intervals of a value; None if it has none, or ends that are no real numbers."""
    match value:
        case Ordered(brackets=brackets, parts=(low, high)) if brackets in INTERVALS:
            start, end = _end(low), _end(high)
            if None in (start, end) or start > end:  # the wrong order: coordinates of a point
                return None
            return [(start, brackets[0] == "[", end, brackets[1] == "]")]
        case Expression():
            place = _end(value)
            return None if place is None else [(place, True, place, True)]
        case Union(parts=parts) | Collection(parts=parts) | Intersection(parts=parts):
            found = [_intervals(part) for part in parts]
            if None in found:
                return None
            if isinstance(value, Intersection) and (common := functools.reduce(_common, found)):
                return common  # with an empty intersection, x<1, x>2 meant either
            merged = _merged([interval for intervals in found for interval in intervals])
            for point in value.without if isinstance(value, Union) else ():
                if (place := _end(point)) is None:
                    return None
                merged = _without(merged, place)
            return merged
    return None


def _common(a: list[Interval], b: list[Interval]) -> list[Interval]:
    """Their intersection."""
    common = []
    for low, low_in, high, high_in in a:
        for first, first_in, last, last_in in b:
            start, outside = max((low, not low_in), (first, not first_in))
            end, inside = min((high, high_in), (last, last_in))
            if start < end or (start == end and not outside and inside):
                common.append((start, not outside, end, inside))
    return common


def _end(part: Value) -> Any:
    """The real number or infinity of an end; None for anything else."""
    if part.text in (INFINITY, "-" + INFINITY):
        return MP.inf if part.text == INFINITY else -MP.inf
    return real_number(part)


def real_number(value: Value) -> Any:
    """The one real number of an answer; None if it is none, or unknown at the first point."""
    first = value.values[0] if isinstance(value, Expression) else None
    if first is None or isinstance(first, MP.mpc):
        return None
    return as_real(first) if all(v is None or same_number(first, v) for v in value.values) else None


def _merged(intervals: list[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for low, low_in, high, high_in in sorted(intervals, key=lambda interval: (interval[0], not interval[1])):
        if merged:
            first, first_in, last, last_in = merged[-1]
            if low < last or (same_number(low, last) and (low_in or last_in)):
                if high > last or (high == last and high_in):
                    last, last_in = high, high_in
                merged[-1] = (first, first_in, last, last_in)
                continue
        merged.append((low, low_in, high, high_in))
    return merged


def _without(intervals: list[Interval], place: Any) -> list[Interval]:
    left: list[Interval] = []
    for low, low_in, high, high_in in intervals:
        if low <= place <= high:
            left += [(low, low_in, place, False), (place, False, high, high_in)]
        else:
            left.append((low, low_in, high, high_in))
    return [interval for interval in left if interval[0] < interval[2] or (interval[1] and interval[3])]


def _same_intervals(a: list[Interval], b: list[Interval]) -> bool:
    return len(a) == len(b) and all(
        x[1] == y[1] and x[3] == y[3] and _same_end(x[0], y[0]) and _same_end(x[2], y[2])
        for x, y in zip(a, b, strict=True)
    )


def _same_end(x: Any, y: Any) -> bool:
    return x == y or (MP.isfinite(x) and MP.isfinite(y) and same_number(x, y))


def replaced(value: Value, reading: Callable[[Unread], Value]) -> Value:
    """The value with its unread parts read."""
    if isinstance(value, Unread):
        return reading(value)
    if isinstance(value, Parted):
        return dataclasses.replace(value, parts=tuple(replaced(part, reading) for part in value.parts))
    return value


def unread(value: Value) -> list[Unread]:
    """Its unread parts."""
    if isinstance(value, Unread):
        return [value]
    parts = value.parts if isinstance(value, Parted) else ()
    return [leaf for part in parts for leaf in unread(part)]
