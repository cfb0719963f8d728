# SPDX-License-Identifier: Apache-2.0
r"""The value of an expression: its numbers at some points.

    values(tree, names) = (exact Fraction where every step is rational, else 400 digits) at each of POINTS points

Two expressions are the same if they have the same values at all points, at which each variable has a number that
depends on its name alone. Rational functions are compared exactly (two that differ agree at a point with a chance of
about degree in 1,000, Schwartz-Zippel), others to DIGITS digits. The values belong to one answer, not to a pair, so
that the relation is as symmetric and transitive as equality of numbers, and each answer is read once. A number too
large to be exact has no value and equals only its own spelling.

At positive points complex values are compared as well; at points with negative variables, non-real or undefined values
equal only their like: ln|x| is not ln x. Expressions of several variables with roots or logarithms are compared only at
positive points, √(a²b) = a√b, since such variables are lengths and the like. n, m, k and j are whole numbers
everywhere.

All computations are bounded: exact numbers by MAX_BITS, others by their precision, powers and factorials by their size.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import mpmath

from co_rewarding.algo.equivalence.expressions import CONSTANTS, INVERSES, Tree, Unreadable, has_factorials, has_roots

Value = Any  # Fraction, or MP.mpf or MP.mpc; UNDEFINED; None: nothing is said at this point
Exact = Fraction
UNDEFINED = "undefined"
MAX_BITS = 40_000
"""Largest numerator or denominator that is computed exactly; beyond it, at a point of variables, in 400 digits."""
MAX_EXPONENT_BITS = 1e7  # of a power's size; beyond it a power has no value here
MAX_EXACT_FACTORIAL = 3_000
PRECISION, DIGITS = 400, 350
MP = mpmath.MPContext()  # private: its precision does not change with other users of mpmath
MP.dps = PRECISION
_LOCK = threading.Lock()  # mpmath's functions change their context's precision while they run
_SPANS = ((2, 10, 1), (10, 600, 1), (100, 2000, 1), (3, 90, -1), (100, 3000, 0), (5, 500, 0))
"""From, to (in tenths) and sign of the variables' values at each point; sign 0: of each variable its own."""
POINTS = len(_SPANS)
NUM_POSITIVE_POINTS = 3
_WHOLE_NUMBERS = "nmkj"
_POLE = 1e60  # tan 90° comes out as large as the precision allows
_CONSTANTS = dict(zip(CONSTANTS, (MP.e, MP.j, MP.pi), strict=True))
_CALLS = {name: getattr(MP, name) for name in ("exp", "ln", *INVERSES, "coth", "sech", "csch")}
_CALLS |= {inverse: getattr(MP, f"a{name}") for name, inverse in INVERSES.items()}


def point(names: frozenset[str], number: int) -> dict[str, Fraction]:
    """A value for each variable, of the name's own."""
    return {name: _coordinate(name, number) for name in names}


def _coordinate(name: str, number: int) -> Fraction:
    low, high, sign = _SPANS[number]
    share = Fraction(zlib.crc32(f"{number}{name}".encode()) % 1009, 1009)
    size = (low + share * (high - low)) / 10
    if name[0] in _WHOLE_NUMBERS or number == NUM_POSITIVE_POINTS - 1:  # one point of whole numbers alone
        size = Fraction(2 + int(7 * share)) if number == 0 else Fraction(math.ceil(size))
    if sign == 0:  # neighbours in the alphabet differ at one of the two, others at the other
        sign = -1 if (ord(name[-1]) >> (number - POINTS + 2)) % 2 == 0 else 1
    return sign * size


def values(found: Tree, names: frozenset[str]) -> tuple[Value, ...]:
    """At all points.

    Raises:
        Unreadable: no values at the positive points, or none computable in bounded time.
    """
    positive_only = has_factorials(found) or (len(names) > 1 and has_roots(found))
    return at_points(lambda at: value(found, at), names, positive_only)


def at_points(
    evaluate: Callable[[Mapping[str, Fraction]], Value], names: frozenset[str], positive_only: bool
) -> tuple[Value, ...]:
    """`values` for anything that can be evaluated, not only trees."""
    if not names:
        return (evaluate({}),) * POINTS
    found: list[Value] = []
    for number in range(POINTS):
        if number >= NUM_POSITIVE_POINTS and positive_only:
            found.append(None)
            continue
        try:
            number_there = evaluate(point(names, number))
        except Unreadable:
            number_there = None if number < NUM_POSITIVE_POINTS else UNDEFINED
        is_real = not isinstance(number_there, MP.mpc)
        found.append(number_there if is_real or number < NUM_POSITIVE_POINTS else UNDEFINED)
    if found[:NUM_POSITIVE_POINTS] == [None] * NUM_POSITIVE_POINTS:
        raise Unreadable("undefined")
    return tuple(found)


def value(found: Tree, at: Mapping[str, Fraction]) -> Any:
    """A Fraction, or a number of 400 digits.

    Raises:
        Unreadable: there is none, or none computable in bounded time.
    """
    try:
        with _LOCK:
            return _real(_bounded(_value(found, at), exactly=not at))
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise Unreadable(str(error)) from None


