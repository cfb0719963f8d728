# SPDX-License-Identifier: Apache-2.0
"""The relation on answers as people and models write them, and the workers that keep it bounded."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from co_rewarding.algo.equivalence import worker
from co_rewarding.algo.equivalence.normal_form import is_explosive, normal_form, number, parts
from co_rewarding.algo.equivalence.relation import Counts, Equivalence, WorkerError, _Worker

REPO = Path(__file__).resolve().parents[2]
HANGS = r"\binom{100000000}{50000000}"  # math-verify evaluates it while reading; a small expression to look at


# A worker takes a second to start, so tests share these two and count from where they find them.


@pytest.fixture(scope="module")
def equivalence():
    with Equivalence() as relation:
        yield relation


@pytest.fixture(scope="module")
def hasty():
    """Gives up after 0.2 CPU seconds, or 5 × 0.2 + 1 = 2 s by the clock, and remembers one pair."""
    with Equivalence(timeout_s=0.2, cache_size=1) as relation:
        yield relation


SAME = [
    (r"\frac{1}{2}", "0.5"),
    (r"\frac12", "1/2"),
    (r"\dfrac1{72}", r"\frac{1}{72}"),
    (r"-\frac{17}7", r"\frac{-17}{7}"),
    (r"1\frac{1}{2}", "1.5"),  # a mixed number
    (r"300,\!000", "300000"),
    ("300,000", "300{,}000"),
    (r"\$ 1500", "1500"),
    (r"50\%", "50"),  # percent is a unit
    (r"150^\circ", "150"),
    (r"20\text{ days}", "20"),
    ("15 cm^2", r"15\text{ cm}^{2}"),
    (r"15\pi\text{ cm}", r"15\pi"),
    ("x=5", "5"),
    (r"x \in [2,5)", "[2, 5)"),
    ("x=5, x=-2", "-2 or 5"),
    (r"\text{Monday}", "monday"),
    (r"\text{(A)}", "A"),
    (r"\text{H, E}", "E,H"),
    ("52_8", "52_{8}"),
    (r"\{1,2\}", "2, 1"),
    (r"\left( \frac{3}{10}, 1 \right)", "(0.3,1)"),
    # from here on by algebra
    (r"\sqrt{4}", "2"),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt 2}"),
    ("15(3x+2)", "45x+30"),
    (r"2 \sin b \cos a", r"2\cos a\sin b"),
    ("y^2 - 4x = 0", "4x = y^2"),
    (r"\begin{pmatrix} 0 \\ 1/11 \end{pmatrix}", r"\begin{pmatrix} 0 \\ \frac{1}{11} \end{pmatrix}"),
    (r"(\sqrt{4}, 1)", "(2,1)"),
    (r"2,-2", r"\pm 2"),
    (r"(-\infty,\infty)", r"\mathbb{R}"),
    ("3+2i", "2i+3"),
]

DIFFERENT = [
    (r"\frac{1}{3}", "0.333333"),  # numbers are exact
    (r"50\%", "0.5"),
    ("52_8", "52"),
    ("52_8", "52_9"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "1,2"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(2,1)"),
    ("(2,1)", "(5,3)"),
    ("1,1,2", "1,2"),
    ("100, 101", "100,101"),  # two numbers, and one of six digits
    ("6", "2x+3y=6"),  # math-verify: true in one direction
    ("1<x<2", "(1,2)"),  # likewise
    ("x=1, y=2", "x=2, y=1"),
    ("even", "neve"),  # words, not products of letters
    ("A", "a"),
    ("5", "five"),
    ("2i", "2"),
    (r"3\mathbf{i}", "3"),
    (r"8\!:\!34 \text{ p.m.}", r"8\!:\!34 \text{ a.m.}"),
    ("2x", "3x"),
    (r"\sqrt{2}", "1.41"),
    ("5", ""),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(equivalence, a, b):
    assert equivalence.same(a, b)
    assert equivalence.same(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(equivalence, a, b):
    assert not equivalence.same(a, b)
    assert not equivalence.same(b, a)


def test_nested_boxes_make_no_set(equivalence):
    # math-verify reads two boxes as the set of both; here a box is never looked for inside an answer
    assert not equivalence.same(r"\boxed{1}, \boxed{2}", "3")
    assert equivalence.same("1,2", "2,1")


def test_comparison_in_the_worker_is_symmetric_and_transitive():
    """On the worker's own function, in both orders: Equivalence orders a pair before it asks."""
    answers = sorted({normal_form(a) for pair in SAME[-10:] for a in pair} | {"6", "2x+3y=6", "1<x<2", "(1,2)", "x"})
    scratch = worker.Scratch()
    same = {(a, b): worker.compare(a, b, frozenset(), scratch)["same"] for a, b in itertools.product(answers, repeat=2)}
    for a, b in itertools.combinations(answers, 2):
        assert same[a, b] == same[b, a], (a, b)
    for a, b, c in itertools.product(answers, repeat=3):
        assert not (same[a, b] and same[b, c]) or same[a, c], (a, b, c)


