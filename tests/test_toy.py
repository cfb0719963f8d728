# SPDX-License-Identifier: Apache-2.0
"""The embedded default's data and model: reproducible, disjoint, answer-preserving, readable by the tokenizer."""

import hashlib
import subprocess
import sys
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from co_rewarding.answers import extract_answer
from co_rewarding.pairs import check_pairs
from co_rewarding.toy.arithmetic import SYSTEM_PROMPT, Fact, make_pair, split_facts, worked_solution
from co_rewarding.toy.tiny_model import build_model, build_tokenizer, facts_outside, render_prompt, warm_up

FILES = ("train.parquet", "train_rephrased.parquet", "test.parquet")


@pytest.fixture(scope="module")
def folders(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same data made twice, and nothing else."""
    made = (tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second"))
    for folder in made:
        command = [sys.executable, repo / "scripts/make_toy_data.py", "--local_dir", folder, "--num_train", "300"]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return made


def test_files_are_reproducible_byte_for_byte(folders: tuple[Path, Path]) -> None:
    for name in FILES:
        first, second = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders)
        assert first == second, name


def test_files_pair_up_and_differ_in_the_question_only(folders: tuple[Path, Path]) -> None:
    original, rephrased, test = (pq.read_table(folders[0] / name).to_pylist() for name in FILES)
    assert (len(original), len(test)) == (300, 500)
    check_pairs(original, rephrased, names=FILES[:2])
    for a, b in zip(original, rephrased, strict=True):
        assert a["prompt"][0] == {"role": "system", "content": SYSTEM_PROMPT}
        assert a["prompt"][1]["content"] != b["prompt"][1]["content"]
        assert {**a, "prompt": None} == {**b, "prompt": None}


def test_no_test_question_is_trained_on_in_any_order_of_its_operands(folders: tuple[Path, Path]) -> None:
    def facts(name: str) -> set[tuple]:
        rows = pq.read_table(folders[0] / name)["extra_info"].to_pylist()
        return {(max(row["a"], row["b"]), min(row["a"], row["b"]), row["operation"]) for row in rows}

    assert len(facts("test.parquet")) == 500
    assert not facts("train.parquet") & facts("test.parquet")


@pytest.mark.parametrize(
    ("fact", "solution"),
    [
        # units first: 8 + 3 = 11, so 1 is carried: 5 + 2 + 1 = 8
        (Fact(58, 23, "add"), r"8+3=11; 5+2+1=8; \boxed{81}"),
        # 1 < 8, so ten is borrowed: 11 - 8 = 3, and one ten less remains: 7 - 5 = 2
        (Fact(81, 58, "subtract"), r"11-8=3; 7-5=2; \boxed{23}"),
    ],
)
def test_worked_solutions_are_right(fact: Fact, solution: str) -> None:
    rng = Random(0)
    found = {worked_solution(question) for _ in range(20) for question in make_pair(fact, rng)}
    assert solution in found
    assert {extract_answer(text) for text in found} == {str(fact.answer)}


def test_tokenizer_inverts_itself_and_the_template_keeps_the_system_prompt() -> None:
    tokenizer = build_tokenizer()
    train, _ = split_facts(200, 10, seed=0)
    texts = [question.text for fact in train for question in make_pair(fact, Random(1))]
    for text in [*texts[:200], "naïve Ω ≠ 3\n\tx", worked_solution(make_pair(train[0], Random(2))[0])]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    prompt = render_prompt(tokenizer, texts[0])
    assert SYSTEM_PROMPT in prompt
    assert texts[0] in prompt
    assert (
        max(len(tokenizer(render_prompt(tokenizer, text))["input_ids"]) for text in texts) <= 64
    )  # the quickstart's limit


def test_warm_up_refuses_a_target_it_cannot_end_at() -> None:
    tokenizer = build_tokenizer()
    train, test = split_facts(200, 10, seed=0)
    facts = facts_outside(train + test)
    assert not set(facts) & set(train + test)
    with pytest.raises(ValueError, match=r"target_accuracy=0\.99"):
        warm_up(build_model(tokenizer, 0), tokenizer, facts, target_accuracy=0.99, max_minutes=1, seed=0)
