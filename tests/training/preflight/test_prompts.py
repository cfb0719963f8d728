# SPDX-License-Identifier: Apache-2.0
"""What a model is asked, all rows of it: too long, without a box, lost by the template. One line says so before Ray."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig
from transformers import AutoTokenizer

from co_rewarding.tools.quickstart.tiny_model import CHAT_TEMPLATE
from co_rewarding.training.dataset import PairedDataset
from co_rewarding.training.preflight import prompts
from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.data import read_data

NAMES = {"data.train_files": "train", "data.train_aug_files": "train_rephrased", "data.val_files": "test"}
LONG = "What is 1 + 1? " * 20


@pytest.fixture
def with_questions(
    config: DictConfig, sample_rows: dict[str, Any], tmp_path: Path
) -> Callable[[str, dict[int, str | None]], None]:
    """with_questions(key, {row: text}): `config` with other questions in the file of `key`; None: no system prompt."""

    def change(key: str, texts: dict[int, str | None]) -> None:
        rows = copy.deepcopy(sample_rows[NAMES[key]])
        for i, text in texts.items():
            if text is None:
                del rows[i]["prompt"][0]
            else:
                rows[i]["prompt"][-1]["content"] = text
        path = tmp_path / f"{NAMES[key]}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        config.data[key.removeprefix("data.")] = str(path)

    return change


def lines(capsys: pytest.CaptureFixture[str], part: str) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if part in line]


def test_a_good_file_has_no_warning(config: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    check_config(config)
    out = capsys.readouterr().out
    assert "WARNING" not in out
    assert "data: 16 questions to train on, in batches of 8: 2 steps" in out


def test_prompts_that_are_left_out_are_counted(
    config: DictConfig, with_questions: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with_questions("data.train_files", {3: LONG, 4: LONG})
    with_questions("data.train_aug_files", {4: LONG, 9: LONG})
    config.data.train_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size = 4
    config.co_rewarding.suspect_data = "warn"  # of its numbers that are gone
    check_config(config)
    out = capsys.readouterr().out
    assert "prompts over data.max_prompt_length=128 tokens, left out" in out
    assert "2 of 16 (rows 3, 4)" in out and "2 of 16 (rows 4, 9)" in out
    assert "data: 13 questions to train on, in batches of 4: 3 steps" in out  # 16 without 3, 4 and 9
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    assert len(PairedDataset(config.data.train_files, tokenizer, config.data)) == 13


def test_samples_are_drawn_before_long_ones_go(
    config: DictConfig, with_questions: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_questions("data.train_files", {3: LONG, 12: LONG})
    config.co_rewarding.suspect_data = "warn"
    config.data.train_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size = 2
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    found: list[int] = []
    monkeypatch.setattr(prompts, "check_steps", lambda config, questions: found.append(questions))
    for shuffle, seed, is_known in ((False, None, True), (True, 7, True), (True, None, False)):
        config.data.train_max_samples, config.data.shuffle, config.data.seed = 10, shuffle, seed
        check_config(config)
        kept = len(PairedDataset(config.data.train_files, tokenizer, config.data, max_samples=10))
        assert found[-1] == kept if is_known else found[-1] == 8 <= kept


def test_most_prompts_too_long(config: DictConfig, refused_after: Callable[..., str]) -> None:
    refused_after("data.max_prompt_length", 4, "data.train_files=", "prompts over", "16 of 16", "suspect_data=warn")
    config.co_rewarding.suspect_data = "warn"
    refused_after("data.max_prompt_length", 4, "has 0 questions", "less than one batch")


def test_less_than_a_batch_within_the_limit(
    with_questions: Callable[..., None], refusal: Callable[..., str], config: DictConfig
) -> None:
    config.data.train_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size = 16
    with_questions("data.train_files", {3: "What is 3 + 10? " * 20})
    refusal("data.train_batch_size=16: data.train_files has 15 questions within data.max_prompt_length=128")


def test_more_steps_than_the_questions_that_are_left(
    with_questions: Callable[..., None], refusal: Callable[..., str], config: DictConfig
) -> None:
    config.trainer.total_training_steps = 2
    check_config(config)
    with_questions("data.train_files", {3: "What is 3 + 10? " * 20})
    refusal("trainer.total_training_steps=2: 15 questions in batches of 8", "make 1 steps")


@pytest.mark.parametrize("key", list(NAMES))
def test_prompts_without_a_box(
    config: DictConfig,
    with_questions: Callable[..., None],
    refusal: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    key: str,
) -> None:
    rows = 6 if key == "data.val_files" else 16
    with_questions(key, dict.fromkeys(range(4, rows)))  # all but the first four
    refusal(
        f"{key}=",
        "in its format (boxed)",
        f"{rows - 4} of {rows} (rows 4, 5",
        "suspect_data=warn",
    )
    with_questions(key, {5: None})
    check_config(config)
    (line,) = lines(capsys, "(boxed)")
    assert f" WARNING: {key}=" in line and f": 1 of {rows} (rows 5)" in line


def test_a_template_that_asks_for_the_box(config: DictConfig, with_questions: Callable[..., None]) -> None:
    with_questions("data.train_files", dict.fromkeys(range(16)))
    config.actor_rollout_ref.model.custom_chat_template = r"Answer in \boxed{}. " + CHAT_TEMPLATE
    check_config(config)


def test_a_message_that_is_lost_in_a_later_row(
    config: DictConfig, with_questions: Callable[..., None], refusal: Callable[..., str]
) -> None:
    config.actor_rollout_ref.model.custom_chat_template = (
        "{% set messages = messages if 'Sum' not in messages[-1]['content'] else messages[1:] %}" + CHAT_TEMPLATE
    )
    check_config(config)
    with_questions("data.train_aug_files", {7: "Sum 10 and 7."})
    refusal("chat template leaves out the system message", "train_rephrased.parquet, row 7;", "CHAT_TEMPLATE in")


def test_a_template_that_fails_for_a_later_row(
    config: DictConfig, with_questions: Callable[..., None], refusal: Callable[..., str]
) -> None:
    config.actor_rollout_ref.model.custom_chat_template = (
        "{% if 'Sum' in messages[-1]['content'] %}{{ raise_exception('no sums') }}{% endif %}" + CHAT_TEMPLATE
    )
    with_questions("data.val_files", {2: "Sum 10 and 2."})
    refusal("chat template rejects the messages of data.val_files=", "row 2 (", "no sums")


def test_a_token_that_the_model_does_not_know(config: DictConfig, refusal: Callable[..., str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(config.actor_rollout_ref.model.path)
    prompts.check_prompts(config, read_data(config), tokenizer, len(tokenizer))
    with pytest.raises(ValueError, match=r"its tokenizer makes token \d+ from data.train_files, .*has 20 \(vocab"):
        prompts.check_prompts(config, read_data(config), tokenizer, 20)


@pytest.mark.parametrize(("steps", "refused"), [(2, True), (3, False), (None, False)])
def test_a_guard_of_labels_that_never_acts(
    config: DictConfig, refusal: Callable[..., str], steps: int | None, refused: bool
) -> None:
    # 16 questions in batches of 8: two steps are one visit of each, three begin a second
    config.data.train_batch_size, config.trainer.total_epochs, config.trainer.total_training_steps = 8, 2, steps
    config.co_rewarding.max_label_flips = 0
    if refused:
        with pytest.raises(ValueError, match=r"^co_rewarding\.max_label_flips=0: cannot be exceeded in 1 visits"):
            prompts.check_steps(config, 16)
    else:
        prompts.check_steps(config, 16)
