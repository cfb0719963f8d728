# SPDX-License-Identifier: Apache-2.0
r"""Measures the answer equivalence: errors, cost of a step, and effect of hostile answers.

    pairs    a table of pairs (verdict, a, b, kind): falsely joined, falsely split, another verdict the other way round
    step     two steps of MATH and two of DAPO: seconds and rewards, against exact strings (as in the published code).
             Six answers in ten are honest spellings of a real row's truth, the others one of a few mistakes
    latex    steps of expressions of 120 characters: all of other values, or a question's one value in other orders
    hostile  groups of five honest and three hostile answers: towers, nestings, huge numbers, junk
    copies   groups in which some box the question's computation (58+23) and the others its result (81)

    python benchmarks/answers.py --part pairs step --list

Processor seconds are of this process and its children, in the first step with their start. Everything is seeded.
"""

from __future__ import annotations

import argparse
import operator
import os
import random
import re
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import psutil

from co_rewarding.algo.answers import extract_answer, ground_truth_answer
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import METHODS, score_rollouts
from co_rewarding.algo.rollouts import VIEWS, RewardInputs, Rollout, Scores, answers_by_question
from co_rewarding.algo.voting import majority_vote
from co_rewarding.storage.rows import ground_truth, read_rows

PROJECT = Path(__file__).resolve().parents[1]
DATA = os.environ.get("CO_REWARDING_DATA", PROJECT.parent / "shared/data")
GROUP = 8  # rollouts of a view
Row = tuple[Rollout, str, str | None]  # ..., the truth, and its spelling: None if wrong, or no answer
KINDS = {  # of a truth: the first pattern that fits all of it, or else it is an expression
    "integer": r"-?\d+|-?\d{1,3}(,(\\!)?\d{3})+",
    "decimal": r"-?\d*\.\d+",
    "fraction": r"(-?) ?\\[dt]?frac *\{? ?(\d+) ?\}? *\{? ?(\d+) ?\}?|(-?)(\d+)/(\d+)",
    "measure": r"([\d.]+) ?(\^\{?\\circ\}?|\\%|\\(?:text|mbox)\{[^{}]+\}(?:\^\d)?)\.?|\\\$ ?([\d.,\\!]+)",
    "words": r"(?!.*\\begin).*\\(text|mbox).*|[A-Za-z ]{2,}",
    "list, tuple": r".*,.*",
    "root, pi": r"[^a-zA-Z]*(\\(sqrt|pi|[dt]?frac|cdot)[^a-zA-Z]*)+",
}
TERM = r"((?:[^-+=,<>()\[\]{}&^_]|\^\d|\{(?:[^{}]|\{[^{}]*\})*\})+)"
COMPOSED = r"(?!.*\\(?:pm|cup|text|mbox|in|begin|\{))"  # whose sum or list is not the outermost


def kind_of(truth: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, truth, re.DOTALL)), "expression")


def decimals(fraction: re.Match[str]) -> str:
    sign, over, under = fraction.groups()[:3] if fraction[2] else fraction.groups()[3:]
    value = f"{Decimal(over) / Decimal(under):f}" if int(under) else fraction[0]
    return sign + value if len(value) < 12 else fraction[0]  # those that end


def sub(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, replacement, text)