def _value(found: Tree, at: Mapping[str, Fraction]) -> Any:
    operation, *arguments = found
    if operation == "number":
        return arguments[0]
    if operation == "symbol":
        constant = _CONSTANTS.get(arguments[0])
        return at[arguments[0]] if constant is None else +constant
    if operation == "call":
        return _call(arguments[0], _value(arguments[1], at))
    values = [_value(argument, at) for argument in arguments]
    exactly = not at  # a number: 10^{20000}+1 must not be 10^{20000}
    match operation:
        case "+":
            return _fold(lambda a, b: _bounded(a + b, exactly), values)
        case "*":
            return _fold(lambda a, b: _bounded(a * b, exactly), values)
        case "-":
            return -values[0]
        case "/":
            return _fold(lambda a, b: _bounded(a / b, exactly), values)
        case "^":
            return _bounded(_power(*values, exactly), exactly)
        case "abs":
            return abs(values[0])
        case "floor" | "ceil":
            return _bounded(_rounded(operation, values[0]), exactly)
        case "!":
            return _bounded(_factorial(values[0]), exactly)
        case "binom":
            return _bounded(_binomial(*values), exactly)
    raise Unreadable(operation)


def _fold(operation: Any, values: Sequence[Any]) -> Any:
    result = values[0]
    for other in values[1:]:
        if isinstance(result, Exact) != isinstance(other, Exact):
            result, other = as_real(result), as_real(other)
        result = operation(result, other)
    return result


def _real(number: Value) -> Value:
    """Drop an imaginary part that is only rounding."""
    if isinstance(number, MP.mpc) and abs(number.imag) <= abs(number.real) * MP.mpf(10) ** -DIGITS:
        return number.real
    return number


def quotient(a: Any, b: Any) -> Any:
    """a / b, exact where both are."""
    if a == UNDEFINED:
        return a
    return _fold(lambda x, y: x / y, [a, b])


def as_real(number: Value) -> Value:
    """A Fraction as a number of MP; others as they are."""
    return MP.mpf(number.numerator) / number.denominator if isinstance(number, Exact) else number


def _bounded(number: Any, exactly: bool) -> Any:
    if isinstance(number, Exact):
        bits = max(number.numerator.bit_length(), number.denominator.bit_length())
        if bits > MAX_BITS and exactly:
            raise Unreadable("too large")
        return as_real(number) if bits > MAX_BITS else number
    if not MP.isfinite(number):
        raise Unreadable("no finite value")
    return number


def _power(base: Any, exponent: Any, exactly: bool) -> Any:
    if isinstance(exponent, Exact) and isinstance(base, Exact):
        size = max(base.numerator.bit_length(), base.denominator.bit_length(), 1)
        if exponent.denominator == 1 and (abs(exponent) * size <= MAX_BITS or base in (-1, 0, 1)):
            return base ** int(exponent)
        if exponent.denominator == 1 and exactly:
            raise Unreadable("too large")
        if exponent.denominator <= 64 and base >= 0 and abs(exponent.numerator) * size <= MAX_BITS:
            roots = [_root(number, exponent.denominator) for number in (base.numerator, base.denominator)]
            if None not in roots:
                return Fraction(*roots) ** exponent.numerator
        if base < 0 and exponent.denominator > 1 and exponent.denominator % 2:  # the real root, as usually meant
            return (-1) ** (exponent.numerator % 2) * _power(-base, exponent, exactly)
    base, exponent = as_real(base), as_real(exponent)
    if base == 0:
        if MP.re(exponent) <= 0:
            raise Unreadable("0 to a power that is not positive")
        return base
    if abs(exponent) * max(1, abs(MP.log(abs(base), 2))) > MAX_EXPONENT_BITS:
        raise Unreadable("too large")
    return MP.power(base, exponent)


def _root(number: int, degree: int) -> int | None:
    """The whole number whose power it is."""
    if degree == 2:
        root = math.isqrt(number)
    elif number.bit_length() > 2000:
        return None
    else:
        root = int(MP.nint(MP.root(number, degree)))
    return root if root**degree == number else None


def _rounded(way: str, number: Any) -> Any:
    if isinstance(number, Exact):
        return Fraction(math.floor(number) if way == "floor" else math.ceil(number))
    return Fraction(int((MP.floor if way == "floor" else MP.ceil)(number)))


def _factorial(number: Any) -> Any:
    if isinstance(number, Exact) and number.denominator == 1:
        if number < 0:
            raise Unreadable("factorial of a negative number")
        if number <= MAX_EXACT_FACTORIAL:
            return Fraction(math.factorial(int(number)))
    if isinstance(number, MP.mpc) or abs(number) > MAX_EXACT_FACTORIAL:
        raise Unreadable("too large, or not real")
    return MP.factorial(as_real(number))


def _binomial(top: Any, bottom: Any) -> Any:
    whole = all(isinstance(number, Exact) and number.denominator == 1 for number in (top, bottom))
    if whole and 0 <= bottom <= top <= MAX_EXACT_FACTORIAL:
        return Fraction(math.comb(int(top), int(bottom)))
    if max(abs(top), abs(bottom)) > MAX_EXACT_FACTORIAL:
        raise Unreadable("too large")
    return MP.binomial(as_real(top), as_real(bottom))


def _call(name: str, argument: Any) -> Any:
    if name == "ln" and argument == 1:
        return Fraction(0)
    argument = as_real(argument)
    if abs(argument) > MAX_EXPONENT_BITS and name != "ln":
        raise Unreadable("too large")
    result = _bounded(_CALLS[name](argument), exactly=False)
    if name in ("tan", "cot", "sec", "csc") and abs(result) > _POLE:
        raise Unreadable("a pole")
    return result
