# SPDX-License-Identifier: Apache-2.0
r"""Numbers, closed forms and expressions: the tree of an expression, and its values.

    tree(("2", "\\cdot", "x", …)) = ("*", ("number", 2), ("symbol", "x")) …
    value(tree, point): an exact Fraction where every step is rational, else 80 digits

Two expressions are one if they have the same values at POINTS, at which each variable has a number that depends on its
name alone. Rational functions are compared exactly (two that differ agree at a point with a chance of about degree in
1,000, Schwartz-Zippel), others to DIGITS digits. The values belong to one answer, not to a pair, so that the relation
is as symmetric and transitive as equality of numbers, and each answer is read once.

Decisions: e and i are the constants, log without a base is the decimal one, 2e5 is 2·10⁵, 1\frac{1}{2} and 2 2/3 are
mixed numbers, a/bc is (a/b)c, degrees count inside functions and nowhere else, and A' is another variable than A.

Everything here is bounded: trees by the length of the answer, exact numbers by MAX_BITS, others by mpmath's precision.
What has no value here (an unknown command, 1/0, 9^{9^{9^9}}) raises Unreadable.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import mpmath

from co_rewarding.algo.equivalence.spelling import FUNCTIONS, GREEK

Value = Any  # Fraction, or mpmath's mpf or mpc
Tree = tuple  # (operation, argument, …): arguments are trees, but for ("number", Fraction) and ("symbol", name)
Exact = Fraction
MAX_BITS = 4_096
"""Largest numerator or denominator that is computed exactly; beyond it, in 80 digits."""
MAX_EXPONENT_BITS = 1e7  # of a power's size; beyond it a power has no value here
MAX_FACTORIAL = 10_000
PRECISION, DIGITS = 80, 50
POINTS = 4
"""Points at which variables are set; at the last one they are negative, and only what is real there is compared."""
_CONSTANTS = {"e": mpmath.e, "i": mpmath.j, r"\pi": mpmath.pi}
_INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")}
_CALLS = {name: getattr(mpmath, name) for name in ("exp", "ln", *_INVERSES, "coth", "sech", "csch")}
_CALLS |= {inverse: getattr(mpmath, f"a{name}") for name, inverse in _INVERSES.items()}
_TO_BE_CARRIED_OUT = {"gcd", "lcm", "max", "min", "det"}


class Unreadable(ValueError):
    """Not an expression that has a value here."""


def tree(tokens: Sequence[str]) -> Tree:
    """
    Raises:
        Unreadable: no expression, or one of a kind that is not known here.
    """
    reading = _Reading(list(tokens))
    found = reading.sum()
    if reading.next is not None:
        raise Unreadable(f"{reading.next} in the wrong place")
    return found


class _Reading:
    """A parser by recursive descent, one method for each level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0
        self._open_bars = self._open_functions = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.next
        if token is None or (expected is not None and token != expected):
            raise Unreadable(f"{expected or 'more'} expected, {token or 'the end'} found")
        self._at += 1
        return token

    def put_back(self, *tokens: str) -> None:
        self._tokens[self._at : self._at] = [token for token in tokens if token]

    def sum(self) -> Tree:
        terms = [self.term()]
        while self.next in ("+", "-"):
            sign = self.take()
            terms.append(_negated(self.term()) if sign == "-" else self.term())
        return terms[0] if len(terms) == 1 else ("+", *terms)

    def term(self) -> Tree:
        if self.next in ("+", "-"):
            return _negated(self.term()) if self.take() == "-" else self.term()
        found = self.factor()
        while True:
            if self.next == r"\cdot":
                self.take()
                found = _product(found, self.signed_factor())
            elif self.next == "/":
                self.take()
                found = ("/", found, self.signed_factor())
            elif self._starts_factor():
                found = _product(found, self.factor())
            else:
                return found

    def signed_factor(self) -> Tree:
        if self.next in ("+", "-"):
            return _negated(self.signed_factor()) if self.take() == "-" else self.signed_factor()
        return self.factor()

    def _starts_factor(self) -> bool:
        token = self.next
        if token is None or token in (")", "]", "}", r"\}", "+", "-", r"\cdot", "/", "^", "_", "!", "°", "'", ","):
            return False
        if token == "|":
            return self._open_bars == 0
        if token[0].isdigit() or token[0] == ".":
            # 2 3 is no product
            return not (self._at and (self._tokens[self._at - 1][-1].isdigit()))
        return token not in (r"\rfloor", r"\rceil")

    def factor(self) -> Tree:
        found = self.base()
        while self.next in ("^", "!", "°"):
            token = self.take()
            if token == "^":
                found = ("^", found, self.braced())
            elif token == "!":
                found = ("!", found)
            elif self._open_functions:  # elsewhere a degree sign is a unit
                found = ("*", found, ("/", ("symbol", r"\pi"), ("number", Fraction(180))))
        return found

    def base(self) -> Tree:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return self._mixed(("number", _numeral(token)))
        if token in ("(", "["):
            found = self.sum()
            if self.take() not in (")", "]"):
                raise Unreadable("bracket")
            return found
        if token == "{":
            found = self.sum()
            self.take("}")
            return found
        if token == "|":
            self._open_bars += 1
            found = self.sum()
            self.take("|")
            self._open_bars -= 1
            return ("abs", found)
        if token in (r"\lfloor", r"\lceil"):
            found = self.sum()
            self.take(token.replace("l", "r", 1) if token == r"\lceil" else r"\rfloor")
            return (token[2:], found)
        if token == r"\frac":
            return ("/", self.braced(), self.braced())
        if token == r"\binom":
            return ("binom", self.braced(), self.braced())
        if token == r"\sqrt":
            root = self._index() if self.next == "[" else ("number", Fraction(2))
            return ("^", self.braced(), ("/", ("number", Fraction(1)), root))
        if token[0] == "\\" and token[1:] in FUNCTIONS:
            return self._function(token[1:])
        return self._symbol(token)

    def braced(self) -> Tree:
        self.take("{")
        found = self.sum()
        self.take("}")
        return found

    def _index(self) -> Tree:
        self.take("[")
        found = self.sum()
        self.take("]")
        return found

    def _mixed(self, whole: Tree) -> Tree:
        r"""1\frac{1}{2} and 1 1/2 are sums."""
        if whole[1].denominator != 1:
            return whole
        match self._tokens[self._at : self._at + 7]:
            case [r"\frac", "{", top, "}", "{", bottom, "}"] if top.isdigit() and bottom.isdigit() and int(bottom):
                self._at += 7
                return ("number", whole[1] + Fraction(int(top), int(bottom)))
        match self._tokens[self._at : self._at + 3]:
            case [top, "/", bottom] if top.isdigit() and bottom.isdigit() and int(bottom):
                self._at += 3
                return ("number", whole[1] + Fraction(int(top), int(bottom)))
        return whole

    def _function(self, name: str) -> Tree:
        if name in _TO_BE_CARRIED_OUT:
            raise Unreadable(name)
        base = power = None
        if name == "log" and self.next == "_":
            self.take()
            base = self.braced()
        if self.next == "^":
            self.take()
            power = self.braced()
        if power == ("number", Fraction(-1)) and name in _INVERSES:
            name, power = _INVERSES[name], None
        found: Tree = ("call", name, self._function_argument())
        if name in ("log", "lg"):
            found = ("/", ("call", "ln", found[2]), ("call", "ln", base or ("number", Fraction(10))))
        return found if power is None else ("^", found, power)

    def _function_argument(self) -> Tree:
        r"""What is in brackets; without any, the factors that follow: \sin 2x is sin(2x), \sin x \cos y a product."""
        self._open_functions += 1
        if self.next in ("(", "["):
            found = self.base()
        else:
            found = self.signed_factor()
            while (
                self._starts_factor() and not (self.next[0] == "\\" and self.next[1:] in FUNCTIONS) and self.next != "("
            ):
                found = _product(found, self.factor())
        self._open_functions -= 1
        return found

    def _symbol(self, token: str) -> Tree:
        if token.startswith(r"\text{"):
            token = token[6:-1]
            if len(token) != 1 or not token.isalpha():
                raise Unreadable(token)
        if token.isalpha() and token.isascii():
            self.put_back(token[1:])
            name = token[0]
        elif token[0] == "\\" and (token[1:] in GREEK or token == r"\pi"):
            name = token
        elif token in (r"\bar", r"\hat", r"\vec", r"\tilde", r"\overline", r"\widehat", r"\overrightarrow", r"\dot"):
            name = token + "".join(self._group())
        else:
            raise Unreadable(token)
        if self.next == "_":
            self.take()
            name += "_" + "".join(self._group())
        while self.next == "'":
            name += self.take()
        if name[0] in "fgh" and self.next == "(":  # f(2x) is no product
            name += "".join(self._brackets("(", ")"))
        return ("symbol", name)

    def _group(self) -> list[str]:
        return self._brackets("{", "}")[1:-1] if self.next == "{" else [self.take()]

    def _brackets(self, opening: str, closing: str) -> list[str]:
        inner = [self.take(opening)]
        while self.next != closing:
            inner += self._brackets(opening, closing) if self.next == opening else [self.take()]
        return [*inner, self.take()]


