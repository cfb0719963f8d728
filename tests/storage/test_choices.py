# SPDX-License-Identifier: Apache-2.0
"""Options in every form, and answers as letters."""

from typing import Any

import pytest

from co_rewarding.storage.choices import as_letters, read_options, with_choices

CITIES = {"A": "Paris", "B": "Rome", "C": "Oslo"}


@pytest.mark.parametrize(
    "value",
    [
        ["Paris", "Rome", "Oslo"],
        ["Paris", "Rome", "Oslo", None, ""],  # columns of a set whose other questions have five
        ["A. Paris", "B. Rome", "C. Oslo"],
        ["(A) Paris", "(B) Rome", "(C) Oslo"],
        {"label": ["A", "B", "C"], "text": ["Paris", "Rome", "Oslo"]},
        [{"label": "A", "text": "Paris"}, {"label": "B", "text": "Rome"}, {"text": "Oslo", "label": "C"}],
        {"A": "Paris", "B": "Rome", "C": "Oslo"},
        ["a) Paris", "b) Rome", "c) Oslo"],
        [{"key": "A", "value": "Paris"}, {"key": "B", "value": "Rome"}, {"key": "C", "value": "Oslo"}],
        [{"A": "Paris"}, {"B": "Rome"}, {"C": "Oslo"}],
        "A. Paris\nB. Rome\n\nC. Oslo",
        '["Paris", "Rome", "Oslo"]',
        "['Paris', 'Rome', 'Oslo']",  # as pandas writes a list into CSV
    ],
)
def test_options_in_every_form(value: Any) -> None:
    assert read_options(value) == CITIES


@pytest.mark.parametrize("value", [None, "", [], float("nan"), [None, ""]])
def test_no_options(value: Any) -> None:
    assert read_options(value) == {}


@pytest.mark.parametrize(
    "value",
    [
        "Paris|Rome",
        "[1, 2",
        7,
        ["Paris"],
        ["Paris", "", "Oslo"],
        list(range(27)),
        {"a": ["x"], "b": "y"},
        [{"x": "Paris", "y": 1}, {"x": "Rome", "y": 0}],
        "A. Paris\nC. Rome",
    ],
)
def test_what_are_no_options(value: Any) -> None:
    with pytest.raises(ValueError, match="choices"):
        read_options(value)


@pytest.mark.parametrize(
    ("answers", "letters", "how"),
    [
        (["A", "c", "(B)", "B.", ""], ["A", "C", "B", "B", ""], "4 letters"),
        (["0", "2", "1"], ["A", "C", "B"], "3 numbers of options counted from 0"),  # a 0 is there
        (["1", "3", "2"], ["A", "C", "B"], "3 numbers of options counted from 1"),  # 3 of three is there
        (["Paris", "rome", " Oslo "], ["A", "B", "C"], "3 texts"),
        (["A. Paris", "(C) Oslo", "(b) rome"], ["A", "C", "B"], "3 letters"),
        (["0.0", "", "2.0"], ["A", "", "C"], "2 numbers of options counted from 0"),  # of a column with gaps
        (["A", "Rome"], ["A", "B"], "1 letters"),
    ],
)
def test_answers_become_letters(answers: list[str], letters: list[str], how: str) -> None:
    found, words = as_letters(answers, [CITIES] * len(answers), None)
    assert found == letters and how in words


def test_labels_of_the_file_and_numbers_that_are_options() -> None:
    arc = {"1": "3", "2": "4", "3": "5"}  # the label 2 is the option 4
    assert as_letters(["2", "4"], [arc, arc], None)[0] == ["B", "B"]
    three_to_five = {"A": "3", "B": "4", "C": "5"}
    assert as_letters(["4", "3"], [three_to_five] * 2, None)[0] == ["B", "A"]  # 4 is no number of three options
    one_to_three = {"A": "1", "B": "2", "C": "3"}  # 3 rules out counting from 0; text and number from 1 agree
    assert as_letters(["3", "1"], [one_to_three] * 2, None)[0] == ["C", "A"]


def test_what_may_be_two_things_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"row 0: its answer '1' may be .* --answer_is index0\|index1$"):
        as_letters(["1", "2"], [CITIES] * 2, None)
    assert as_letters(["1", "2"], [CITIES] * 2, "index0")[0] == ["B", "C"]
    assert as_letters(["1", "2"], [CITIES] * 2, "index1")[0] == ["A", "B"]
    letters = {"A": "B", "B": "A"}  # the answer A: the letter, or the text of option B
    with pytest.raises(ValueError, match=r"--answer_is letter\|text"):
        as_letters(["A"], [letters], None)
    # another row's answer can only be a letter, so all are
    assert as_letters(["A", "B"], [letters, CITIES], None)[0] == ["A", "B"]


@pytest.mark.parametrize(("answer", "answer_is"), [("Berlin", None), ("D", None), ("3", "index0"), ("AC", None)])
def test_what_is_no_option_is_refused(answer: str, answer_is: str | None) -> None:
    with pytest.raises(ValueError, match=r"row 0: its answer .* is none of its"):
        as_letters([answer], [CITIES], answer_is)


def test_without_options_an_answer_stays() -> None:
    assert as_letters(["42", "B"], [{}, CITIES], None)[0] == ["42", "B"]


def test_options_are_written_once() -> None:
    texts = list(CITIES.values())
    assert with_choices("Capital?", texts) == "Capital?\n\nA. Paris\nB. Rome\nC. Oslo"
    for there in ("Capital? (A) Paris (B) Rome (C) Oslo", "Capital?\nA: Paris\nB: Rome\nC: Oslo"):
        assert with_choices(there, texts) == there
    assert with_choices("Capital? A. Paris B. Rome", texts).endswith("\n\nA. Paris\nB. Rome\nC. Oslo")
    assert with_choices("Is Paris in Rome or Oslo?", texts).endswith("\n\nA. Paris\nB. Rome\nC. Oslo")