def test_numbers_agree_with_fractions():
    rng = random.Random(0)
    relation = Equivalence()
    written = []
    for _ in range(400):
        value = Fraction(rng.randint(-40, 40), rng.choice([1, 1, 2, 3, 4, 5, 8]))
        top, bottom = value.numerator, value.denominator
        forms = [f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac {{ {top} }} {{ {bottom} }}"]
        if bottom in (1, 2, 4, 5, 8):  # finite as decimals
            forms.append(str(float(value)))
        written.append((value, rng.choice(forms)))
    for (value_a, a), (value_b, b) in zip(written, rng.sample(written, len(written)), strict=True):
        assert relation.same(a, b) == (value_a == value_b), (a, b)
    assert relation.counts == Counts(calls=400)  # no worker was needed


def test_normal_form_is_a_normal_form():
    for answer in {a for pair in SAME + DIFFERENT for a in pair}:
        assert normal_form(normal_form(answer)) == normal_form(answer)
    assert normal_form(r"\left( -\frac12 , \sin b \right) .") == r"(-\frac{1}{2},\sin b)"
    assert number(r"2\frac{3}{4}") == Fraction(11, 4)
    assert number("1/0") is None
    assert parts(r"(1,2)\cup(3,4)") is None
    assert parts("(1,2),(3,4)") == ("", ("(1,2)", "(3,4)"))


@pytest.mark.parametrize(
    ("mode", "same", "different"),
    [
        ("exact", (" 1/2 ", "1/2"), (r"\dfrac12", r"\frac12")),
        ("string", (r"\dfrac12", r"\frac{1}{2}"), ("0.5", "1/2")),
        ("math", ("0.5", "1/2"), ("0.5", "1/3")),
    ],
)
def test_modes(mode, same, different):
    relation = Equivalence(mode=mode)
    assert relation.same(*same)
    assert not relation.same(*different)


def test_real_answers_survive_retyping(equivalence, real_data):
    """Ground truths of MATH against the same answer typed another way, and against each other."""
    data = real_data / "math/train_original.parquet"
    if not data.exists():
        pytest.skip(f"no real data at {data}")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(data, columns=["reward_model"]).to_pylist()
    truths = [row["reward_model"]["ground_truth"] for row in table if row["reward_model"]["ground_truth"].strip()]
    rng = random.Random(0)
    for truth in rng.sample(truths, 1000):
        retyped = f"$ {truth.replace(chr(92) + 'frac', chr(92) + 'dfrac').replace('(', '( ').replace('^2', '^{2}')} $."
        assert equivalence.same(truth, retyped), (truth, retyped)
    numbers = [truth for truth in truths if number(normal_form(truth)) is not None]
    assert len(numbers) > 0.8 * len(truths)  # 82 %, so that few pairs need a worker
    for a, b in zip(rng.sample(truths, 40), rng.sample(truths, 40), strict=True):
        assert equivalence.same(a, b) == equivalence.same(b, a)


HOSTILE = {
    "tower": "9^{9^{9^9}}",
    "tower of ten": "10^{10^{10}}",
    "factorial": "100000000!",
    "factorials": "((((9!)!)!)!)",
    "deep": r"\frac{" * 300 + "1" + "}{2}" * 300,
    "deep brackets": "(" * 250 + "1" + ")" * 250,
    "long": "1+" * 50_000 + "1",
    "braces": "{" * 100_000,
    "digits": "9" * 100_000,
    "digits of a number": "9" * 500,
    "commas": "," * 500,
    "many parts": ",".join("abcdefghijklmnopqrstuvwxyz" * 9),
    "sets of sets": r"\{" * 80 + "x" + r",y\}" * 80,
    "half a surrogate pair": "\ud800x+1",
    "null": "x\0+1",
    "line breaks": "x\n+\n1",
    "nothing": "",
    "backslash": "\\",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_cheap_and_harmless(equivalence, name):
    answer = HOSTILE[name]
    start = time.monotonic()
    assert equivalence.same(answer, answer)
    assert not equivalence.same(answer, r"\sqrt{3}+x")
    assert not equivalence.same("7", answer)
    assert time.monotonic() - start < 10.0  # measured: under 0.2 s each
    assert equivalence.same(r"\sqrt{16}", "4")


def test_what_explodes_is_not_evaluated():
    explosive = ["9^{9^{9^9}}", "2^{3^{4}}", "10^{100000}", "5000!", "(3!)!", "(" * 30 + ")" * 30]
    assert [is_explosive(answer) for answer in explosive] == [True] * 6
    harmless = ["2^{100}", "2^{27}-2^{11}", "x^{2^n}", "7!", r"\frac{(2n)!}{n!}", "e^{x^2}", "12345^2"]
    assert [is_explosive(answer) for answer in harmless] == [False] * 7


def test_a_hang_costs_its_time_once_and_is_counted(hasty):
    assert hasty.same(r"\sqrt{4}", "2")
    before = hasty.counts
    assert not hasty.same(HANGS, r"\sqrt{2}")
    assert hasty.counts - before == Counts(calls=1, verified=1, timeouts=1)
    # the answer that hung is known: compared as a string from now on, in whatever pair or list it comes
    verified = hasty.counts.verified
    assert not hasty.same(r"\sqrt{3}", HANGS)
    assert not hasty.same(rf"({HANGS},x)", r"(\sqrt{3},x)")
    assert hasty.same(HANGS, HANGS)
    assert hasty.counts.verified == verified
    assert hasty.same(r"\sqrt{9}", "3")
    assert (hasty.counts - before).failures == 1


def test_the_wall_clock_deadline_does_not_need_the_worker(hasty):
    assert hasty.same(r"\sqrt{25}", "5")
    before = hasty.counts
    keeper = hasty._slots.queue[0]._process.pid
    os.killpg(keeper, signal.SIGSTOP)
    start = time.monotonic()
    assert not hasty.same(r"\sqrt{36}", "6")
    assert 1.5 < time.monotonic() - start < 10.0
    assert (hasty.counts - before).timeouts == 1
    assert hasty.same(r"\sqrt{16}", "4")  # by a new worker


def test_a_dead_worker_is_replaced(equivalence):
    assert equivalence.same(r"\sqrt{4}", "2")
    before = equivalence.counts
    os.kill(equivalence._slots.queue[0]._process.pid, signal.SIGKILL)
    equivalence._slots.queue[0]._process.wait()
    assert equivalence.same(r"\sqrt{9025}", "95")
    # it died between two pairs, and no pair is to blame
    assert equivalence.counts - before == Counts(calls=1, verified=1)


def test_memory_is_limited():
    # 100 MiB hold math-verify (65 MiB) but no work to speak of; Equivalence itself allows no less than 256
    worker = _Worker(timeout_s=5.0, memory_mb=100)
    try:
        answer = worker.ask({"a": "(x+y)^2=1", "b": "(x+z)^3=2", "skip": []})
        assert answer["failure"] == "memory"
    finally:
        worker.kill()


def test_unreadable_answers_are_counted_once(equivalence):
    before = equivalence.counts
    for other in (r"\sqrt{2}", r"\sqrt{3}", r"\sqrt{5}"):
        assert not equivalence.same(r"\frac{7}{", other)
    assert equivalence.counts - before == Counts(calls=3, verified=1, parse_failures=1)


def test_cache_and_counts(hasty):
    before = hasty.counts
    assert hasty.same("2x", "x+x") and hasty.same("x+x", "2x")  # the second from the cache
    assert hasty.counts - before == Counts(calls=2, cache_hits=1, verified=1)
    assert hasty.same("3x", "x+2x") and hasty.same("2x", "x+x")  # each drove the other out
    assert (hasty.counts - before).verified == 3


def test_threads_executors_and_workers_that_outlive_the_thread_that_started_them():
    pairs = [(rf"\sqrt{{{n * n}}}", str(n)) for n in range(2, 12)] + [(rf"\sqrt{{{n}}}", "0") for n in (2, 3, 5)]
    with Equivalence(workers=2) as relation:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda pair: relation.same(*pair), pairs * 3))
        assert found == ([True] * 10 + [False] * 3) * 3
        assert relation.counts.failures == 0
        workers = set(relation._slots.queue)  # the threads that started them have ended with the pool

        async def in_coroutine() -> bool:
            return await asyncio.get_running_loop().run_in_executor(None, relation.same, r"\sqrt{400}", "20")

        assert asyncio.run(in_coroutine())
        assert set(relation._slots.queue) == workers
        assert [worker._process.poll() for worker in workers] == [None, None]
        assert relation.counts.failures == 0


