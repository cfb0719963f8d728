# SPDX-License-Identifier: Apache-2.0
"""ans(y): which box counts, and that hostile text costs milliseconds."""

import time

import pytest

from co_rewarding.algo.answers import extract_answer, ground_truth_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"first \boxed{1}, then \boxed{2}", "2"),
        (r"\fbox{7}", "7"),
        (r"\boxed{1} and \fbox{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),  # \{ and \} are characters
        (r"\boxed{5\}}", r"5\}"),
        (r"\boxed{ 5 }", "5"),
        (r"\boxed {5}", "5"),
        (r"\\boxed{5}", "5"),
        (r"x = 1 \\\boxed{5}", "5"),  # a line break \\ in front of the box
        (r"\boxed{\boxed{5}}", "5"),
        (r"{ \frac{1 \boxed{5}", "5"),  # braces that stay open outside the box
        ("} } \\boxed{5} }", "5"),
        ("\\boxed{a\nb}", "a\nb"),
        # the response was cut off inside its last box: the last closed one counts
        (r"\boxed{5} so \boxed{1", "5"),
        (r"\boxed{5} so \boxed{\frac{1}{2}", "5"),
        (r"\boxed{", None),
        (r"\boxed{1", None),
        (r"\boxed{}", None),
        (r"\boxed{3} and \boxed{ }", None),  # an empty last box states nothing
        (r"\boxed 5", None),
        (r"\boxedx{5}", None),
        (r"\mbox{5}", None),
        ("the answer is 5", None),
        ("", None),
    ],
)
def test_last_closed_box(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("open braces", "{" * 100_000),
        ("closing braces", "}" * 100_000),
        ("boxes never closed", "\\boxed{" * 50_000),
        ("boxes all closed", "\\boxed{" * 25_000 + "}" * 25_000),
        ("backslashes", "\\" * 100_000),
        ("backslashes and a box", "\\" * 99_999 + "boxed{"),
        ("box commands without a brace", "\\boxed" * 20_000),
        ("box commands and spaces", ("\\boxed" + " " * 8) * 10_000),
        ("a box and spaces", "\\boxed" + " " * 100_000),
        ("pairs in a box", "\\boxed{" + "{}" * 50_000 + "}"),
    ],
)
def test_hostile_text_costs_milliseconds(name, text):
    start = time.process_time()
    extract_answer(text)
    # measured: 5 to 60 ms; a quadratic scan of these takes from 10 s to hours
    assert time.process_time() - start < 1.0


def test_long_answer_is_an_answer():
    assert extract_answer("\\boxed{" + "9" * 100_000 + "}") == "9" * 100_000


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        (" 42 ", "42"),
        (r"\boxed{42}", "42"),
        (r"so $\boxed{\frac12}$", r"\frac12"),
        ("", None),
        ("  ", None),
        (None, None),
        (r"\boxed{}", None),
    ],
)
def test_ground_truth_may_be_boxed(text, answer):
    assert ground_truth_answer(text) == answer
