# SPDX-License-Identifier: Apache-2.0
"""Generated arithmetic: right answers in every wording, disjoint splits, reproducible files in verl's schema."""

import errno
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from co_rewarding.storage.rows import SYSTEM_PROMPT, make_row, write_rows
from co_rewarding.tools.quickstart import tiny_model
from co_rewarding.tools.quickstart.arithmetic import (
    THINGS,
    WORDINGS,
    Fact,
    all_facts,
    ask,
    borrows,
    direct_solution,
    fact_of,
    make_pair,
    make_pairs,
    slipped_solution,
    split_facts,
    to_rows,
    worked_solution,
)

REPO = Path(__file__).resolve().parents[3]
FILES = ("train.parquet", "train_rephrased.parquet", "test.parquet")


def test_there_are_8190_different_facts() -> None:
    # pairs b <= a out of the 90 numbers 10..99: 90 * 91 / 2 = 4095, for each of two operations
    facts = all_facts()
    assert len(facts) == len(set(facts)) == 8190
    assert {fact.answer for fact in facts} == set(range(0, 199))  # 10 - 10 = 0 up to 99 + 99 = 198


def test_commuted_operands_are_refused_so_that_a_fact_has_one_form() -> None:
    with pytest.raises(ValueError, match=r"\(23, 58\).*larger one first"):
        Fact(23, 58, "add")


def test_splits_are_disjoint_and_the_test_set_does_not_depend_on_the_size_of_train() -> None:
    train, test = split_facts(2048, 500, seed=1)
    assert (len(set(train)), len(set(test)), len(set(train) & set(test))) == (2048, 500, 0)
    assert split_facts(16, 500, seed=1)[1] == test
    assert split_facts(2048, 500, seed=2)[1] != test