def test_a_forked_process_starts_workers_of_its_own(equivalence):
    assert equivalence.same(r"\sqrt{4}", "2")
    before = equivalence.counts
    pid = os.fork()
    if pid == 0:
        os._exit(0 if equivalence.same(r"\sqrt{6561}", "81") else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert equivalence.same(r"\sqrt{6724}", "82")
    assert equivalence.counts - before == Counts(calls=1, verified=1)


def test_no_worker_survives_a_killed_program():
    """Neither one that is busy nor one that waits for a question."""
    program = textwrap.dedent(
        rf"""
        import threading, time
        from co_rewarding.algo.equivalence.relation import Equivalence
        busy, idle = Equivalence(timeout_s=60), Equivalence()
        start = threading.Thread(target=idle.same, args=(r"\sqrt{{4}}", "2"))
        start.start()  # at the same time as the other
        assert busy.same(r"\sqrt{{4}}", "2")
        start.join()
        print(*(relation._slots.queue[0]._process.pid for relation in (busy, idle)), flush=True)
        busy.same(r"{HANGS}", "x+1")
        """
    )
    # fed on stdin, as `python -` is: no main module that a worker could import again
    parent = subprocess.Popen(
        [sys.executable, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        text=True,
    )
    parent.stdin.write(program)
    parent.stdin.close()
    keepers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(keepers) == 2
    time.sleep(0.3)
    assert all(map(_group_is_alive, keepers))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10.0
    while any(map(_group_is_alive, keepers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_group_is_alive, keepers))


def _group_is_alive(group: int) -> bool:
    """Whether a process of the group runs; ended ones that nobody has reaped do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == group and state != "Z":
            return True
    return False


def test_missing_math_verify_is_an_error_and_not_a_verdict(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(REPO)])
    with (
        Equivalence() as relation,
        pytest.raises(WorkerError, match=r"did not start \(No module named 'math_verify'\)"),
    ):
        relation.same(r"\sqrt{4}", "2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "sympy"}, "mode 'sympy' is unknown: use one of math, string, exact"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"workers": 0}, "workers is 0: use 1 or more"),
        ({"memory_mb": 100}, "memory_mb is 100: use 256 or more"),
        ({"cache_size": 0}, "cache_size is 0"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        Equivalence(**arguments)


def test_closed():
    relation = Equivalence()
    relation.close()
    assert relation.same("1/2", "0.5")
    with pytest.raises(RuntimeError, match="closed"):
        relation.same(r"\sqrt{4}", "2")
