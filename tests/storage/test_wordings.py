# SPDX-License-Identifier: Apache-2.0
"""Pairs of texts as a whole: good ones pass, and each way of not being two wordings of one question is seen."""

from pathlib import Path
from random import Random

import pytest

from co_rewarding.storage.rows import question_text, read_rows
from co_rewarding.storage.wordings import loses_numbers, repeats, shared, shifted, suspect_pairs

IDENTICAL, EMPTY, SHARED, SHIFTED, NUMBERS = (
    "identical pairs, which vote for themselves",
    "rephrasings without a letter or digit",
    "rephrasings used for several questions",
    "rephrasings that fit the question in the previous or next row better",
    "rephrasings without most of the question's numbers",
)
QUESTIONS = [f"Tom has {3 * i + 11} red balls and {7 * i + 5} blue ones. How many has he?" for i in range(20)]
REPHRASED = [f"How many balls are {7 * i + 5} blue and {3 * i + 11} red ones of Tom together?" for i in range(20)]


def test_good_pairs() -> None:
    assert suspect_pairs(QUESTIONS, REPHRASED) == {}
    assert suspect_pairs([], []) == {}


def test_identical_up_to_spaces() -> None:
    assert suspect_pairs(QUESTIONS, [f" {text}\n" for text in QUESTIONS]) == {IDENTICAL: list(range(20))}


def test_empty() -> None:
    assert suspect_pairs(QUESTIONS, ["", " ", "\n", "..", "_"] * 4) == {EMPTY: list(range(20))}


def test_a_placeholder_stands_for_several_questions() -> None:
    texts = [*REPHRASED[:15], *["<rewritten question>"] * 5]
    assert shared(QUESTIONS, texts) == [15, 16, 17, 18, 19]
    assert shared(["a", "a", "b"], ["x", "x", "y"]) == []  # one question asked twice


@pytest.mark.parametrize("step", [1, -1])
def test_shifted_by_a_row(step: int) -> None:
    moved = REPHRASED[step:] + REPHRASED[:step]
    has_no_neighbour = 0 if step == 1 else 19  # its own one is at the other end
    assert shifted(QUESTIONS, moved) == [i for i in range(20) if i != has_no_neighbour]
    half = REPHRASED[:10] + REPHRASED[11:] + REPHRASED[10:11]  # a row that was lost in the middle
    assert shifted(QUESTIONS, half) == list(range(11, 20))


def test_one_swapped_pair_is_no_shift() -> None:
    swapped = [*REPHRASED[:5], REPHRASED[6], REPHRASED[5], *REPHRASED[7:]]
    assert shifted(QUESTIONS, swapped) == []


def test_several_rephrasings_of_a_question_in_a_row_are_no_shift() -> None:
    questions = [text for text in QUESTIONS[:5] for _ in range(6)]
    wordings = [
        "Count the balls of Tom.",
        "Tom: {}? Tell how many has he red and blue",
        "balls: {}",
        "{}",
        "Tom",
        "red {}",
    ]
    assert shifted(questions, [form.format(text) for text in QUESTIONS[:5] for form in wordings]) == []


@pytest.mark.parametrize(
    ("rephrased", "loses"),
    [
        ("Add 16 and 12.", False),
        ("Add sixteen and a dozen.", False),
        ("Add 16 and some.", False),  # half of them: a wording may do without
        ("Add two numbers.", True),
        ("", True),
    ],
)
def test_numbers_that_are_gone(rephrased: str, loses: bool) -> None:
    assert loses_numbers("What is 16 + 12?", rephrased) == loses


def test_repeats() -> None:
    assert repeats(["a b", "c", "a  b", "a b"]) == [2, 3]


@pytest.fixture(scope="module")
def published(real_data: Path) -> tuple[list[str], list[str]]:
    names = ("train_original", "train_rewrite_Qwen3-32B")
    return tuple([question_text(row) for row in read_rows(real_data / f"math/{name}.parquet")][:2000] for name in names)


def shares(original: list[str], rephrased: list[str]) -> dict[str, float]:
    return {text: len(rows) / len(original) for text, rows in suspect_pairs(original, rephrased).items()}


def test_published_pairs_are_far_below_the_bound(published: tuple[list[str], list[str]]) -> None:
    found = shares(*published)
    assert SHIFTED not in found and EMPTY not in found
    assert max(found.values()) < 0.05


def test_published_pairs_that_were_spoilt_are_above_it(published: tuple[list[str], list[str]]) -> None:
    original, rephrased = published
    assert shares(original, rephrased[1:] + rephrased[:1])[SHIFTED] > 0.4
    assert shares(original, rephrased[:1000] + rephrased[1001:] + rephrased[:1])[SHIFTED] > 0.2
    shuffled = Random(0).sample(rephrased, len(rephrased))
    assert shares(original, shuffled)[NUMBERS] > 0.2
