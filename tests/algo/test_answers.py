# SPDX-License-Identifier: Apache-2.0
"""ans(y): which box counts, and that hostile text costs milliseconds."""

import re
import time
from random import Random

import pytest
from pyarrow import parquet

from co_rewarding.algo.answers import extract_answer, ground_truth_answer, is_placeholder


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
        (r"\boxed{3} and \boxed{ }", "3"),  # an empty box takes no answer back
        (r"\boxed{\boxed{}}", None),
        (r"\boxed{3} or \boxed{\boxed{}}", "3"),
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
    "placeholder",
    [
        "", " ", "...", r"\ldots", r"\dots", r"\cdots", "…", "?", "???", "_", "___", r"\_\_", r"\square", r"\Box", "{}",
        r"\quad", r"\underline{\hspace{1cm}}", "answer", "Answer", r"\text{answer}", r"\text{your answer}",
        r"\text{Your final answer here}", "[your answer]",
        "<answer>", r"\text{[insert answer here]}", "the final result", r"\text{numerical value}",
        "your_answer_here",
    ],
)  # fmt: skip
def test_a_placeholder_neither_votes_nor_takes_an_answer_back(placeholder):
    assert extract_answer(rf"so \boxed{{{placeholder}}}") is None
    assert extract_answer(rf"\boxed{{8}}. Put the output within \boxed{{{placeholder}}}.") == "8"
    assert extract_answer(rf"within \boxed{{{placeholder}}}: \boxed{{8}}") == "8"


@pytest.mark.parametrize(
    "answer",
    [
        "0", "x", "a_n", "-", r"\text{no solution}", r"\text{none}", r"\text{the empty set}", r"\emptyset", r"\{\}",
        r"1,2,\ldots", r"\text{even number}", "n", r"\text{result}", r"\frac{?}{2}", "answer = 5", r"\text{(A)}", r"()",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_placeholder_is_an_answer(answer):
    assert extract_answer(rf"\boxed{{{answer}}}") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<think>maybe \boxed{1}</think> The answer is 2.", None),
        (r"<think>maybe \boxed{1}</think> \boxed{2}", "2"),
        (r"maybe \boxed{1}</think> \boxed{2}", "2"),  # the prompt opened it
        (r"<think>a</think> \boxed{2} <think>no, \boxed{3}</think>", None),
        (r"<think>maybe \boxed{1}", "1"),  # cut off: all there is
        ("\\boxed{5} User: 2+2? Assistant: \\boxed{4}", "5"),
        ("\\boxed{5}<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n\\boxed{4}", "5"),
        ("\\boxed{5}\nHuman: and 2+2?\n\\boxed{4}", "5"),
        ("\\boxed{5}\n\n### Question: 2+2?\n\\boxed{4}", "5"),
        ("\\boxed{5}\nProblem 2: 2+2?\n\\boxed{4}", "5"),
        # before there is an answer, or within a sentence, such words are the text's own
        ("User: 2+2? Assistant: \\boxed{4}", "4"),
        ("Question: what is 2+2?\n\\boxed{}\nQuestion: yes\n\\boxed{4}", "4"),
        ("\\boxed{5}. The question: is it right? No, \\boxed{4}", "4"),
        ("\\boxed{5}, superUser: \\boxed{4}", "4"),
        # two parts of one answer, then an echo
        ("\\boxed{5} and then \\boxed{6}\nUser: \\boxed{7}", "6"),
    ],
)
def test_thinking_and_the_next_turn_are_not_the_answer(text, answer):
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
        ("empty boxes nested", "\\boxed{" * 25_000 + "}" * 25_000),
        ("boxes in a row", "\\boxed{1}" * 20_000),
        ("placeholders in a row", "\\boxed{?}" * 20_000),
        ("an answer and turns", "\\boxed{1}" + "User: \\boxed{}" * 10_000),
        ("an answer and new lines", "\\boxed{1}" + "\n" * 100_000),
        ("thinking that ends often", "</think>\\boxed{1}" * 10_000),
        ("a long near-placeholder", "\\boxed{" + "your " * 20_000 + "}"),
        ("near-placeholders in a row", ("\\boxed{" + "your " * 12 + "}") * 1_500),
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


@pytest.mark.parametrize("file", ["math/train_original.parquet", "math/test.parquet", "dapo/train_original.parquet"])
def test_no_ground_truth_is_taken_for_a_placeholder(real_data, file):
    if not (real_data / file).exists():
        pytest.skip(f"no real data at {real_data / file}")
    rows = parquet.read_table(real_data / file, columns=["reward_model"]).to_pylist()
    truths = {row["reward_model"]["ground_truth"].strip() for row in rows} - {""}
    assert len(truths) > 500
    assert not [truth for truth in truths if extract_answer(rf"\boxed{{{truth}}}") != truth]


def test_what_stands_before_the_first_box_decides_nothing() -> None:
    pieces = [
        *"{}\\5x \n",
        r"\{",
        r"\}",
        r"\\",
        r"\boxed{",
        r"\\boxed {",
        r"\fbox{",
        "box",
        r"\mbox{",
        "mailbox",
        r"\boxed",
    ]
    draw, num_answers = Random(0), 0
    for _ in range(20_000):
        text = "".join(draw.choices(pieces, [3, 6, *[2] * 8, 5, 1, 2, *[1] * 4], k=draw.randrange(40)))
        answer = from_the_start(text)
        assert extract_answer(text) == answer, text
        num_answers += answer is not None
    assert num_answers > 2000


def from_the_start(text: str) -> str | None:
    """The box that opens last of those that close and state something, character by character from the first one on."""
    opened, closed, at = [], [(-1, "")], 0  # closed: start of the content, and the content
    while at < len(text):
        if command := re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,8}\{").match(text, at):
            opened.append(at := command.end())
            continue
        if text[at] == "{":
            opened.append(None)
        elif text[at] == "}" and opened and (start := opened.pop()) is not None and start > max(closed)[0]:
            closed.append((start, text[start:at].strip()))
        at += 2 if text[at] == "\\" else 1
    stated = [content for _, content in closed if not is_placeholder(content)]
    return stated[-1] if stated else None
