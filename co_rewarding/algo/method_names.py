# SPDX-License-Identifier: Apache-2.0
"""How a method is written: one reward, or a weighted sum of several.

    majority_voting                                 a name of co_rewarding.algo.methods
    rewards/brevity.py:short                        your own function (own_reward.py), or package.module:short
    co_rewarding_I+0.1*rewards/brevity.py:short     a sum (weighted_sum.py); a weight is 1 if omitted

A negative term is +-0.1*…; one of weight 0 is computed and logged, but rewards nothing. Only the form is read here: no
file is opened, so a report can name the method of a run whose files are gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from co_rewarding.algo.own_function import absolute, is_own_function

MAX_WEIGHT = 1e6
# a function's name ends at the first possible place; a path may contain + and *
_TERM = re.compile(
    r"\s*(?:(?P<weight>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*\*\s*)?(?P<name>[\w-]+|.+?:[^\W\d]\w*)\s*(?:\+(?P<rest>.+))?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Term:
    """One reward of a sum; any other method is one term of weight 1."""

    weight: float
    name: str  # of a built-in method, or the place of a function

    @property
    def is_own(self) -> bool:
        return is_own_function(self.name)

    @property
    def label(self) -> str:
        """Its name in logs, figures and run names: brevity.short for rewards/brevity.py:short."""
        if not self.is_own:
            return self.name
        place, _, function = self.name.rpartition(":")
        stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
        return re.sub(r"[^\w.-]+", "-", f"{stem}.{function}")


def terms_of(name: str) -> tuple[Term, ...]:
    """The terms of a method, as written.

    Raises:
        ValueError: it cannot be parsed, or a weight is no number.
    """
    terms, rest = [], name
    while rest is not None:
        found = _TERM.fullmatch(rest)
        if found is None:
            raise ValueError(
                f"{rest!r} is no method: write a name, path/to/file.py:function, package.module:function, or a sum of "
                "such, A+0.2*B"
            )
        terms.append(Term(_weight(found["weight"]), found["name"]))
        rest = found["rest"]
    return tuple(terms)


def label_of(name: str) -> str:
    """A method without the folders of its files: co_rewarding_I+0.1*brevity.short."""
    return "+".join(_weighted(term.weight, term.label) for term in terms_of(name))


def absolute_name(name: str) -> str:
    """The method with absolute paths, for a process in another folder."""
    return "+".join(
        _weighted(term.weight, absolute(term.name) if term.is_own else term.name) for term in terms_of(name)
    )


def _weight(text: str | None) -> float:
    try:
        weight = 1.0 if text is None else float(text)
    except ValueError:
        weight = float("inf")
    if abs(weight) > MAX_WEIGHT:
        raise ValueError(f"{text}* is no weight: write a number from {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return weight


def _weighted(weight: float, text: str) -> str:
    return text if weight == 1 else f"{weight:.12g}*{text}"