@pytest.mark.parametrize(("num_train", "num_test", "named"), [(0, 5, "num_train=0"), (8000, 500, "8190")])
def test_impossible_sizes_are_named(num_train: int, num_test: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        split_facts(num_train, num_test, seed=1)


@pytest.mark.parametrize("operation", ["add", "subtract"])
@pytest.mark.parametrize("family", ["plain", "story"])
def test_every_wording_asks_for_the_fact_in_the_order_of_its_solution(operation, family) -> None:
    fact, rng = Fact(81, 58, operation), Random(0)
    seen = set()
    for _ in range(400):
        question = ask(fact, family, rng, swap=rng.random() < 0.5)
        numbers = [int(number) for number in re.findall(r"\d+", question.text)]
        assert sorted(numbers) == [58, 81]
        if operation == "add":
            assert numbers == [question.x, question.y]  # solutions write a sum in the order in which it is asked
        else:
            assert (question.x, question.y) == (81, 58)
        assert "{" not in question.text
        seen.add(re.sub(r"\d+|apples|books|coins|cards|pens|balls", "_", question.text))
    assert len(seen) == len(WORDINGS[operation][family])


def test_a_pair_is_one_plain_and_one_story_wording_with_a_sums_operands_exchanged() -> None:
    for seed in range(50):
        original, rephrased = make_pair(Fact(58, 23, "add"), Random(seed))
        assert {original.family, rephrased.family} == {"plain", "story"}
        assert (original.x, original.y) == (rephrased.y, rephrased.x)
        original, rephrased = make_pair(Fact(58, 23, "subtract"), Random(seed))
        assert (original.x, original.y) == (rephrased.x, rephrased.y) == (58, 23)


@pytest.mark.parametrize(
    ("fact", "solution"),
    [
        (Fact(58, 23, "add"), r"8+3=11; 5+2+1=8; \boxed{81}"),  # carry
        (Fact(54, 23, "add"), r"4+3=7; 5+2=7; \boxed{77}"),
        (Fact(99, 99, "add"), r"9+9=18; 9+9+1=19; \boxed{198}"),
        (Fact(81, 58, "subtract"), r"11-8=3; 7-5=2; \boxed{23}"),  # borrow: 81 = 70 + 11
        (Fact(58, 23, "subtract"), r"8-3=5; 5-2=3; \boxed{35}"),
        (Fact(10, 10, "subtract"), r"0-0=0; 1-1=0; \boxed{0}"),
    ],
)
def test_worked_solutions(fact: Fact, solution: str) -> None:
    question = ask(fact, "plain", Random(0), swap=False)
    assert worked_solution(question) == solution
    assert solution.endswith(direct_solution(question))


def test_a_slip_takes_the_smaller_digit_from_the_larger_and_is_always_wrong() -> None:
    question = ask(Fact(81, 58, "subtract"), "plain", Random(0), swap=False)
    assert slipped_solution(question) == r"8-1=7; 8-5=3; \boxed{37}"  # columns 1, 8 and 8, 5; the answer is 23
    borrowing = [fact for fact in all_facts() if borrows(fact)]
    # 45 = 10 * 9 / 2 pairs of units with the smaller one on top, 36 = 9 * 8 / 2 pairs of tens with the larger
    assert len(borrowing) == 45 * 36
    for fact in borrowing:
        answer = int(slipped_solution(ask(fact, "story", Random(0), swap=False)).split("{")[1].rstrip("}"))
        assert answer != fact.answer and 0 <= answer <= 99


@pytest.mark.parametrize("fact", [Fact(88, 51, "subtract"), Fact(58, 23, "add")])
def test_there_is_no_slip_without_a_borrow(fact: Fact) -> None:
    with pytest.raises(ValueError, match="needs no borrow"):
        slipped_solution(ask(fact, "plain", Random(0), swap=False))


def test_each_line_of_every_worked_solution_is_true_and_its_digits_make_the_answer() -> None:
    for fact in all_facts():
        steps = worked_solution(ask(fact, "plain", Random(0), swap=True)).split("; ")[:-1]
        results = []
        for step in steps:
            left, right = step.split("=")
            terms = [int(term) for term in re.findall(r"[+-]?\d+", left)]
            assert sum(terms) == int(right)
            results.append(int(right))
        assert results[0] % 10 + 10 * results[1] == fact.answer


def test_rows_of_the_two_views_differ_in_the_users_words_only() -> None:
    pairs = make_pairs(split_facts(20, 5, seed=3)[0], 3, "train")
    for index, (row, other) in enumerate(
        zip(to_rows([p for p, _ in pairs], "train"), to_rows([r for _, r in pairs], "train"), strict=True)
    ):
        assert row["prompt"][0] == {"role": "system", "content": SYSTEM_PROMPT}
        assert row["prompt"][1]["content"] != other["prompt"][1]["content"]
        assert row["extra_info"]["index"] == index
        assert {**row, "prompt": None} == {**other, "prompt": None}


def test_files_are_reproducible_byte_for_byte_and_their_content_is_pinned(
    tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    # once in a process of its own, whose hashes of strings differ from this one's
    command = [sys.executable, str(REPO / "scripts/toy/make_data.py"), "--local_dir", str(tmp_path / "one")]
    subprocess.run(command, capture_output=True, env={"PYTHONPATH": str(REPO)}, check=True)
    assert run_script("toy/make_data.py", "--local_dir", tmp_path / "two")[0] == 0
    hashes = [[hashlib.sha256((tmp_path / f / n).read_bytes()).hexdigest() for n in FILES] for f in ("one", "two")]
    assert hashes[0] == hashes[1]
    tables = {name: pq.read_table(tmp_path / "one" / name).to_pylist() for name in FILES}
    assert [len(tables[name]) for name in FILES] == [2048, 2048, 500]
    assert set(tables["test.parquet"][0]) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    # the rows alone, since the bytes of a parquet file change with the version of pyarrow
    content = hashlib.sha256(json.dumps([tables[name] for name in FILES], sort_keys=True).encode()).hexdigest()
    assert content == "b81960abce8609d4a001225551adb6fd191fb5ed95bd617f6bcaec15d72681c0"


def test_too_many_questions_end_in_one_clear_line(tmp_path: Path, run_script: Callable[..., Any]) -> None:
    code, _, err = run_script("toy/make_data.py", "--local_dir", tmp_path, "--num_train", "9000")
    assert code == 2
    assert "num_train=9000" in err and "Traceback" not in err


def test_a_full_disk_is_reported_with_its_file(
    tmp_path: Path, run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", fail)
    code, _, err = run_script("toy/make_data.py", "--local_dir", tmp_path)
    assert (code, err) == (2, f"make_data.py: error: {tmp_path}/train.parquet: No space left on device\n")


def test_a_model_of_other_data_or_to_nowhere_is_refused_at_once(
    tmp_path: Path, run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "run scripts/toy/make_data.py first" in run_script("toy/make_model.py", "--data-dir", tmp_path)[2]
    for name in ("train", "test"):
        write_rows([make_row("other", "What is 1+1?", "2", 0, "train")], tmp_path / f"{name}.parquet")
    code, _, err = run_script("toy/make_model.py", "--data_dir", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path}/train.parquet: not written by scripts/toy/make_data.py" in err
    assert run_script("toy/make_data.py", "--local_dir", tmp_path)[0] == 0
    monkeypatch.setattr(tiny_model, "warm_up", None)  # it must not come to that
    code, _, err = run_script("toy/make_model.py", "--data_dir", tmp_path, "--output_dir", tmp_path / "test.parquet")
    assert (code, err) == (2, f"make_model.py: error: {tmp_path}/test.parquet: File exists\n")


def test_a_model_that_cannot_be_written_is_reported(
    tmp_path: Path, run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_script("toy/make_data.py", "--local_dir", tmp_path)[0] == 0
    (tmp_path / "model/model.safetensors").mkdir(parents=True)  # as on a full disk, safetensors raises its own error
    monkeypatch.setattr(tiny_model, "warm_up", lambda *_, **__: tiny_model.WarmUp(1, 1.0, 0.5, 0.5))
    code, _, err = run_script("toy/make_model.py", "--data_dir", tmp_path, "--output_dir", tmp_path / "model")
    assert code == 2 and f"make_model.py: error: {tmp_path}/model: " in err and "Traceback" not in err


def test_the_questions_of_one_operation_are_those_of_the_same_split(
    tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    assert run_script("toy/make_data.py", "--local_dir", tmp_path, "--operation", "subtract")[0] == 0
    original, rephrased, test = (pq.read_table(tmp_path / name).to_pylist() for name in FILES)
    facts = [fact_of(row["extra_info"]) for row in original]
    assert facts == [fact_of(row["extra_info"]) for row in rephrased]
    train_facts, test_facts = split_facts(2048, 500, seed=1)
    assert facts == [fact for fact in train_facts if fact.operation == "subtract"]
    assert [fact_of(row["extra_info"]) for row in test] == [f for f in test_facts if f.operation == "subtract"]
    slipped = [row["prompt"] for row in pq.read_table(tmp_path / "plain_borrows.parquet").to_pylist()]
    assert slipped == [
        row["prompt"]
        for row in [*original, *test]
        if borrows(fact_of(row["extra_info"])) and not any(thing in row["prompt"][1]["content"] for thing in THINGS)
    ]
    assert sum(row["prompt"] in slipped for row in test) == 54  # as docs/RESULTS.md says
    code, _, err = run_script(
        "toy/make_data.py", "--local_dir", tmp_path, "--operation", "subtract", "--num_train", "1", "--num_test", "1"
    )
    assert (code, "--operation subtract leaves no questions" in err) == (2, True)