def _negated(found: Tree) -> Tree:
    return ("number", -found[1]) if found[0] == "number" else ("-", found)


def _product(one: Tree, other: Tree) -> Tree:
    return ("*", *(one[1:] if one[0] == "*" else (one,)), other)


def _numeral(token: str) -> Fraction:
    r"""12, 1.5, .5, 2e5, 0.1\overline{6}, 0.\dot3 and 0.(3)."""
    for start in (r"\overline", r"\dot", "("):
        if start in token:
            head, repeated = token.split(start)
            repeated = repeated.strip(" {}()")
            digits = len(head.partition(".")[2])
            return Fraction(head + "0" if head.endswith(".") else head) + Fraction(
                int(repeated), (10 ** len(repeated) - 1) * 10**digits
            )
    if "e" in token.lower() and len(token.lower().partition("e")[2]) > 5:
        raise Unreadable(token)
    try:
        return Fraction(token.rstrip("."))
    except ValueError:
        raise Unreadable(token) from None


def is_computation(found: Tree) -> bool:
    """Whether numbers are still to be added, subtracted, multiplied or divided: 58+23, but neither 1+√2 nor 3/4."""
    operation, *arguments = found
    if operation in ("number", "symbol"):
        return False
    if operation in ("+", "*") and sum(map(_is_numeral, arguments)) > 1:
        return True
    if operation == "/" and all(map(_is_numeral, arguments)) and not all(a[0] == "number" for a in arguments):
        return True
    return any(is_computation(argument) for argument in arguments if isinstance(argument, tuple))


