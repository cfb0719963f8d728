# SPDX-License-Identifier: Apache-2.0
"""What a response states in each format, how that is compared, and that hostile text costs no time."""

import time
from pathlib import Path

import pytest

from co_rewarding.algo.answer_format import PATTERN_SECONDS, absolute_spec, answer_format, letter_of, recorded, truth_of
from co_rewarding.algo.answers import TextAnswer, ground_truth_answer
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import Rollout

CITIES = ("Paris", "London", "New York", "5")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 42.", "42"),
        ("so 1,234.5 dollars", "1234.5"),
        ("#### -7", "-7"),
        ("between 2-5", "5"),  # a range and no minus
        ("x=3.14", "3.14"),
        ("half: 1/2", "1/2"),
        (r"is $\frac{1}{2}$.", r"\frac{1}{2}"),
        ("1, 2, 3", "3"),
        ("1,2,3", "3"),
        ("答案是42。", "42"),  # letters that no space parts from a number
        ("一共5元", "5"),
        ("is -$5", "-5"),
        ("is –3", "-3"),
        (r"is $-\frac{1}{2}$", r"-\frac{1}{2}"),
        (r"is $2\frac{1}{2}$", r"2\frac{1}{2}"),
        ("2 1/2 hours", "2 1/2"),
        ("9.8 m/s^2", "9.8"),  # an exponent of a unit is no number
        ("10 cm^{-3}", "10"),
        ("1.5e10", "1.5e10"),
        ("2^10", "2^10"),
        (r"$6.02 \times 10^{23}$", r"6.02 \times 10^{23}"),
        (r"$1{,}000$", "1000"),
        (r"$12\,000$", "12000"),
        ("H2O", None),
        ("version v2", None),
        ("none", None),
        ("it is 12. Human: and 5?", "12"),
        ("<think>it is 12</think> so", None),
    ],
)
def test_number(text: str, answer: str | None) -> None:
    assert answer_format("number").extract(text) == answer


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"\boxed{(b)}", "B"),
        (r"\boxed{\text{London}}", "B"),
        (r"\boxed{B) London}", "B"),
        (r"\boxed{new york.}", "C"),
        (r"\boxed{Option A}", "A"),
        (r"\boxed{5}", "D"),
        (r"\boxed{Rome}", None),
        (r"\boxed{E}", None),  # there are four options
        (r"\boxed{B} and then \boxed{Rome}", None),  # the last box is what is stated
        ("The answer is B because", "B"),
        ("Answer: **C**", "C"),
        ("the answer is (D).", "D"),
        ("Correct answer: london", "B"),
        ("答案是C。", "C"),
        ("Answer: A. Then again, the answer is B", "B"),
        ("Answer: A\nQuestion: what else?\nAnswer: B", "A"),
        ("I think a man", None),
        ("B", "B"),  # a response that is nothing but an option
        ("D. 5", "D"),
        ("London.", "B"),
        ("A. is wrong", None),
        ("A. London", None),  # the letter of one and the text of another
        ("A. Paris\nB. London", None),  # only lists them
        # fonts, spaces and full width
        (r"\boxed{\textbf{B}}", "B"),
        (r"\boxed{\textbf{(B)}\ London}", "B"),
        (r"\boxed{\mathsf{(B)}~\text{London}}", "B"),
        (r"\boxed{\,B\,}", "B"),
        (r"The answer is $\textbf{(B)}$", "B"),
        ("答案：Ｂ", "B"),
        # a letter beside its text, however they are parted
        (r"\boxed{b) London}", "B"),
        (r"\boxed{B (London)}", "B"),
        (r"\boxed{\text{B - London}}", "B"),
        (r"\boxed{B\quad \text{London}}", "B"),
        # what stands between a statement and what is stated
        ("The answer is: B", "B"),
        ("The correct answer is:\n\n**B. London**", "B"),
        ("Answer:\nB", "B"),
        ('The answer is "B".', "B"),
        ("The answer would be B.", "B"),
        ("The correct answer to this question is B.", "B"),
        ("Option B is the correct answer.", "B"),
        ("Therefore, option (B) is correct.", "B"),
        ("the answer is (b) since", "B"),
        ("<answer>B</answer>", "B"),
        ("答案为：B", "B"),
        ("答案应该是B", "B"),
        ("正确选项是：B. London", "B"),
        ("选项A：错误。\n选项B：正确。\n故选B。", "B"),
        ("【答案】B", "B"),
        ("不选A", None),
        # two letters are none
        ("The answer is A and C.", None),
        ("Answer: A, C", None),
        ("答案：A、C", None),
        (r"\boxed{A、C}", None),
        ("The answer is A, and B is wrong", "A"),
        ("The answer is A. The other option is C.", "A"),
        ("The answer is D.C.", None),
        (r"\boxed{Thea}", None),  # a word that begins with "the"
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    assert answer_format("choice").extract(text, CITIES) == letter


