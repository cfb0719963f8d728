# SPDX-License-Identifier: Apache-2.0
"""Each validator on pairs that it must and must not object to; all on the published pairs, as data/README.md tells."""

import json
import re
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from co_rewarding.tools.data.validators import VALIDATORS, validate

SUM = "Tom has 12 apples and buys 35 more. How many apples does he have?"
LONG = "A train leaves the station at noon and travels at 60 km/h for 3 hours. " * 3 + "How far does it go?"
FIGURE = "What is the area of the shaded region shown below?\n[asy]\nfill((0,0)--(4,0)--(4,7)--cycle);\n[/asy]"
CHOICE = "Which number is prime?\n(A) 21 (B) 23 (C) 25 (D) 27 (E) 33"


@pytest.mark.parametrize(
    ("question", "rewrite", "name"),
    [
        (SUM, " \n$ $", "empty"),
        (SUM, "<rewritten question>", "placeholder"),
        (SUM, "(the complete new version)", "placeholder"),
        (SUM, "[Your rewritten question here]", "placeholder"),
        (SUM, "Ann bakes 12 and 35 cakes. [insert rephrased question]", "placeholder"),
        (SUM, "<Ann bakes 12 cakes, then 35. How many cakes?>", "wrapped"),
        (SUM, SUM, "unchanged"),
        ("Find $x$ if $x+3=8$.", "find  $x$  if\n$x + 3 = 8$", "unchanged"),
        (SUM, "Ann has 12 cakes and 35 more. How many? ### END_REWRITTEN_QUESTION", "marker_left"),
        (SUM, "Ann has 12 cakes and bakes 35 more. How many cakes are there?<|im_end|>", "marker_left"),
        (SUM, "Here is the rewritten question: Ann has 12 cakes and 35 more. How many?", "commentary"),
        (SUM, "Ann has 12 cakes and 35 more. How many? I have rewritten the story.", "commentary"),
        (SUM, "Ann has 12 cakes and 35 more. How many?\nAnswer: 47", "answer_given"),
        (SUM, "Ann has 12 cakes and 35 more. How many are there? The answer is 47.", "answer_given"),
        (SUM, r"Ann has 12 cakes and 35 more. How many? \boxed{47}", "answer_given"),
        (r"Simplify $\frac{3}{9}$.", r"Write $\frac{3}{9$ in lowest terms.", "broken_latex"),
        ("Find $x+3$.", "What is x+3$ equal to?", "broken_latex"),
        (r"Find $\left(3\right)^4$.", r"Give the value of $\left(3)^4$.", "broken_latex"),
        (r"\begin{align*}x=5\end{align*} Find $x$.", r"If \begin{align*}x=5, what is $x$?", "broken_latex"),
        (SUM, "Ann has some cakes and bakes more. How many cakes are there?", "numbers_vanished"),
        (r"What is the domain of $\sqrt{x-3}$?", r"For which $x$ is $\sqrt{x-5}$ real?", "numbers_vanished"),
        ("How many $x$ satisfy $3874x+481=1205$?", "How many $n$ satisfy $2893n+762=941$?", "numbers_vanished"),
        (FIGURE, "Determine the area of the shaded region in the diagram.", "figure_vanished"),
        (FIGURE, "Calculate the total area of the shaded part.", "figure_vanished"),
        (CHOICE, "One of the following options is prime. Which of the given choices is it?", "choices_vanished"),
        (
            "Tom kauft 12 Äpfel und dann noch 35. Wie viele hat er?",
            "Ann buys 12 pens and then 35. How many?",
            "other_language",
        ),
        (LONG, "3 hours at 60?", "too_short"),
        (SUM, "Find it.", "too_short"),  # 8 characters for 65: 0.12
        ("Compute $12+35$.", "A shop has 12 and 35 things. " + "It is a very nice shop with people. " * 20, "too_long"),
    ],
)
def test_bad_rewrites_are_named(question: str, rewrite: str, name: str) -> None:
    found = [finding.validator for finding in validate(question, rewrite)]
    assert name in found


