# SPDX-License-Identifier: Apache-2.0
r"""Arithmetic questions of three families, each in four wordings, with only correct worked solutions.

A question is a family with operands, in any wording: questions are held out as such. Its original and its rephrased
wording are two different ones of the four, drawn for each question, so neither view is easier by construction. Nothing
here teaches a mistake: all wrong answers are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from co_rewarding.tools.quickstart import arithmetic


@dataclass(frozen=True)
class Family:
    """One kind of question. Operands are named by the letters of its templates."""

    templates: tuple[str, ...]
    operands: tuple[tuple[int, ...], ...]  # all that there are
    answer: Callable[..., int]
    worked: Callable[..., str]  # its worked solution, with the box at the end


def _in_columns(operation: arithmetic.Operation) -> Callable[[int, int], str]:
    """As taught to the quickstart's model."""

    def worked(a: int, b: int) -> str:
        return arithmetic.worked_solution(arithmetic.Question("", "plain", a, b, arithmetic.Fact(a, b, operation)))

    return worked


def _product(a: int, b: int) -> str:
    units = a % 10 * b
    tens = a // 10 * b
    steps = f"{a % 10}*{b}={units}; {a // 10}*{b}={tens}; {tens}+{units // 10}={tens + units // 10}"
    return rf"{steps}; \boxed{{{a * b}}}"


TWO_DIGITS, ONE_DIGIT = range(10, 100), range(2, 10)
PAIRS = tuple((a, b) for a in TWO_DIGITS for b in TWO_DIGITS if b <= a)
FAMILIES: dict[str, Family] = {
    "sum": Family(
        (
            "What is {a} + {b}?",
            "Add {b} to {a}.",
            "Tom has {a} coins and gets {b} more. How many now?",
            "Find the number that is {b} more than {a}.",
        ),
        PAIRS,
        lambda a, b: a + b,
        _in_columns("add"),
    ),
    "difference": Family(
        (
            "What is {a} - {b}?",
            "Take {b} from {a}.",
            "Tom has {a} coins and loses {b}. How many now?",
            "How much is missing from {b} to {a}?",
        ),
        PAIRS,
        lambda a, b: a - b,
        _in_columns("subtract"),
    ),
    "product": Family(
        (
            "What is {a} * {b}?",
            "Multiply {b} by {a}.",
            "Tom has {b} bags of {a} coins. How many coins?",
            "Find {b} times {a}.",
        ),
        tuple(product(TWO_DIGITS, ONE_DIGIT)),
        lambda a, b: a * b,
        _product,
    ),
}


@dataclass(frozen=True)
class Question:
    """One computation, with two of its family's wordings: original, rephrased."""

    family: str
    operands: tuple[int, ...]
    wordings: tuple[int, int]

    @property
    def key(self) -> str:
        return f"{self.family} {' '.join(map(str, self.operands))}"

    @property
    def answer(self) -> int:
        return FAMILIES[self.family].answer(*self.operands)

    @property
    def worked(self) -> str:
        return FAMILIES[self.family].worked(*self.operands)

    @property
    def direct(self) -> str:
        return rf"\boxed{{{self.answer}}}"

    def text(self, view: int) -> str:
        """The question in its original wording (0) or rephrased (1)."""
        template = FAMILIES[self.family].templates[self.wordings[view]]
        return template.format(**dict(zip("ab", self.operands, strict=True)))


@dataclass(frozen=True)
class Split:
    """Different questions, each family with an equal part of the first two."""

    held_out: list[Question]
    trained: list[Question]  # by RL
    taught: dict[str, list[Question]]  # family → for the start, and the rest to measure it


def split(num_held_out: int, num_trained: int, seed: int) -> Split:
    """
    Raises:
        ValueError: more questions than the smallest family has.
    """
    rng = Random(f"questions:{seed}")
    held_out, trained, taught = [], [], {}
    held_out_each, trained_each = num_held_out // len(FAMILIES), num_trained // len(FAMILIES)
    for name, family in FAMILIES.items():
        if held_out_each + trained_each > len(family.operands) // 2:
            raise ValueError(f"family {name} has {len(family.operands)} questions: ask for fewer")
        questions = [
            Question(name, operands, tuple(rng.sample(range(len(family.templates)), 2)))
            for operands in rng.sample(family.operands, len(family.operands))
        ]
        held_out += questions[:held_out_each]
        trained += questions[held_out_each : held_out_each + trained_each]
        taught[name] = questions[held_out_each + trained_each :]
    rng.shuffle(trained)
    return Split(held_out, trained, taught)


def templates() -> Sequence[str]:
    return [template for family in FAMILIES.values() for template in family.templates]