def test_without_options_a_letter_is_one() -> None:
    assert letter_of("(e)") == "E"
    assert letter_of("Paris") is None
    assert letter_of("red", ("red", "Red.")) is None  # the text of two options


def test_options_in_tex() -> None:
    read, options = answer_format("choice").extract, (r"$\frac{1}{2}$", r"$2\pi$", "12")
    for text, letter in (
        (r"\dfrac{1}{2}", "A"),
        (r"2 \pi", "B"),
        (r"\textbf{(B)}\ 2\pi", "B"),
        (r"\textbf{(C) } 12", "C"),
    ):
        assert read(rf"\boxed{{{text}}}", options) == letter


@pytest.mark.parametrize(
    ("one", "two", "are_same"),
    [
        ("10³", "103", False),  # Unicode's compatible form of ³ is 3
        ("10³", "10^3", True),
        (".5", "5", False),
        ("-.5", "-5", False),
        ("(1, 2)", "[1, 2]", False),
        ("(1, 2)", "1, 2", False),
        ("(Paris)", "Paris", True),
        ("【喜】", "喜", True),
        ("《红楼梦》", "红楼梦", True),
        ("«Paris»", "„Paris“", True),
        ("*Paris*", "Paris", True),
        ("Paris\u200b", "Paris", True),
        ("Paris,France", "Paris, France", True),
        (r"\textsf{x}", r"\(x\)", True),
        ("int*", "int", False),
        ("New York", "NewYork", False),
    ],
)
def test_text_that_is_the_same(one: str, two: str, are_same: bool) -> None:
    with Equivalence(mode="string") as equivalence:
        assert equivalence.same(TextAnswer(one), TextAnswer(two)) == are_same


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>1</answer> no, <ANSWER> 2 </ANSWER>", "2"),
        ("<answer>1</answer> <answer>2", "1"),
        ("<answer></answer>", None),
        ("<answer>your answer</answer>", None),
        ("</answer>1<answer>", None),
        ("<think><answer>1</answer></think>", None),
    ],
)
def test_tag(text: str, answer: str | None) -> None:
    assert answer_format("tag").extract(text) == answer


def test_pattern() -> None:
    assert answer_format("regex:答案[:：](.+)").extract("答案：北京\n答案：上海") == "上海"
    assert answer_format(r"regex:\d+ apples").extract("5 apples or 6 apples") == "6 apples"
    assert answer_format("regex:(a)|b").extract("b") is None  # the group took no part


def test_equality_goes_with_the_format() -> None:
    with Equivalence(mode="string") as equivalence:
        same = equivalence.same
        as_maths, as_text = answer_format("tag"), answer_format("tag/text")
        five = "<answer>5</answer>", "<answer>5 cm</answer>"
        assert same(*map(as_maths.extract, five))  # units vanish in mathematics
        assert not same(*map(as_text.extract, five))
        assert same(as_text.extract("<answer>**New  York**.</answer>"), recorded("new york", "tag/text"))
        assert answer_format("boxed").extract(r"\boxed{5}") == "5"
        assert not isinstance(answer_format("boxed").extract(r"\boxed{5}"), TextAnswer)


def test_text_is_compared_without_a_worker() -> None:
    with Equivalence() as equivalence:
        equivalence.prepare([[TextAnswer("x^y + y"), TextAnswer("y + x^y")]])
        assert not equivalence.same(TextAnswer("x^y + y"), TextAnswer("y + x^y"))
        assert not equivalence.same(TextAnswer("ab"), "ba")
        assert equivalence.same(TextAnswer("Straße"), TextAnswer("STRASSE"))
        assert not equivalence.same(TextAnswer("C++"), TextAnswer("C"))
        assert equivalence.same(TextAnswer("?"), TextAnswer("?"))
        assert equivalence.counts.asked == 0


def test_letters_and_texts_of_options_vote_together() -> None:
    # B, London, (b) are three votes for B; C and A are one each: 3 of 5, so the label is B
    read = answer_format("choice").extract
    texts = [r"\boxed{B}", r"\boxed{London}", "The answer is (B).", r"\boxed{C}", r"\boxed{Paris}"]
    rollouts = [Rollout("q", "original", "student", read(text, CITIES)) for text in texts]
    with Equivalence() as equivalence:
        scores = consensus_rewards(rollouts, "student", "same", equivalence.same)
    assert scores.votes["q", "original", "student"].agreement == 3 / 5
    assert scores.rewards == (1.0, 1.0, 1.0, 0.0, 0.0)


