# SPDX-License-Identifier: Apache-2.0
"""Two-digit sums and differences, each as a plain question and as a short story with the same answer.

x = a question, x' = the same fact rephrased (arXiv 2508.00410, Section 3.1: a rephrasing keeps the answer). A fact is
(a, b, operation) with 10 <= b <= a <= 99; sums appear in either order, so a fact and its commuted twin are one fact and
are never on both sides of a split. 90 * 91 / 2 = 4095 facts per operation, 8190 in all; answers are integers from 0 to
198.

Rows follow verl's parquet schema. `extra_info` also carries the operands, so that a fact can be recognised in any
wording. Everything is drawn from `random.Random(<string>)`, whose stream does not depend on the platform.

b = a gives a difference of 0; the carry or borrow of a written-out solution may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Literal

import pyarrow as pa

from co_rewarding.storage.rows import arrow_schema, make_row

Operation = Literal["add", "subtract"]
Family = Literal["plain", "story"]

DATA_SOURCE = "toy_arithmetic"
SCHEMA = arrow_schema(extra_info={"a": pa.int64(), "b": pa.int64(), "operation": pa.string()})
SMALLEST_OPERAND, LARGEST_OPERAND = 10, 99

# {x} and {y} are the operands of a sum in either order; {a} - {b} is a difference.
PLAIN_SUMS = (
    "What is {x} + {y}?",
    "Compute {x} + {y}.",
    "Add {x} to {y}.",
    "What is {x} plus {y}?",
    "Compute the sum of {x} and {y}.",
    "Find the number that is {x} more than {y}.",
)
STORY_SUMS = (
    "Tom has {x} {things} and buys {y} more. How many {things} does Tom have now?",
    "Mia finds {x} {things} and Tom finds {y}. How many {things} do they have together?",
    "There are {x} red {things} and {y} blue {things} in a box. How many {things} are in the box?",
    "A shop sells {x} {things} on Monday and {y} on Friday. How many {things} does the shop sell?",
)
PLAIN_DIFFERENCES = (
    "What is {a} - {b}?",
    "Compute {a} - {b}.",
    "Subtract {b} from {a}.",
    "What is {a} minus {b}?",
    "Compute the difference of {a} and {b}.",
    "Find the number that is {b} less than {a}.",
)
STORY_DIFFERENCES = (
    "Tom has {a} {things} and sells {b} of them. How many {things} are left?",
    "There are {a} {things} in a box. Mia takes {b} of them. How many {things} are left in the box?",
    "Mia has {a} {things} and Tom has {b}. How many more {things} does Mia have?",
    "A shop had {a} {things} on Monday and {b} on Friday. How many {things} did the shop sell?",
)
WORDINGS: dict[Operation, dict[Family, tuple[str, ...]]] = {
    "add": {"plain": PLAIN_SUMS, "story": STORY_SUMS},
    "subtract": {"plain": PLAIN_DIFFERENCES, "story": STORY_DIFFERENCES},
}
THINGS = ("apples", "books", "coins", "cards", "pens", "balls")


@dataclass(frozen=True, order=True)
class Fact:
    """One thing to compute: a + b or a - b, with a >= b, so that commuted sums are equal objects."""

    a: int
    b: int
    operation: Operation

    def __post_init__(self) -> None:
        if not SMALLEST_OPERAND <= self.b <= self.a <= LARGEST_OPERAND:
            raise ValueError(
                f"operands ({self.a}, {self.b}): need {SMALLEST_OPERAND} <= b <= a <= {LARGEST_OPERAND}; "
                "give the larger one first"
            )

    @property
    def answer(self) -> int:
        return self.a + self.b if self.operation == "add" else self.a - self.b


@dataclass(frozen=True)
class Question:
    """A fact in words. `x` and `y` are its operands in the order of the solution."""

    text: str
    family: Family
    x: int
    y: int
    fact: Fact


def all_facts() -> list[Fact]:
    """All 8190 facts in a fixed order."""
    return [
        Fact(a, b, operation)
        for operation in WORDINGS
        for a in range(SMALLEST_OPERAND, LARGEST_OPERAND + 1)
        for b in range(SMALLEST_OPERAND, a + 1)
    ]


def split_facts(num_train: int, num_test: int, seed: int) -> tuple[list[Fact], list[Fact]]:
    """Disjoint train and test facts, in random order.

    The test facts depend only on `num_test` and `seed`: more training questions keep the test set.

    Raises:
        ValueError: a count below 1, or more facts than exist.
    """
    facts = all_facts()
    for key, value in (("num_train", num_train), ("num_test", num_test)):
        if value < 1:
            raise ValueError(f"{key}={value}: must be at least 1")
    if num_train + num_test > len(facts):
        raise ValueError(
            f"num_train={num_train} + num_test={num_test} exceeds the {len(facts)} different questions: "
            "lower one of them"
        )
    Random(f"split:{seed}").shuffle(facts)
    return facts[num_test : num_test + num_train], facts[:num_test]


def ask(fact: Fact, family: Family, rng: Random, *, swap: bool) -> Question:
    """`fact` in a random wording of `family`; `swap` only exchanges the operands of a sum."""
    x, y = (fact.b, fact.a) if swap and fact.operation == "add" else (fact.a, fact.b)
    template = rng.choice(WORDINGS[fact.operation][family])
    return Question(template.format(x=x, y=y, a=fact.a, b=fact.b, things=rng.choice(THINGS)), family, x, y, fact)


def make_pair(fact: Fact, rng: Random) -> tuple[Question, Question]:
    """`fact` in two views, original and rephrased: one plain and one story, in random order.

    The operands of a sum are exchanged between them.
    """
    families: tuple[Family, Family] = ("plain", "story") if rng.random() < 0.5 else ("story", "plain")
    swap = rng.random() < 0.5
    return ask(fact, families[0], rng, swap=swap), ask(fact, families[1], rng, swap=not swap)


def make_pairs(facts: Sequence[Fact], seed: int, split: str) -> list[tuple[Question, Question]]:
    """One pair per fact; a pair depends only on the seed, the split's name, its position and its fact."""
    return [make_pair(fact, Random(f"wording:{seed}:{split}:{index}")) for index, fact in enumerate(facts)]


