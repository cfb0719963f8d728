# SPDX-License-Identifier: Apache-2.0
"""Prompts rendered and counted: as verl's own filter does, bounded in time, and kept for the next start."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl.utils.dataset.rl_dataset import RLHFDataset

from co_rewarding.storage.rows import read_rows
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.preflight import cache as cache_module
from co_rewarding.training.preflight import rendering
from co_rewarding.training.preflight.cache import cached
from co_rewarding.training.preflight.rendering import Measured, SlowTemplate, measure

NESTED_LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_module.cache_folder()


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Measured]:
    """measured(*prompts, template=…): of a file with these questions, or lists of messages."""

    def run(*asked: Any, template: str | None = None, **kwargs: Any) -> Measured:
        tokenizer = build_tokenizer()
        tokenizer.chat_template = template or tokenizer.chat_template
        rows = [[{"role": "user", "content": item}] if isinstance(item, str) else item for item in asked]
        path = tmp_path / "data.parquet"
        pq.write_table(pa.table({"prompt": rows}), path)
        return measure(path, [(row, "") for row in rows], tokenizer, kwargs)

    return run


PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def test_what_is_found(measured: Callable[..., Measured]) -> None:
    template = "{% for m in messages if m['role'] != 'assistant' %}{{ m['content'] }}{% endfor %}"
    turn = {"role": "assistant", "content": "Be brief."}
    found = measured("12", r"1+1 in \boxed{}", [turn, {"role": "user", "content": "3"}], template=template)
    tokenizer = build_tokenizer()
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("12", r"1+1 in \boxed{}", "3")]
    assert found.tokens_P == [len(row) for row in ids]
    assert found.highest_id == max(max(row) for row in ids)
    assert found.unasked == [0, 2]
    assert [tuple(pair) for pair in found.lost] == [(2, 0)]
    assert (found.failed, found.num_merged) == ([], 0)


def test_a_system_message_that_the_template_leaves_out_goes_into_the_users(measured: Callable[..., Measured]) -> None:
    template = "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"
    system = {"role": "system", "content": r"In \boxed{}."}
    found = measured([system, {"role": "user", "content": "3"}], "1", template=template)
    tokenizer = build_tokenizer()
    assert found.tokens_P == [len(tokenizer(text)["input_ids"]) for text in ("In \\boxed{}.\n\n3", "1")]
    assert (found.unasked, found.lost, found.num_merged) == ([1], [], 1)


def test_a_row_that_the_template_does_not_take(measured: Callable[..., Measured]) -> None:
    odd = "{% if messages[0]['content'] == '2' %}{{ raise_exception('no twos') }}{% endif %}" + PLAIN
    ((row, reason),) = measured("1", "2", "3", template=odd).failed
    assert row == 1 and "no twos" in reason
    assert [row for row, _ in measured("1", template=PLAIN, add_generation_prompt=False).failed] == [0]  # as for verl


def test_many_rows_stay_in_order(measured: Callable[..., Measured]) -> None:
    asked = ["1" * (1 + i % 7) for i in range(5 * rendering.CHUNK + 3)]
    tokenizer = build_tokenizer()
    expected = {text: len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in set(asked)}
    assert measured(*asked, template=PLAIN).tokens_P == [expected[text] for text in asked]


def test_a_template_that_never_ends_is_ended(
    measured: Callable[..., Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "STALL_S", 1.0)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)  # as a program that ends in order has one
    before = set(psutil.Process().children())
    with pytest.raises(SlowTemplate, match=r"rendering rows 0 to 1 of data\.parquet takes too long"):
        measured("1", "2", template=NESTED_LOOPS)
    signal.signal(signal.SIGTERM, handler)
    assert not set(psutil.Process().children()) - before


def test_a_template_that_takes_all_memory_fails_alone(
    measured: Callable[..., Measured], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "MAX_MEMORY", 2**28)
    ((row, reason),) = measured("1", template="{{ 'a' * 10**10 }}").failed
    assert row == 0 and "Memory" in reason


def test_the_second_time_it_is_recalled(measured: Callable[..., Measured], monkeypatch: pytest.MonkeyPatch) -> None:
    first = measured("1", "22", template=PLAIN)
    monkeypatch.setattr(rendering, "_measure", None)  # calling it would fail
    assert measured("1", "22", template=PLAIN).tokens_P == first.tokens_P
    for other in (
        lambda: measured("1", "23", template=PLAIN),
        lambda: measured("1", "22", template=PLAIN + " "),
        lambda: measured("1", "22", template=PLAIN, enable_thinking=True),
    ):
        with pytest.raises(TypeError):
            other()


def test_a_broken_cache_is_as_good_as_none(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached(("a",), lambda: [1]) == [1]
    (entry,) = cache.iterdir()
    for text in ("", "{", "[]", '{"other": 1}', "\0"):
        entry.write_text(text)
        assert cached(("a",), lambda: [2]) == [2]
        assert json.loads(entry.read_text())["result"] == [2]
    monkeypatch.setenv("XDG_CACHE_HOME", str(entry))  # a file in the folder's place
    assert cached(("a",), lambda: [3]) == [3]


def test_the_cache_is_bounded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_ENTRIES", 3)
    for i in range(5):
        cached((str(i),), lambda: 0)
        os.utime(max(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns), (i, i))
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("limit", [256, 512])
def test_the_same_rows_are_too_long_as_for_verl(
    real_data: Path, sample_folder: Path, tmp_path: Path, limit: int
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(sample_folder / "model")
    path = tmp_path / "some.parquet"
    pq.write_table(pq.read_table(real_data / "math/train_original.parquet").slice(0, 400), path)
    counts = measure(path, [(row["prompt"], "") for row in read_rows(path)], tokenizer, {}).tokens_P
    options = {"max_prompt_length": limit, "filter_overlong_prompts": True, "filter_overlong_prompts_workers": 1}
    kept = RLHFDataset(str(path), tokenizer, OmegaConf.create(options | {"cache_dir": str(tmp_path)}))
    left = [i for i, count in enumerate(counts) if count <= limit]
    assert 0 < len(left) < 400
    assert [row["index"] for row in kept.dataframe["extra_info"]] == left