SPELLINGS: dict[str, tuple[float, Callable[[str], str]]] = {  # how often, where it changes anything
    "as it is": (10, str),
    "dfrac": (3, sub(r"\\(d?)frac", lambda m: "\\frac" if m[1] else "\\dfrac")),
    "a/b": (1, sub(r"^(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3")),
    "decimals": (2, sub(f"^(?:{KINDS['fraction']})$", decimals)),
    "no braces": (1, sub(r"\\(frac|sqrt)\{(\d)\}(?:\{(\d)\})?(?![{\d])", r"\\\1\2\3")),
    "spaces": (2, sub(r" ?([+=]|(?<!\\),(?!\\!|\d{3}))(?! ) ?", r" \1 ")),
    "text": (3, sub(r"^\\text\{(.*)\}$|^([A-Z][A-Za-z ]*)$", lambda m: m[1] or f"\\text{{{m[2]}}}")),
    "left, right": (3, sub(r"^([(\[])([^()\[\]]*)([)\]])$", r"\\left\1\2\\right\3")),
    "no left, right": (3, sub(r"\\(left|right)(?![a-z])", "")),
    "full stop": (0.2, sub(r"\.*$", ".")),
    "dollar signs": (0.2, sub(r"^([^$]*)$", r"$\1$")),
    "name": (0.5, sub(r"^((?:[-+\d.^{}() ]|\\(?:[dt]?frac|sqrt|pi|circ|%))+)$", r"x = \1")),
    "no name": (3, sub(r"^[a-z] ?= ?(?!.*[=,])", "")),
    "order of a sum": (2, sub(rf"^{COMPOSED}(?!-){TERM}([+-]){TERM}$", lambda m: f"{m[2]}{m[3]}+{m[1]}".lstrip("+"))),
    "order of a list": (3, sub(rf"^{COMPOSED}([^,()\[\]=]+), ?(?!\d{{3}}|\\!)([^,()\[\]=]+)$", r"\2, \1")),
    "no unit": (4, sub(f"^(?:{KINDS['measure']})$", lambda m: m[1] or m[3])),
    "degrees": (3, sub(r"\^\{?\\circ\}?$", r" \\text{ degrees}")),
    "thousands": (3, sub(r",\\!|^-?\d{4,}$", lambda m: "," if "," in m[0] else f"{int(m[0]):,}")),
    "root or pi behind": (2, sub(r"\\([dt]?frac)\{(\d+) ?(\\pi|\\sqrt\{\d+\})\}\{(\d+)\}", r"\\\1{\2}{\4}\3")),
}  # fmt: skip


def wrong_answers(rng: random.Random, truth: str, truths: Sequence[str]) -> list[str]:
    """Likely mistakes: the sign, a changed number, another answer of the same kind."""
    found = [f"-{truth}"] if re.match(r"[1-9]|\\[dt]?frac", truth) else []
    for number in re.finditer(r"\d+", truth):
        changed = max(1, int(number[0]) + rng.choice((-2, -1, 1, 2, 10)))
        found.append(f"{truth[: number.start()]}{changed:0{len(number[0])}}{truth[number.end() :]}")
    found = rng.sample(found, min(2, len(found)))
    found += [other for other in rng.choices(truths, k=200) if kind_of(other) == kind_of(truth)]
    plain = sub(r"[{}()\s.,!$/]|\\(left|right|[dt]?frac|text|mbox|circ|%|!)", "")
    return [answer for answer in found if plain(answer) != plain(truth)][:3]


def step_of(rng: random.Random, truths: Sequence[str], all_truths: Sequence[str]) -> list[Row]:
    rows = []
    for question, truth in enumerate(truths):
        share, mistakes = rng.betavariate(1.2, 0.8), wrong_answers(rng, truth, all_truths)
        for view in VIEWS * GROUP:
            is_right, has_box = rng.random() < share, rng.random() > 0.03
            answer = truth if is_right else rng.choice(mistakes or [truth + "1"])
            texts = {name: change(answer) for name, (_, change) in SPELLINGS.items()}
            names = [name for name, text in texts.items() if text != answer or name == "as it is"]
            name = rng.choices(names, [SPELLINGS[name][0] for name in names])[0]
            box = extract_answer(f"Hence $\\boxed{{{texts[name]}}}$." if has_box else "I give up.")
            rows.append((Rollout(question, view, "student", box), truth, name if is_right and box else None))
    return rows


def processor_seconds() -> float:
    total = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])  # its own and its ended children's
    return total