def to_rows(questions: Sequence[Question], split: str) -> list[dict[str, Any]]:
    """Rows of one parquet file. Files of the two views differ only in the user's content."""
    rows = [make_row(DATA_SOURCE, q.text, str(q.fact.answer), index, split) for index, q in enumerate(questions)]
    for row, question in zip(rows, questions, strict=True):
        row["extra_info"] |= asdict(question.fact)
    return rows


def fact_of(extra_info: Mapping[str, Any]) -> Fact:
    """The fact of a row, in any wording.

    Raises:
        KeyError, ValueError: a row of another set.
    """
    return Fact(extra_info["a"], extra_info["b"], extra_info["operation"])


def direct_solution(question: Question) -> str:
    r"""Only the answer, as in `\boxed{81}`: short, and hard for a small model."""
    return rf"\boxed{{{question.fact.answer}}}"


def worked_solution(question: Question) -> str:
    r"""Column by column from the right, as on paper: 58 + 23 is `8+3=11; 5+2+1=8; \boxed{81}`.

    A borrow is taken from the tens before they are written: 81 - 58 is `11-8=3; 7-5=2; \boxed{23}`.
    """
    (tens_x, units_x), (tens_y, units_y) = divmod(question.x, 10), divmod(question.y, 10)
    if question.fact.operation == "add":
        carry = (units_x + units_y) // 10
        units = f"{units_x}+{units_y}={units_x + units_y}"
        tens = f"{tens_x}+{tens_y}{'+1' * carry}={tens_x + tens_y + carry}"
    else:
        borrow = int(units_x < units_y)
        units = f"{units_x + 10 * borrow}-{units_y}={units_x + 10 * borrow - units_y}"
        tens = f"{tens_x - borrow}-{tens_y}={tens_x - borrow - tens_y}"
    return f"{units}; {tens}; {direct_solution(question)}"


def borrows(fact: Fact) -> bool:
    """Whether `fact` is a difference whose units cannot be subtracted without a borrow, as in 81 - 58."""
    return fact.operation == "subtract" and fact.a % 10 < fact.b % 10


def slipped_solution(question: Question) -> str:
    r"""The smaller digit from the larger one in each column, with no borrow: 81 - 58 is `8-1=7; 8-5=3; \boxed{37}`.

    The best-known systematic error in written subtraction ("smaller from larger"; Brown and Burton, Diagnostic models
    for procedural bugs, Cognitive Science 2, 1978). Wrong whenever there is a borrow.

    Raises:
        ValueError: the question needs no borrow.
    """
    if not borrows(question.fact):
        raise ValueError(f"{question.text!r} needs no borrow")
    (tens_x, units_x), (tens_y, units_y) = divmod(question.x, 10), divmod(question.y, 10)
    units, tens = units_y - units_x, tens_x - tens_y
    return rf"{units_y}-{units_x}={units}; {tens_x}-{tens_y}={tens}; \boxed{{{10 * tens + units}}}"