def _is_numeral(found: Tree) -> bool:
    return (
        found[0] == "number"
        or (found[0] == "-" and _is_numeral(found[1]))
        or (found[0] == "/" and all(map(_is_numeral, found[1:])))
    )


def symbols(found: Tree) -> frozenset[str]:
    """The names of the variables."""
    if found[0] == "symbol":
        return frozenset() if found[1] in _CONSTANTS else frozenset([found[1]])
    return frozenset().union(*(symbols(argument) for argument in found[1:] if isinstance(argument, tuple)))


def point(names: frozenset[str], number: int) -> dict[str, Fraction]:
    """A value for each variable: below 1, about 2, between 3 and 4, and below -4 at the last."""
    sign = -1 if number == POINTS - 1 else 1
    return {
        name: sign * Fraction(211 + 1500 * number + zlib.crc32(f"{number}{name}".encode()) % 780, 1009)
        for name in names
    }


def values(found: Tree, names: frozenset[str]) -> tuple[Value | None, ...]:
    """At all points; at the last, where variables are negative, only what is real, and only of one variable.

    Raises:
        Unreadable: see `value`.
    """
    if not names:
        return (value(found, {}),) * POINTS
    *first, last = (point(names, i) for i in range(POINTS))
    at_first = [value(found, at) for at in first]
    try:
        at_last = value(found, last) if len(names) == 1 else None
    except Unreadable:
        at_last = None
    return (*at_first, None if isinstance(at_last, mpmath.mpc) else at_last)