@contextmanager
def measured(relation: Equivalence, cells: list[Any]) -> Iterator[None]:  # cells get processor s, wall s, counts
    processor, counts, started = processor_seconds(), relation.counts, time.perf_counter()
    yield
    wall, more = time.perf_counter() - started, asdict(relation.counts - counts)
    counted = ", ".join(f"{name} {number}" for name, number in more.items() if number)
    cells += [f"{processor_seconds() - processor:.2f}", f"{wall:.2f}", counted]


def scored(relation: Equivalence, rollouts: Sequence[Rollout], cells: list[Any]) -> Scores:
    with measured(relation, cells):
        relation.prepare(answers_by_question(rollouts))
        return score_rollouts(METHODS["co_rewarding_I"], RewardInputs(rollouts, relation.same))


def code(text: str | None) -> str:
    return "none" if text is None else "`" + text.replace("|", "\\|") + "`"


def table(title: str, head: str, rows: Sequence[Sequence[Any]]) -> None:
    print(f"\n{title}\n\n| {head} |\n|{'---|' * len(head.split(' | '))}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def pairs(args: argparse.Namespace) -> None:
    known = [line.split("\t") for line in args.pairs.read_text("utf-8").strip("\n").split("\n")[1:]]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    with Equivalence() as relation:
        relation.prepare([a, b] for _, a, b, _ in known)
        for verdict, a, b, kind in known:
            joined, turned = relation.same(a, b), relation.same(b, a)
            fault = "" if joined == (verdict == "same") else "falsely joined" if joined else "falsely split"
            for key in (kind.strip(), "Σ"):  # which sorts last
                found[key].update([verdict, fault, "asymmetric" if joined != turned else ""])
            wrong += [(fault, kind.strip(), code(a), code(b))] if fault else []
    head = "different | falsely joined | same | falsely split | asymmetric"
    rows = [[kind, *map(counts.__getitem__, head.split(" | "))] for kind, counts in sorted(found.items())]
    rows.append(["", "", f"{rows[-1][2] / rows[-1][1]:.1%}", "", f"{rows[-1][4] / rows[-1][3]:.1%}", ""])
    table("Pairs", f"kind | {head}", rows)
    if args.list:
        table("Wrong pairs", "fault | kind | a | b", sorted(wrong))


def step(args: argparse.Namespace) -> None:
    costs, rewards = [], []
    for name in ("math", "dapo"):
        table_rows = read_rows(args.data / name / "train_original.parquet")
        truths = [truth for row in table_rows if (truth := ground_truth_answer(ground_truth(row)))]
        (rng := random.Random(args.seed)).shuffle(truths)
        found: list[tuple[Any, ...]] = []  # a row; its reward and label by mathematics, and by exact strings
        with Equivalence() as relation, Equivalence(mode="exact") as exact:
            for at in (0, args.questions):
                rows = step_of(rng, truths[at : at + args.questions], truths)
                rollouts = [rollout for rollout, _, _ in rows]
                costs.append([name, len(rows)])
                ours, theirs = scored(relation, rollouts, costs[-1]), scored(exact, rollouts, [])
                found += zip(rows, ours.rewards, ours.row_labels, theirs.rewards, theirs.row_labels, strict=True)
            known = [relation.same(truth, rollout.answer or "") for (rollout, truth, _), *_ in found]
        for mode, at in (("math", 1), ("exact", 3)):
            paid = Counter((each[0][2] is not None, each[at]) for each in found)
            rewards.append([name, mode, paid[True, 1] + paid[False, 1], paid[True, 1], paid[True, 0], paid[False, 1]])
        differences(name, found, known, 999 if args.list else 8)
    head = "data | mode | rewarded | right answers | right answers not rewarded | wrong answers"
    table(f"Rewards of {len(found)} rollouts", head, rewards)
    table("Comparison of a first and a second step", "data | rollouts | processor s | wall s | counts", costs)


def differences(name: str, found: Sequence[tuple[Any, ...]], known: Sequence[bool], num_shown: int) -> None:
    """Where the two modes reward different rollouts, and where the relation misses the truth."""
    lines: dict[tuple[str, str], list[Any]] = {}
    flagged: Counter[tuple[str, ...]] = Counter()
    for ((rollout, truth, spelling), ours, label, theirs, string), is_truth in zip(found, known, strict=True):
        key, box = (kind_of(truth), spelling or "(wrong)"), code(rollout.answer)
        line = lines.setdefault(key, [*key, 0, 0, 0, ""])
        if ours != theirs:
            line[2 if ours else 3] += 1
            line[5] = line[5] or f"{box} for {code(label if ours else string)}"
        if theirs > ours:
            flagged["right" if spelling else "wrong", code(truth), box, code(string), code(label)] += 1
        if is_truth != (spelling is not None):
            line[4] += 1
            line[5] = f"{box}, truth {code(truth)}"
    head = "truth | spelling | math alone | exact alone | right and not the truth, or wrong and the truth | example"
    differing = sorted((line for line in lines.values() if any(line[2:5])), key=lambda line: (-line[4], -line[2]))
    table(f"Rewards that differ: {name}", head, differing[: 3 * num_shown])
    head = "answer is | truth | answer | label by exact | label by math | rollouts"
    alone = sorted(([*key, number] for key, number in flagged.items()), key=lambda line: (line[0], -line[-1]))
    table(f"! Exact strings alone reward these: {name}, {flagged.total()} rollouts in all", head, alone[:num_shown])


def expression(rng: random.Random, order: random.Random, depth: int) -> str:  # order: of sums, products
    if depth == 0:
        n = rng.randint(2, 99)
        return rng.choice((f"{n}y", f"{n}x^{n % 8 + 2}", "y", r"\pi", rf"\sqrt{{{n}}}"))
    form = rng.choice((r"%s + %s", r"\left(%s\right) \left(%s\right)", r"\frac{%s}{%s}", r"\sqrt{%s} - %s"))
    parts = [expression(rng, order, depth - 1) for _ in range(2)]
    if "frac" not in form and "sqrt" not in form:
        order.shuffle(parts)
    return form % tuple(parts)


def latex(args: argparse.Namespace) -> None:
    costs = []
    for name, questions in (("other values", args.questions), ("one value", args.questions // 16)):
        rng, rollouts, cells = random.Random(args.seed), [], []
        for question, view in product(range(questions), VIEWS * GROUP):
            tree = rng if name == "other values" else random.Random(question)
            rollouts.append(Rollout(question, view, "student", expression(tree, rng, 3)))
        with Equivalence() as relation:
            rewards = scored(relation, rollouts, cells).rewards
        costs.append([name, len(rollouts), len({rollout.answer for rollout in rollouts}), rewards.count(1), *cells])
    head = "a question's answers are of | rollouts | spellings | rewarded | processor s | wall s | counts"
    table("Long expressions", head, costs)


HONEST = (
    (r"\frac{1}{2}", "0.5", r"\dfrac12", "1/2", r"\tfrac{1}{2}", r"\frac{2}{4}"),
    (r"\frac{\sqrt{3}}{2}", r"\frac{1}{2}\sqrt{3}", r"\frac{3}{2\sqrt{3}}", r"\dfrac{\sqrt3}{2}", r"\sqrt{\frac34}"),
    ("(x+1)^2", "x^2+2x+1", "1 + 2x + x^2", "(1+x)^2", "(x+1)(x+1)"),
)
FORMS = r"9^{9^{N}} 1.000001^{NN} N!!! (9^{N})! (x+y+z+N)^{N} \binom{NN}{N00} \sum_{k=1}^{NN}\frac{1}{k^3+N}"
NESTED = r"(|) 9^{|} (1,|) \{1,|\} \frac{1}{1+|} \sqrt{x+|} \sin(x+\log(|)) \frac{| \left(| |}"  # N, | is a number
REPEATED = (",7", " x+1", "\\", "{}", " and ", r"\frac", r" \pm x", "^", "7", " ", r"\begin{pmatrix}")


def hostile_answer(rng: random.Random) -> str:
    number, often = f"{rng.randint(1000, 9999)}", rng.choice((5, 12, 40, 120))
    before, after = rng.choice(NESTED.split()).split("|")
    signs = [*r"\{}()[]^_&%$#!+-*/=<>|,.", *map(chr, rng.choices([*range(768), *range(0x2000, 0xD800)], k=20))]
    return rng.choice((
        rng.choice(FORMS.split()).replace("N", number),
        before * often + number + after * often,
        number + rng.choice(REPEATED) * often * rng.choice((1, 1, 200)),
        number + "".join(rng.choices(signs, k=3 * often)),
        f"{10**480 + rng.getrandbits(1500)}",
    ))  # fmt: skip


def hostile(args: argparse.Namespace) -> None:
    rng, groups = random.Random(args.seed), []
    for number in range(args.hostile // 3):
        answers = rng.choices(HONEST[number % 3], k=5) + [hostile_answer(rng) for _ in range(3)]
        groups.append(rng.sample(answers, GROUP))
    outcomes, reading, slowest, cells = [], 0.0, 0.0, []
    with Equivalence() as relation, measured(relation, cells):
        for at, answers in enumerate(groups):
            started = time.perf_counter()
            if at % 256 == 0:  # a step of 2,048 answers
                relation.prepare(groups[at : at + 256])
                reading, started = max(reading, time.perf_counter() - started), time.perf_counter()
            vote = majority_vote(answers, relation.same)
            slowest = max(slowest, time.perf_counter() - started)
            outcomes.append((vote.pseudo_label not in HONEST[at % 3], vote.num_votes < 5, vote.num_votes > 5))
    head = "groups | labels lost | honest votes split | hostile votes joined | slowest group s | slowest prepare s"
    counts = len(groups), *map(sum, zip(*outcomes, strict=True)), f"{slowest:.2f}", f"{reading:.2f}"
    speed = f"{GROUP * len(groups) / float(cells[1]):.0f}"
    table("Hostile answers", f"{head} | answers/s | processor s | wall s | counts", [[*counts, speed, *cells]])


def copies(args: argparse.Namespace) -> None:
    rng, lines = random.Random(args.seed), []
    operations = {"+": operator.add, "-": operator.sub, r"\times ": operator.mul, r"\cdot ": operator.mul}
    with Equivalence() as relation:
        for (sign, operation), times in product(operations.items(), (5, 3)):
            paid: Counter[bool] = Counter()
            for a, b in (rng.sample(range(12, 99), 2) for _ in range(20)):
                copy, result = f"{a}{sign}{b}", f"{operation(a, b)}"
                answers = rng.sample([copy] * times + [result] * (GROUP - times), GROUP)
                label = majority_vote(answers, relation.same).pseudo_label
                paid.update(answer == copy for answer in answers if relation.same(label, answer))
            shares = paid[True] / times / 20, paid[False] / (GROUP - times) / 20
            lines.append([code(f"a{sign}b"), times, *(f"{share:.0%}" for share in shares)])
    table("Copies", f"in the box | copies of {GROUP} | copies rewarded | answers rewarded", lines)


def main() -> None:
    parts = {part.__name__: part for part in (pairs, step, latex, hostile, copies)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts), help="parts to run (default: all)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of math and dapo (default: %(default)s)")
    parser.add_argument("--pairs", type=Path, default=PROJECT / "tests/algo/pairs.tsv", help="(default: %(default)s)")
    parser.add_argument("--questions", type=int, default=128, help="of a step, 16 rollouts each (default: %(default)s)")
    parser.add_argument("--hostile", type=int, default=3000, help="hostile answers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="every wrong pair, every difference of rewards")
    args = parser.parse_args()
    for name in args.part:
        parts[name](args)


if __name__ == "__main__":
    main()
