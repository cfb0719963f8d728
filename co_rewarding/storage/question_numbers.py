# SPDX-License-Identifier: Apache-2.0
r"""The numbers of a question in words and formulas: those it depends on, and those that a rephrasing can mean.

    numbers(text)    written with digits
    stated(prose)    those of them that an equivalent question must repeat, exactly or in other words
    said(text)       written with digits or words, and those that follow from one of these in one step

A number of stated(x) that is not in said(x') is lost. What a number counts is ignored.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

MAX_VANISHED_SHARE = 0.5  # of the different numbers in a question
_WORDS: dict[str, int] = {
    name: value
    for value, names in {
        1: "one first single once",
        2: "two second double both pair twice half halves squared quadratic couple",
        3: "three third triple thrice thirds triangle triangular cubed cube cubic yard yards",
        4: "four fourth quadruple quarter quarters square quadrilateral quartic",
        5: "five fifth quintuple pentagon pentagonal quintic",
        6: "six sixth hexagon hexagonal die dice cube",
        7: "seven seventh heptagon week",
        8: "eight eighth octagon octagonal cube",
        9: "nine ninth nonagon digit digits",
        10: "ten tenth decagon decimal decade",
        11: "eleven eleventh",
        12: "twelve twelfth dozen dodecagon year noon midnight foot feet",
        **{k: name for k, name in enumerate(["thirteen", "fourteen", "fifteen", "sixteen", "seventeen"], start=13)},
        **{18: "eighteen", 19: "nineteen", 20: "twenty icosahedron", 24: "day", 26: "alphabet"},
        30: "thirty",
        40: "forty",
        50: "fifty half coin fair equal equally",
        60: "sixty hour hourly minute minutes equilateral",
        70: "seventy",
        80: "eighty",
        90: "ninety right perpendicular",
        100: "hundred percent percentage cent cents dollar dollars whole entire century",
        180: "straight supplementary half",
        200: "double doubles twice",
        360: "circle full complete",
        365: "year annual",
        1000: "thousand",
        10**6: "million",
        10**9: "billion",
        10**12: "trillion",
    }.items()
    for name in names.split()
}
"""Words for numbers; if a word has several meanings, this has one and _ALSO the rest."""
_ALSO: dict[str, tuple[int, ...]] = {
    "half": (2, 50, 180),
    "quarter": (15, 25, 90),
    "quarters": (15, 25, 75),
    "square": (4, 90),
    "cube": (3, 6, 8, 12),
    "double": (2, 200),
    "twice": (2, 200),
    "digit": (10, 99, 100, 999, 1000, 9999, 10_000),
    "digits": (10, 99, 100, 999, 1000, 9999, 10_000),
    "year": (12, 365),
    "standard": (6, 52),
    "deck": (52,),
    "leap": (29, 366),
    "perpendicular": (90,),
    "triangle": (180,),
}
_NUMBER = re.compile(r"(?<![\d.])(?:\d{1,3}(?:(?:,|\{,\}|\\,|,\\!|\\!,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\d.])\.\d+")
_MAX_DIGITS = 9  # more form a pattern, which has other spellings
_NO_QUANTITY = re.compile(
    r"""_\s{0,2}(?:\{[^{}]{0,40}\}|\d)          # an index
    |\\angle\s{0,2}\d|\b[a-zA-Z]\d\b              # a name
    |(?<!\d)\d{1,9}\s{0,2}!|\bin\s(?:1[7-9]|20)\d\d\b    # a factorial, a year
    |\[img\][^\[\]]{0,300}\[/img\]|https?://\S+ # an address
    |\\hspace\{[^{}]{0,20}\}|\\[vh]?skip\S{0,10}""",
    re.VERBOSE,
)
_DIGIT_FRACTION = re.compile(r"(\\[dtc]?frac)\s{0,2}(?:(\d)\s{0,2}(\d)|\{(\d{1,9})\}\s{0,2}(\d)|(\d)\s{0,2}\{)")
_DOTS = re.compile(r"\\[lcv]?dots[bcm]?\b|\.\.\.|…")
# An example, or a reminder of a definition, is not part of the question.
_EXAMPLE = re.compile(
    r"\(?\b(?:for\s(?:example|instance)|e\.g\.|i\.e\.|such\sas|reminder|examples?\b|like\s\$?\d).{0,400}?(?:[.)](?=\s|$)|$)"
    r"|\([^()]{0,200}\bfor\s(?:example|instance)\b[^()]{0,200}\)",
    re.IGNORECASE | re.DOTALL,
)


def numbers(text: str) -> list[Fraction]:
    r"""Numbers written in `text` with digits, in order.

    \frac12 is 1 and 2, and neighbours such as 400,401,402 are three, where 123,456 is one.
    """
    found = []
    for number in _NUMBER.findall(_DIGIT_FRACTION.sub(_spell_fraction, text)):
        groups = number.split(",")
        neighbours = len(groups) > 1 and all(g.isdigit() for g in groups)
        neighbours = neighbours and all(int(b) == int(a) + 1 for a, b in pairwise(groups))
        for part in groups if neighbours else [number]:
            digits = re.sub(r"[^\d.]", "", part)
            if len(digits) <= _MAX_DIGITS:
                found.append(Fraction(digits if digits[0] != "." else "0" + digits))
    return found


def _spell_fraction(found: re.Match[str]) -> str:
    command, *parts = found.groups()
    return f"{command} {' '.join(filter(None, parts))} " + ("{" if found.group().endswith("{") else "")


def stated(prose: str) -> set[Fraction]:
    """Numbers that a question recognisably depends on.

    Excluded: 1 and 2, which are often expressed otherwise (a, both, squared, even), names and indices, the inside of a
    run of neighbours. A list that continues in dots, which has many spellings, has none at all.
    """
    prose = _NO_QUANTITY.sub(" ", _EXAMPLE.sub(" ", prose))
    if _DOTS.search(prose):
        return set()
    found = {number for number in numbers(prose) if number > 2}
    # Of a run of three and more neighbours, the ends.
    return {n for n in found if not (n - 1 in found and n + 1 in found)}


def said(text: str) -> set[Fraction]:
    """Numbers that `text` has in digits or words, or that follow from one of these in one step."""
    found = set(numbers(text)) | set(numbers(re.sub(r"(?<=\d)[,-](?=\d)", " ", text)))
    found |= {Fraction(part) for decimal in re.findall(r"\d{1,9}\.\d{1,9}", text) for part in decimal.split(".")}
    previous = 0
    for word in re.findall(r"[a-z]+", text.lower()):
        value = _WORDS.get(word) or _WORDS.get(re.sub(r"(?:ths?|s)$", "", word), 0)
        if value:
            found.add(Fraction(value))
            if previous:
                found |= {Fraction(previous + value), Fraction(previous * value)}  # twenty-one, two hundred
        previous = value
        found |= {Fraction(number) for number in _ALSO.get(word, ())}
    known = sorted(found)[:60]
    for number in known:
        # 3 million; 50 % and 0.5; 2 dozen; 1.5 hours; 4 and 16 in x^2; 5.50 and 550 cents
        found |= {number * factor for factor in (10, 12, 60, 100, 1000, 10**6)}
        found |= {number / factor for factor in (10, 12, 60, 100, 1000)}
        found |= {number + 1, number - 1}  # less than 10, at most 9
        if number <= 10**6:
            found |= {number**2, number**3, 2 * number, number / 2, number * 90}
    roots = {Fraction(k) for k in range(3, 101) if any(k**power in found for power in (2, 3))}
    return found | roots


def vanished(prose: str, rewrite: str) -> tuple[list[Fraction], int]:
    """(numbers that `prose` states and `rewrite` does not express, number that it states).

    None count as lost unless most are: a rephrasing may omit a few.
    """
    needed = gone = stated(prose)
    for find in (numbers, said):  # the second is exact and slow
        gone = gone - set(find(rewrite))
        if len(gone) <= MAX_VANISHED_SHARE * len(needed):
            return [], len(needed)
    return sorted(gone), len(needed)