def value(found: Tree, at: Mapping[str, Fraction]) -> Any:
    """A Fraction, or an mpmath number of 80 digits.

    Raises:
        Unreadable: there is none, or none that can be computed in bounded time.
    """
    try:
        with mpmath.workdps(PRECISION):
            return _bounded(_value(found, at))
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
    match operation:
        case "+":
            return _bounded(_fold(lambda a, b: a + b, values))
        case "*":
            return _bounded(_fold(lambda a, b: a * b, values))
        case "-":
            return -values[0]
        case "/":
            return _bounded(_fold(lambda a, b: a / b, values))
        case "^":
            return _bounded(_power(*values))
        case "abs":
            return abs(values[0])
        case "floor" | "ceil":
            return _rounded(operation, values[0])
        case "!":
            return _factorial(values[0])
        case "binom":
            return _binomial(*values)
    raise Unreadable(operation)


def _fold(operation: Any, values: Sequence[Any]) -> Any:
    result = values[0]
    for other in values[1:]:
        if isinstance(result, Exact) != isinstance(other, Exact):
            result, other = _rounded_number(result), _rounded_number(other)
        result = operation(result, other)
    return result


def quotient(a: Any, b: Any) -> Any:
    """a / b, exact where both are."""
    with mpmath.workdps(PRECISION):
        return _fold(lambda x, y: x / y, [a, b])


def _rounded_number(number: Any) -> Any:
    return mpmath.mpf(number.numerator) / number.denominator if isinstance(number, Exact) else number


def _bounded(number: Any) -> Any:
    if isinstance(number, Exact):
        bits = max(number.numerator.bit_length(), number.denominator.bit_length())
        return _rounded_number(number) if bits > MAX_BITS else number
    if not mpmath.isfinite(number):
        raise Unreadable("no finite value")
    return number


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, Exact) and isinstance(base, Exact):
        size = max(base.numerator.bit_length(), base.denominator.bit_length(), 1)
        if exponent.denominator == 1 and abs(exponent) * size <= MAX_BITS:
            return base ** int(exponent)
        if exponent.denominator <= 64 and base >= 0 and abs(exponent.numerator) * size <= MAX_BITS:
            roots = [_root(number, exponent.denominator) for number in (base.numerator, base.denominator)]
            if None not in roots:
                return Fraction(*roots) ** exponent.numerator
        if base < 0 and exponent.denominator > 1 and exponent.denominator % 2:  # the real root, as people mean it
            return -_power(-base, exponent) if exponent.numerator % 2 else _power(-base, exponent)
    base, exponent = _rounded_number(base), _rounded_number(exponent)
    if base == 0:
        if mpmath.re(exponent) <= 0:
            raise Unreadable("0 to a power that is not positive")
        return base
    if abs(exponent) * max(1, abs(mpmath.log(abs(base), 2))) > MAX_EXPONENT_BITS:
        raise Unreadable("too large")
    return mpmath.power(base, exponent)


def _root(number: int, degree: int) -> int | None:
    """The whole number whose power it is."""
    if degree == 2:
        root = math.isqrt(number)
    elif number.bit_length() > 2000:
        return None
    else:
        root = int(mpmath.nint(mpmath.root(number, degree)))
    return root if root**degree == number else None


def _rounded(way: str, number: Any) -> Any:
    if isinstance(number, Exact):
        return Fraction(math.floor(number) if way == "floor" else math.ceil(number))
    return Fraction(int((mpmath.floor if way == "floor" else mpmath.ceil)(number)))


def _factorial(number: Any) -> Any:
    if isinstance(number, Exact) and number.denominator == 1:
        if number < 0:
            raise Unreadable("factorial of a negative number")
        if number <= 500:
            return Fraction(math.factorial(int(number)))
    if abs(number) > MAX_FACTORIAL:
        raise Unreadable("too large")
    return _bounded(mpmath.factorial(_rounded_number(number)))


def _binomial(top: Any, bottom: Any) -> Any:
    whole = all(isinstance(number, Exact) and number.denominator == 1 for number in (top, bottom))
    if whole and 0 <= bottom <= top <= 5_000:
        return Fraction(math.comb(int(top), int(bottom)))
    if max(abs(top), abs(bottom)) > MAX_FACTORIAL:
        raise Unreadable("too large")
    return _bounded(mpmath.binomial(_rounded_number(top), _rounded_number(bottom)))


def _call(name: str, argument: Any) -> Any:
    if name == "ln" and argument == 1:
        return Fraction(0)
    argument = _rounded_number(argument)
    if abs(argument) > MAX_EXPONENT_BITS and name != "ln":
        raise Unreadable("too large")
    return _bounded(_CALLS[name](argument))
