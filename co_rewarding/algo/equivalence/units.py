# SPDX-License-Identifier: Apache-2.0
"""Words after a value that are dropped, and those that multiply it. Words on no list are kept and compared.

The list has the singular; the plural (-s, -es) counts too.
"""

from __future__ import annotations

import re
from fractions import Fraction

_UNITS = """
mm cm dm km nm millimeter centimeter kilometer meter millimetre centimetre kilometre metre in inch ft foot feet yd
yard mi mile light year unit block pixel mg kg gm gram kilogram lb lbs pound ounce oz ton tonne ms sec second min
minute hour hr day week month yr old ml liter litre gallon quart pint cup teaspoon tablespoon acre hectare dollar
cent euro rupee yuan yen usd eur pence franc degree radian rad percent percentage pct mph kph mpg rpm hz hertz kw
kwh watt volt amp joule newton kelvin celsius fahrenheit mole point way time people person student teacher child
children boy girl man men woman women player team item piece thing integer number value digit edge side face vertex
vertices triangle square term zero root solution multiple divisor factor box game marble ball card coin ticket book
apple dog cat meal egg page
"""
_CHINESE_UNITS = """
个 个单位 厘米 毫米 分米 米 千米 公里 元 人 种 次 只 本 天 小时 分钟 秒 度 岁 平方米 平方厘米 立方厘米 立方米 千克 克 升
"""
_BESIDE_UNITS = "square cubic sq cu per distinct positive different / \\cdot - ."
_MAGNITUDES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
}  # fmt: skip
_NUMERALS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"

BASES = {name: base for base, name in enumerate(_NUMERALS.split(), start=2)}
"""Bases in words."""
UNITS = frozenset((_UNITS + _CHINESE_UNITS).split())
BESIDE_UNITS = frozenset(_BESIDE_UNITS.split())
ONE_LETTER_UNITS = frozenset("msghLlNJWVACKF")
_WORD = re.compile(r"\^\{?-?\d\}?|\\cdot|[A-Za-z]+|[\u4e00-\u9fff]+|[/.-]")


def factor_of(tail: str, one_letter: bool) -> Fraction | None:
    """The factor of the words after a value: 1 for units, 10^6 for million; None if a word is on no list.

    Args:
        tail: the words, with powers as cm^2 or cm^{2}.
        one_letter: whether a letter may be a unit: in a text and in m/s, but 5m is five times m.
    """
    words = _WORD.findall(tail)
    if "".join(words) != "".join(tail.split()):
        return None
    factor = Fraction(1)
    while words and words[0].lower() in _MAGNITUDES:
        factor *= _MAGNITUDES[words.pop(0).lower()]
    units = [word for word in words if word not in BESIDE_UNITS and not word.strip("^{}-").isdigit()]
    if not all(_is_unit(word, one_letter) for word in units) or not (units or factor != 1):
        return None
    return factor


def _is_unit(word: str, one_letter: bool) -> bool:
    if len(word) == 1 and word.isascii():
        return one_letter and word in ONE_LETTER_UNITS
    word = word.lower()
    return bool({word, word.removesuffix("s"), word.removesuffix("es")} & UNITS)
