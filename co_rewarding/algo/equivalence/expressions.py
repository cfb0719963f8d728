# SPDX-License-Identifier: Apache-2.0
r"""The tree of an expression.

    tree(("2", "\\cdot", "x", "+", "1")) = ("+", ("*", ("number", 2), ("symbol", "x")), ("number", 1))

Decisions: 2e5 is 2·10⁵, 1\frac{1}{2} and 2 2/3 are mixed numbers, a/bc is (a/b)c, log without a base is the decimal
one, degrees count inside functions and nowhere else, A' and \bar A are other variables than A, and f(2x) is no product.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from co_rewarding.algo.equivalence.spelling import FUNCTIONS, GREEK

Tree = tuple  # (operation, argument, …): arguments are trees, but for ("number", Fraction) and ("symbol", name)
CONSTANTS = ("e", "i", r"\pi")
INVERSES = {name: f"arc{name}" for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")}
_ACCENTS = (r"\bar", r"\hat", r"\vec", r"\tilde", r"\overline", r"\widehat", r"\overrightarrow", r"\dot")
_FUNCTION_NAMES = ("f", "g", "h", r"\phi", r"\varphi", r"\Gamma", r"\zeta")
TO_BE_CARRIED_OUT = frozenset((r"\gcd", r"\lcm", r"\max", r"\min", r"\det", r"\sum", r"\prod", r"\int", r"\lim"))
"""Operators without a value here: an expression with them is a question."""


class Unreadable(ValueError):
    """Not an expression that has a value here."""


def tree(tokens: Sequence[str]) -> Tree:
    """
    Raises:
        Unreadable: no expression of a known kind.
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

    def put_back(self, token: str) -> None:
        self._tokens[self._at : self._at] = [token] if token else []

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
            if token == self.next == "!":
                raise Unreadable("n!! is not (n!)!")
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
            self.take(r"\r" + token[2:])
            return (token[2:], found)
        if token == r"\frac":
            return ("/", self.braced(), self.braced())
        if token == r"\binom":
            return ("binom", self.braced(), self.braced())
        if token == r"\sqrt":
            root = self.braced("[", "]") if self.next == "[" else ("number", Fraction(2))
            return ("^", self.braced(), ("/", ("number", Fraction(1)), root))
        if token in TO_BE_CARRIED_OUT:
            raise Unreadable(token)
        if token[0] == "\\" and token[1:] in FUNCTIONS:
            return self._function(token[1:])
        return self._symbol(token)

    def braced(self, opening: str = "{", closing: str = "}") -> Tree:
        self.take(opening)
        found = self.sum()
        self.take(closing)
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
        base = power = None
        if name == "log" and self.next == "_":
            self.take()
            base = self.braced()
        if self.next == "^":
            self.take()
            power = self.braced()
        if power == ("number", Fraction(-1)) and name in INVERSES:
            name, power = INVERSES[name], None
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
        elif token in _ACCENTS:
            name = token + "".join(self._group())
        else:
            raise Unreadable(token)
        if self.next == "_":
            self.take()
            name += "_" + "".join(self._group())
        while self.next == "'":
            name += self.take()
        if self.next == "(":
            in_brackets = "".join(self._tokens[self._at + 1 : self._at + 2])
            # f(2x), and P(n), but not A(1+r)
            if name.rstrip("'") in _FUNCTION_NAMES or (name.isupper() and in_brackets.islower()):
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
    starts = [start for start in (r"\overline", r"\bar", r"\dot", "(") if start in token]
    head, _, tail = token.partition(starts[0]) if starts else (token, "", "")
    try:
        if not starts:
            if len(token.lower().partition("e")[2]) > 5:
                raise Unreadable(token)
            return Fraction(token.rstrip("."))
        repeated = "".join(digit for digit in tail if digit.isdigit())
        head = head.rstrip("{ ")
        repetend = Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(head.partition(".")[2]))
        return Fraction(head + "0" if head.endswith(".") else head) + repetend
    except ValueError:
        raise Unreadable(token) from None


def is_computation(found: Tree) -> bool:
    """Whether arithmetic on numbers remains to be done: 58+23, but not 1+√2 or 3/4."""
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
        return frozenset() if found[1] in CONSTANTS else frozenset([found[1]])
    return frozenset().union(*(symbols(argument) for argument in found[1:] if isinstance(argument, tuple)))


def has_factorials(found: Tree) -> bool:
    """Whether it has factorials or binomials, which count: their variables are taken as not negative."""
    return found[0] in ("!", "binom") or any(has_factorials(part) for part in found[1:] if isinstance(part, tuple))


def has_roots(found: Tree) -> bool:
    """Whether it has roots, powers that may be roots, or logarithms: several variables are then taken as positive."""
    if found[0] == "^" and not (found[2][0] == "number" and found[2][1].denominator == 1):
        return True
    if found[:2] == ("call", "ln"):
        return True
    return any(has_roots(argument) for argument in found[1:] if isinstance(argument, tuple))
