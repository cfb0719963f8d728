# SPDX-License-Identifier: Apache-2.0
"""The relation with its modes, and its workers, which read what the reader cannot."""

import asyncio
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

from co_rewarding.algo.equivalence.relation import Counts, Equivalence, WorkerError, _Worker

REPO = Path(__file__).resolve().parents[2]
# \ell and \hbar are names that only math-verify knows
HANGS = r"\binom{100000000}{50000000}+\ell"  # it evaluates this while reading; a small expression to look at


# A worker takes a second to start, so tests share these two and count from where they find them.


@pytest.fixture(scope="module")
def equivalence():
    with Equivalence() as relation:
        yield relation


@pytest.fixture(scope="module")
def hasty():
    """Gives up after 0.2 CPU seconds, or 5 × 0.2 + 1 = 2 s by the clock."""
    with Equivalence(timeout_s=0.2) as relation:
        yield relation


PAIRS = [
    (r"\ell+\ell", r"2\ell", True),
    (r"(\ell+1)^2", r"\ell^2+2\ell+1", True),
    (r"\ell", r"\hbar", False),
    (r"(\ell+\ell, 1)", r"(2\ell, 1)", True),
    (r"\ell+1", "x+1", False),
]


@pytest.mark.parametrize(("a", "b", "same"), PAIRS)
def test_what_only_math_verify_reads(equivalence, a, b, same):
    assert equivalence.same(a, b) == equivalence.same(b, a) == same


def test_nested_boxes_make_no_set(equivalence):
    # math-verify reads two boxes as the set of both; here a box is never looked for inside an answer
    assert not equivalence.same(r"\boxed{1}, \boxed{2}", "3")
    assert equivalence.same("1,2", "2,1")


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


def test_a_hang_costs_its_time_once_and_is_counted(hasty):
    assert hasty.same(r"\ell+\ell", r"2\ell")
    before = hasty.counts
    assert not hasty.same(HANGS, r"3\ell")
    assert (hasty.counts - before).timeouts == 1
    # the answer that hung is known: compared by its spelling from now on, in whatever pair or list it comes
    assert not hasty.same(r"3\ell", HANGS)
    assert not hasty.same(rf"({HANGS},x)", r"(3\ell,x)")
    assert hasty.same(HANGS, HANGS)
    assert hasty.same(r"\ell+\hbar", r"\hbar+\ell")
    assert (hasty.counts - before).failures == 1


def test_the_wall_clock_deadline_does_not_need_the_worker(hasty):
    assert hasty.same(r"3\ell+\ell", r"4\ell")
    before = hasty.counts
    keeper = hasty._slots.queue[0]._process.pid
    os.killpg(keeper, signal.SIGSTOP)
    start = time.monotonic()
    assert not hasty.same(r"5\ell+\ell", "6x")
    assert 1.5 < time.monotonic() - start < 10.0
    assert (hasty.counts - before).timeouts == 1
    assert hasty.same(r"6\ell+\ell", r"7\ell")  # by a new worker


def test_a_dead_worker_is_replaced(equivalence):
    assert equivalence.same(r"\ell+\ell", r"2\ell")
    before = equivalence.counts
    os.kill(equivalence._slots.queue[0]._process.pid, signal.SIGKILL)
    equivalence._slots.queue[0]._process.wait()
    assert equivalence.same(r"\ell+3\ell", r"4\ell")
    # it died between two answers, and none is to blame
    assert equivalence.counts - before == Counts(calls=1, asked=2)


def test_memory_is_limited():
    # 100 MiB hold math-verify (65 MiB) but no work to speak of; Equivalence itself allows no less than 256
    worker = _Worker(timeout_s=5.0, memory_mb=100)
    try:
        assert worker.ask({"answer": r"2^{2000000000}+\ell"}) == {"failure": "memory_kills"}
    finally:
        worker.kill()


def test_unreadable_answers_are_counted_once(equivalence):
    before = equivalence.counts
    for other in (r"\ell", r"\hbar", "x+1"):
        assert not equivalence.same(r"x\circ y", other)
    assert (equivalence.counts - before).parse_failures == 1