@pytest.mark.parametrize(
    ("question", "rewrite"),
    [
        (SUM, "Ann baked a dozen cakes, then thirty-five more. What is the total?"),
        (r"Add $\frac79$ and $\frac 45$.", r"What is the sum of $\frac{7}{9}$ and $\frac{4}{5}$?"),
        ("What is $50\\%$ of 30?", "Find half of 30."),
        ("If $\\angle ABC = 90^\\circ$ and $AB = 4$, ...", "Let $PQR$ be a right angle and $PQ = 4$."),
        ("Compute $3 + 4 + 5 + \\cdots + 98$.", "Sum the whole numbers from three to ninety-eight."),
        ("Let $x_{17} = a_{23}$. Is $x_{17} = 5$?", "Let $y_1 = b_2$. Does $y_1$ equal 5?"),
        ("How many digits has 123,456?", "Of how many digits is 123456 made?"),
        ("A book costs \\$5. How much are 8 books?", "At \\$5 apiece, what do 8 pens cost?"),
        ("A book costs $5. How much are 8 books?", "At $5 apiece, what do 8 pens cost?"),
        ("Which cost $4 and $9?", "Which are sold for $4, which for $9, of $x$ things?"),
        (FIGURE, "In a park, a triangle has corners (0,0), (4,0) and (4,7). What is its area?"),
        (FIGURE, "Find the highlighted area:\n[asy]\nfill((0,0)--(4,0)--(4,7)--cycle);\n[/asy]"),
        (CHOICE, "One of these is prime: (A) 21 (B) 23 (C) 25 (D) 27 (E) 33. Which of the options is it?"),
        (CHOICE, "Among 21, 23, 25, 27 and 33, find the prime."),
        (r"Find $x$. Write your answer in \boxed{}.", r"Solve for $x$ and put it into \boxed{}."),
        ("Is the answer 5?", "Would the answer be 5?"),
        ("Which power of 2 divides 48?", "What is the largest power of 2 in 48? If the answer is $2^n$, what is $n$?"),
        (CHOICE, "Choose the prime, and give the letter of your result: (A) 21 (B) 23 (C) 25 (D) 27 (E) 33"),
        ("Find $12+35$.", "Determine the following result: $12+35$"),
        ("Find $12+35$.", "What is $12+35$?\n\nAnswer: ____"),
        ("Mix 3 L of a $40\\%$ solution.", "A chemist wants 3 L of a $40\\%$ solution: help her to mix it."),
        ("Find $x$ if $x+3=8$.", "A number is 3 less than 8. So the two differ. Which number is it?"),
        ("Convert $0.75$ to a fraction.", "Convert the decimal $0.75$ into a common fraction in simplest form."),
        (
            "Diana is 3 years younger than Chad, who is 14.",
            "Lena's age: 3 years less than Max's. Max is 14. Lena's age?",
        ),
        (
            "Find $\\cos\\alpha$ if $\\sin\\alpha=0.6$.",
            "In a triangle αβγ with sin α = 0.6, find cos α, but not β, γ or αβ.",
        ),
        ("Odd braces: }{ and $ of 7.", "Braces that are odd: }{ and $ of 7."),
        (r"Write $[1,2)$ for $x \in \left[1,2\right)$.", r"Say that $x$ is in $\left[1,2\right)$."),
        ("Compute $(2x^3)^3$.", "A plant makes $(2x^3)^3$ boxes an hour with $x$ machines. Simplify that expression."),
    ],
)
def test_good_rewrites_pass(question: str, rewrite: str) -> None:
    assert validate(question, rewrite) == []


@pytest.mark.parametrize(
    "answer",
    ["(Answer: $-3$)", "Answer: -3", "**Answer:** $-3$", "**Answer**: yes", "**Answer:**\n\n$-3$", "Solution: -3",
     "Correct answer: -3", "Its final answer: (B)", r"The answer is $-\frac{1}{2}$.", "Result: $\\pi$",
     "Thus the sum equals $-3$.", "Therefore, the value of $x$ is -3.", "Hence $x = -3$."],
)  # fmt: skip
@pytest.mark.parametrize("space", [" ", "\n", "\n\n"])
def test_an_answer_after_the_question_is_found(answer: str, space: str) -> None:
    question = "Ann bakes 12 cakes and then 35 more. How many cakes are there?" + space + answer
    assert [finding.validator for finding in validate(SUM, question)] == ["answer_given"]
    assert "answer_given" not in [finding.validator for finding in validate(question, question)]