def test_a_pattern_that_is_slow_on_many_responses_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("co_rewarding.algo.answer_format.PATTERN_SECONDS", 0.05)
    monkeypatch.setattr("co_rewarding.algo.answer_format.MAX_SLOW", 2)
    extract = answer_format(r"regex:^(aa|a)+$").extract
    with pytest.warns(UserWarning):
        assert extract("a" * 60 + "b") is None
    with pytest.raises(OwnFunctionError, match="on 2 responses: it backtracks"):
        extract("a" * 60 + "b")


def test_truths() -> None:
    assert truth_of("Paris", "no/such/file.py:function", CITIES) == "Paris"  # no function is loaded for it
    assert isinstance(truth_of("(B)", "choice", CITIES), TextAnswer)
    assert ground_truth_answer(truth_of(r"\boxed{5 cm}", "tag/text")) == "5 cm"  # read twice, it is the same
    assert answer_format("choice").truth("new york", CITIES) == "C"
    assert answer_format("choice").truth("(c)", CITIES) == "C"
    assert answer_format("number").truth("steps ... #### 1,000") == "1000"
    assert answer_format("tag").truth("<answer>7</answer>") == "7"
    assert answer_format("tag").truth("7") == "7"
    assert answer_format(None).truth(r"\boxed{7}") == "7"
    assert answer_format("regex:x(.)").truth("  ") is None


def test_a_function_is_found_from_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_spec("mine.py:read/math") == f"{tmp_path}/mine.py:read/math"
    for spec in ("", "tag/text", "regex:a.py:b", "package.module:read"):
        assert absolute_spec(spec) == spec


def test_a_function(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def last_word(text, choices):\n    return text.split()[-1] if text else None\n", encoding="utf-8")
    assert answer_format(f"{file}:last_word").extract("it is Paris") == "Paris"
    file.write_text("def number(text):\n    return 3\n", encoding="utf-8")
    with pytest.raises(OwnFunctionError, match=r"mine\.py:1 \(number\): returned 3; return text, or None"):
        answer_format(f"{file}:number").extract("x")
    with pytest.raises(ValueError, match=r"has no function nothing; it has number"):
        answer_format(f"{file}:nothing")
    file.write_text("def number(text:\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.py:broken: line 1: "):
        answer_format(f"{file}:broken")
    file.write_text("import sys\nsys.exit(2)\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.py:script: line 2: SystemExit: 2"):
        answer_format(f"{file}:script")
    file.write_text("def upper(text, **settings):\n    return text.upper()\n", encoding="utf-8")
    assert answer_format(f"{file}:upper").extract("a", CITIES) == "A"  # only a second place takes the options
    with pytest.raises(ValueError, match="cannot be read"):
        answer_format(f"{tmp_path / 'no.py'}:f")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [("box", "is unknown: use boxed, choice, number, tag"), ("regex:(", "is no regular"), ("choice/math", "letters")],
)
def test_what_is_no_format_is_reported(spec: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        answer_format(spec)


@pytest.mark.parametrize("spec", ["boxed", "choice", "number", "tag"])
def test_a_prompt_asks_with_its_own_instruction(spec: str) -> None:
    assert answer_format(spec).is_asked_in(answer_format(spec).instruction)
    assert spec == "number" or not answer_format(spec).is_asked_in("What is 1+1?")


HOSTILE = ["<answer>" * 20_000, "Answer: " * 20_000, "1," * 50_000, "1" * 200_000, "\\boxed{" * 20_000, "(" * 100_000]
HOSTILE += ["选项:" * 50_000, "1 " * 100_000]


@pytest.mark.parametrize("spec", ["choice", "number", "tag", "regex:(.*)x(.*)"])
@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:9])
def test_hostile_text_costs_no_time(spec: str, text: str) -> None:
    begun = time.process_time()
    answer_format(spec).extract(text, CITIES)
    assert time.process_time() - begun < 4.0


def test_a_pattern_that_explodes_has_no_answer_and_is_reported() -> None:
    begun = time.process_time()
    with pytest.warns(UserWarning, match="took 1 s on 1 responses"):
        assert answer_format(r"regex:^(a|aa)+$").extract("a" * 60 + "b") is None
    assert time.process_time() - begun < PATTERN_SECONDS + 2