def test_only_what_could_be_the_same_is_read(equivalence):
    before = equivalence.counts
    assert not equivalence.same(r"\imath+1", "(1,2)") and not equivalence.same(r"\imath+1", r"\text{Monday}")
    assert equivalence.counts - before == Counts(calls=2)


def test_groups_are_read_together_by_all_workers_and_within_the_budget_of_a_step():
    groups = [[rf"{n}\ell+\ell", rf"{n + 1}\ell", "7"] for n in range(2, 8)] + [[r"9\hbar"] * 8]
    with Equivalence(workers=2) as relation:
        relation.prepare(groups)
        assert relation.counts == Counts(asked=12)  # a group of one answer needs none
        assert len([worker for worker in relation._slots.queue if worker is not None]) == 2
        assert all(relation.same(a, b) for a, b, _ in groups[:-1])
        assert relation.counts == Counts(calls=6, asked=12)
    with Equivalence(step_budget_s=1e-6) as relation:
        relation.prepare([[r"3\ell", r"\ell+2\ell"]])
        assert relation.counts.asked == 1  # and that spent it
        assert not relation.same(r"3\ell", r"\ell+2\ell")
        assert relation.counts.over_budget > 0
        relation.prepare([])  # a new step
        relation._step_budget_s = relation._seconds_left = 60.0
        assert relation.same(r"3\ell", r"\ell+2\ell")


def test_workers_start_before_they_are_needed():
    with Equivalence(workers=2) as relation:
        relation.start()
        deadline = time.monotonic() + 60
        while len([worker for worker in list(relation._slots.queue) if worker is not None]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert relation.same(r"\ell+\ell", r"2\ell")


def test_readings_are_remembered_as_many_as_asked_for():
    for cache_size, asked in ((2, 2), (1, 4)):
        with Equivalence(cache_size=cache_size) as relation:
            assert relation.same(r"2\ell", r"\ell+\ell") and relation.same(r"2\ell", r"\ell+\ell")
            assert relation.counts == Counts(calls=2, asked=asked)


def test_threads_executors_and_workers_that_outlive_the_thread_that_started_them():
    pairs = [(rf"{n}\ell+\ell", rf"{n + 1}\ell") for n in range(2, 12)] + [(rf"{n}\hbar", r"\ell") for n in (2, 3, 5)]
    with Equivalence(workers=2) as relation:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda pair: relation.same(*pair), pairs * 3))
        assert found == ([True] * 10 + [False] * 3) * 3
        assert relation.counts.failures == 0
        workers = set(relation._slots.queue)  # the threads that started them have ended with the pool

        async def in_coroutine() -> bool:
            return await asyncio.get_running_loop().run_in_executor(
                None, relation.same, r"\ell+\ell\ell", r"\ell^2+\ell"
            )

        assert asyncio.run(in_coroutine())
        assert set(relation._slots.queue) == workers
        assert [worker._process.poll() for worker in workers] == [None, None]
        assert relation.counts.failures == 0


def test_a_forked_process_starts_workers_of_its_own(equivalence):
    assert equivalence.same(r"\ell+\ell", r"2\ell")
    before = equivalence.counts
    pid = os.fork()
    if pid == 0:
        os._exit(0 if equivalence.same(r"\ell+80\ell", r"81\ell") else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert equivalence.same(r"\ell+81\ell", r"82\ell")
    assert equivalence.counts - before == Counts(calls=1, asked=2)


def test_no_worker_survives_a_killed_program():
    """Neither one that is busy nor one that waits for a question."""
    program = textwrap.dedent(
        rf"""
        import threading, time
        from co_rewarding.algo.equivalence.relation import Equivalence
        busy, idle = Equivalence(timeout_s=60), Equivalence()
        start = threading.Thread(target=idle.same, args=(r"\ell+\ell", r"2\ell"))
        start.start()  # at the same time as the other
        assert busy.same(r"\ell+\ell", r"2\ell")
        start.join()
        print(*(relation._slots.queue[0]._process.pid for relation in (busy, idle)), flush=True)
        busy.same(r"{HANGS}", r"\ell")
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
        pytest.raises(WorkerError, match=r"did not start .No module named .* check that math-verify can be imported"),
    ):
        relation.same(r"\ell+\ell", r"2\ell")


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
        relation.same(r"\ell+\ell", r"2\ell")