LANGUAGES = {
    "German": "Anna backt 12 Kuchen und dann noch 35 für das Fest im Dorf. Wie viele Kuchen sind es jetzt?",
    "Dutch": "Anna bakt 12 taarten en daarna nog 35 voor het feest in het dorp. Hoeveel taarten zijn dat in totaal?",
    "Danish": "Anna bager 12 kager og derefter 35 mere til festen i byen. Hvor mange kager er der i alt?",
    "French": "Anne prépare 12 gâteaux, puis 35 autres pour la fête du village. Combien de gâteaux y a-t-il en tout ?",
    "Spanish": "Ana prepara 12 pasteles y luego otros 35 para la fiesta del pueblo. ¿Cuántos pasteles hay en total?",
    "Italian": "Anna prepara 12 torte e poi altre 35 per la festa del paese. Quante torte ci sono in tutto?",
    "Portuguese": "Ana faz 12 bolos e depois mais 35 para a festa da aldeia. Quantos bolos existem no total?",
    "Polish": "Anna piecze 12 ciast, a potem jeszcze 35 na święto we wsi. Ile ciast jest razem na stole?",
    "Vietnamese": "Lan nướng 12 chiếc bánh rồi nướng thêm 35 chiếc nữa cho lễ hội. Có tất cả bao nhiêu chiếc bánh?",
    "Turkish": "Ayşe köy şenliği için önce 12 kek, sonra 35 kek daha yapıyor. Toplam kaç kek vardır?",
    "Indonesian": "Ani membuat 12 kue lalu membuat 35 kue lagi untuk pesta desa. Berapa jumlah kue seluruhnya?",
    "Greek": "Η Άννα ψήνει 12 κέικ και μετά άλλα 35. Πόσα κέικ υπάρχουν;",
    "Russian": "Анна печёт 12 пирогов, потом ещё 35. Сколько всего пирогов?",
    "Arabic": "خبزت آنا 12 كعكة ثم 35 كعكة أخرى. كم عدد الكعكات؟",
    "Hindi": "अन्ना 12 केक बनाती है और फिर 35 और। कुल कितने केक हैं?",
    "Bengali": "আনা 12টি কেক বানায়, তারপর আরও 35টি। মোট কয়টি কেক আছে?",
    "Tamil": "அன்னா 12 கேக்குகளையும் பின்னர் 35 கேக்குகளையும் செய்தாள். மொத்தம் எத்தனை?",
    "Thai": "แอนอบเค้ก 12 ชิ้น แล้วอบเพิ่มอีก 35 ชิ้น มีเค้กทั้งหมดกี่ชิ้น",
    "Chinese": "安娜烤了12个蛋糕，又烤了35个。一共有多少个蛋糕？",
    "Japanese": "アンナはケーキを12個焼き、さらに35個焼きました。全部で何個ですか。",
    "Korean": "안나는 케이크를 12개 굽고 35개를 더 구웠습니다. 모두 몇 개입니까?",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_rewrite_in_another_language_is_found(language: str) -> None:
    rewrite = LANGUAGES[language]
    assert [finding.validator for finding in validate(SUM, rewrite)] == ["other_language"]
    assert validate(rewrite, rewrite + " 12") == []  # a set may be in any language


def test_thresholds_and_skipping() -> None:
    question, rewrite = "Add 13, 17 and 29.", "Add 13, 17 and 31."
    assert validate(question, rewrite) == []  # 1 of 3 is gone: 0.33 is not above 0.5
    (finding,) = validate(question, "Add 13, 47 and 66.")  # 2 of 3 are
    assert str(finding) == "numbers_vanished: 2 of 3 numbers are missing: 17, 29"
    assert validate(question, "Add 13, 47 and 66.", skip=["numbers_vanished"]) == []
    with pytest.raises(ValueError, match="validator 'number_vanished' is unknown: use names out of empty, "):
        validate(question, rewrite, skip=["number_vanished"])


@pytest.mark.parametrize(
    "piece",
    ["{", "$", "\\", "(", "[asy]", "1,", "1", "a ", "\\left", "<", "the rewritten ", "\\boxed{", "in the ", " ", "\n",
     "$1", "(A) ", "for example ", "\\frac", "\\[", ". ", "answer:", "19\\,850,",
     "\\text{[asy]}", "0.", "-1", "in the the the "],
)  # fmt: skip
def test_hostile_text_takes_no_time(piece: str) -> None:
    started = time.process_time()
    validate("What is 3 + 4? " + piece * 20, (piece * 20_000)[:20_000])
    validate((piece * 20_000)[:20_000], "What is 3 + 4? [asy]" + piece * 20)
    assert time.process_time() - started < 3.0


@pytest.mark.e2e  # only for its seconds
@pytest.mark.long
@pytest.mark.parametrize(("column", "name"), [(0, "MATH"), (1, "DAPO")])
def test_findings_in_the_published_pairs_are_those_of_the_page(
    column: int, name: str, real_data: Path, repo: Path
) -> None:
    parts = [
        pq.read_table(real_data / name.lower() / f"train_{part}.parquet", columns=["prompt"]).column(0).to_pylist()
        for part in ("original", "rewrite_Qwen3-32B")
    ]
    found = {validator: [] for validator in VALIDATORS}
    for row, (question, rewrite) in enumerate(zip(*parts, strict=True)):
        for finding in validate(question[-1]["content"], rewrite[-1]["content"]):
            found[finding.validator].append(row)
    num_rows, num_found = len(parts[0]), len({row for rows in found.values() for row in rows})

    page = (repo / "data/README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert {validator: int(counts[column]) for validator, *counts in table} == {
        v: len(rows) for v, rows in found.items()
    }
    rows_of = json.loads((repo / "data/published_pairs.json").read_text(encoding="utf-8"))
    assert rows_of[name] == {v: rows for v, rows in found.items() if rows}
    assert re.findall(r"^\| rows in all \| (\d+) \(.*?\| (\d+) \(", page, re.MULTILINE)[0][column] == str(num_found)
    assert f"{num_rows - num_found:,} {'pairs of ' if name == 'MATH' else 'of '}{name}" in page
