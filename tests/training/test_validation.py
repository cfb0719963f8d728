# SPDX-License-Identifier: Apache-2.0
"""Validation of questions with and without a ground truth, through verl's own metrics, and of none at all."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from verl import DataProto

from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.launch import _prepare_validation
from co_rewarding.training.reward_manager import GroupRewardManager
from co_rewarding.training.rollout_io import STATED_AS
from co_rewarding.training.run_monitor import RunMonitor, progress_line
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer

MESSAGES = [{"role": "system", "content": "Box it."}, {"role": "user", "content": "1 + 1?"}]
PROMPT_T = 3  # tokens of every prompt here


@pytest.fixture(scope="module")
def validate() -> Any:
    """What verl's reward loop gets for a response, from a row as `_compute_score` hands it over."""
    tokenizer = build_tokenizer()
    config = OmegaConf.create({"co_rewarding": {"method": "majority_voting"}})

    async def run(
        text: str, truth: str, messages: Any = MESSAGES, info: Any = None, spec: str = "", choices: Any = ()
    ) -> dict[str, Any]:
        manager = GroupRewardManager(config, tokenizer)
        with manager.equivalence:
            response_T = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            padded = torch.tensor([response_T + [tokenizer.pad_token_id] * 5])
            mask = torch.tensor([[1] * (PROMPT_T + len(response_T)) + [0] * 5])
            row = {
                "raw_prompt": messages,
                "reward_model": {"style": "rule", "ground_truth": truth},
                "extra_info": info or {},
                STATED_AS: {"answer_format": spec, "choices": list(choices)},
            }
            data = DataProto.from_dict(
                tensors={"prompts": torch.ones(1, PROMPT_T), "responses": padded, "attention_mask": mask},
                non_tensors={name: np.array([value]) for name, value in row.items()},  # as verl wraps them
            )
            return await manager.run_single(data) | {"expected length": len(response_T)}

    return lambda *arguments: asyncio.run(run(*arguments))


@pytest.mark.parametrize(
    ("text", "truth", "acc", "pred"),
    [
        (r"so \boxed{2}", "2", 1.0, "2"),
        (r"so \boxed{2}", r"\boxed{2}", 1.0, "2"),  # a ground truth may be boxed
        (r"so \boxed{3}", "2", 0.0, "3"),
        ("so 2", "2", 0.0, ""),
        (r"so \boxed{2}", "", None, "2"),
        (r"so \boxed{2}", "  ", None, "2"),
        ("so 2", "", None, ""),
        (r"so \boxed{0}", "0", 1.0, "0"),
    ],
)
def test_a_response_says_the_same_things_with_and_without_a_ground_truth(
    validate: Callable[..., dict[str, Any]], text: str, truth: str, acc: float | None, pred: str
) -> None:
    result = validate(text, truth)
    info = result["reward_extra_info"]
    assert (result["reward_score"], info["acc"], info["pred"]) == (acc or 0.0, acc, pred)
    assert info["length"] == result["expected length"]
    keys = {"acc", "pred", "length", "question", "prompt_id", "answer_format", "choices", "failure"}
    assert info.keys() == keys  # verl takes the first row's keys for all


@pytest.mark.parametrize(
    ("text", "truth", "acc", "pred"),
    [("The answer is (B).", "b", 1.0, "B"), (r"\boxed{Rome}", "B", 1.0, "B"), (r"\boxed{A}", "Rome", 0.0, "A")],
)
def test_an_answer_is_read_and_compared_in_the_format_of_its_row(
    validate: Callable[..., dict[str, Any]], text: str, truth: str, acc: float, pred: str
) -> None:
    info = validate(text, truth, MESSAGES, None, "choice", ["Paris", "Rome"])["reward_extra_info"]
    assert (info["acc"], info["pred"]) == (acc, pred)
    assert (info["answer_format"], info["choices"]) == ("choice", '["Paris", "Rome"]')


def test_what_a_users_function_raises_is_no_wrong_answer(
    validate: Callable[..., dict[str, Any]], trainer: GroupRewardTrainer, tmp_path: Path
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def last(text):\n    return text.split()[9]\n", encoding="utf-8")
    info = validate("so 2", "2", MESSAGES, None, f"{file}:last")["reward_extra_info"]
    line = f"{file}:2 (last): IndexError: list index out of range"
    assert (info["acc"], info["failure"]) == (None, line)
    with pytest.raises(OwnFunctionError) as raised:
        trainer._val_metrics_update([], [], {name: [value] for name, value in info.items()}, [])
    assert str(raised.value) == line


def test_a_prompt_is_told_from_another_by_all_of_it(validate: Callable[..., dict[str, Any]]) -> None:
    system, user = MESSAGES
    prompts = (MESSAGES, [system, {**user, "content": "1 + 2?"}], [{**system, "content": "Think."}, user], [user])
    ids = [validate("", "", prompt)["reward_extra_info"]["prompt_id"] for prompt in prompts]
    assert len(set(ids)) == 4
    assert validate("another", "7")["reward_extra_info"]["prompt_id"] == ids[0]


def test_the_last_response_of_a_run_is_read_as_the_first_is() -> None:
    """A process that grades validations takes no step, after which there would be time again."""
    tokenizer = build_tokenizer()
    manager = GroupRewardManager(OmegaConf.create({"co_rewarding": {"method": "majority_voting"}}), tokenizer)
    with manager.equivalence as equivalence:
        equivalence._seconds_left = 0  # what the validations before may have left
        response_T = tokenizer.encode(r"\boxed{3\ell}", add_special_tokens=False)
        assert manager._grade(response_T, r"\ell+2\ell", "", ()) == (r"3\ell", True)
        assert (equivalence.counts.asked, equivalence.counts.over_budget) == (2, 0)


@pytest.mark.parametrize(
    ("extra_info", "name"),
    [
        ({"index": 7, "split": "test"}, "test 7"),
        ({"index": 0, "split": None}, "0"),
        ({"index": "a"}, "a"),
        ({"index": None, "split": "test"}, ""),
        ({}, ""),
    ],
)
def test_a_question_is_named_by_what_its_wordings_share(
    validate: Callable[..., dict[str, Any]], extra_info: dict[str, Any], name: str
) -> None:
    assert validate("", "", MESSAGES, extra_info)["reward_extra_info"]["question"] == name


@pytest.fixture
def trainer(tmp_path: Path) -> GroupRewardTrainer:
    made = object.__new__(GroupRewardTrainer)
    config = OmegaConf.create({"co_rewarding": {"method": "majority_voting", "equivalence": "string"}})
    made.reward_manager = GroupRewardManager(config, build_tokenizer())
    made.monitor = RunMonitor(Settings("majority_voting"), 8, tmp_path)
    return made


def metrics_of(trainer: GroupRewardTrainer, rows: list[tuple[str, str, float | None, str]], lost: Any = ()) -> dict:
    """`_val_metrics_update` of rows (source, uid, acc, pred), and of questions (source, uid) whose responses failed."""
    sources, uids, accs, preds = (list(column) for column in zip(*rows, strict=True))
    infos = {
        "reward": [acc or 0.0 for acc in accs],
        "acc": accs,
        "pred": preds,
        "length": [4] * len(rows),
        "question": [f"test {uid}" for uid in uids],
        "prompt_id": [f"prompt of {uid}" for uid in uids],
        "answer_format": [""] * len(uids),
        "failure": [""] * len(uids),
    }
    expected = {(source, uid): uids.count(uid) or 2 for source, uid in [*zip(sources, uids, strict=True), *lost]}
    return trainer._val_metrics_update(sources, uids, infos, [1] * len(rows), expected_acc_counts=expected)


def test_accuracy_is_of_the_questions_with_a_ground_truth(trainer: GroupRewardTrainer) -> None:
    labelled = [("sums", "a", 1.0, "2"), ("sums", "a", 0.0, "3"), ("sums", "b", 1.0, "4"), ("sums", "b", 1.0, "4")]
    unlabelled = [("sums", "c", None, "5"), ("sums", "c", None, "5"), ("sums", "d", None, ""), ("sums", "d", None, "")]
    mixed = metrics_of(trainer, [*labelled, *unlabelled])
    assert mixed["val-core/sums/acc/mean@2"] == (1 / 2 + 1) / 2
    alone = metrics_of(trainer, labelled)
    accuracies = {name: value for name, value in mixed.items() if name.startswith(("val-core", "val-aux"))}
    assert accuracies == {name: value for name, value in alone.items() if name in accuracies}
    assert {name for name in alone if name.startswith("val-core")} <= accuracies.keys()
    # a vs b: 1/2 and 1; c: 1, d: none found an answer
    assert mixed["val-label-free/sums/agreement"] == (1 / 2 + 1 + 1 + 0) / 4
    assert mixed["val-label-free/sums/answer_share"] == 6 / 8
    assert alone["val-label-free/sums/stability"] == 1.0  # the second time that a and b were asked


def test_a_set_without_any_ground_truth_has_no_accuracy_of_zero(trainer: GroupRewardTrainer) -> None:
    metrics = metrics_of(trainer, [("sums", "a", 0.0, "3"), ("open", "b", None, "4")])
    assert metrics["val-core/sums/acc/mean@1"] == 0.0
    assert not [name for name in metrics if name.startswith(("val-core/open", "val-aux/open"))]
    assert metrics["val-label-free/open/answer_share"] == 1.0
    alone = metrics_of(trainer, [("open", "b", None, "4")])
    assert not [name for name in alone if "acc" in name or "reward" in name]
    assert alone["val-label-free/open/stability"] == 1.0


def test_a_response_that_failed_is_a_wrong_one_where_there_is_a_ground_truth(trainer: GroupRewardTrainer) -> None:
    # verl's rule; a question all of whose responses failed may have had one
    rows = [("sums", "a", 1.0, "2"), ("open", "c", None, "2")]
    metrics = metrics_of(trainer, rows, lost=[("sums", "b"), ("open", "d")])
    assert metrics["val-core/sums/acc/mean@2"] == 0.0 and metrics["val-aux/sums/acc/mean@1"] == 1.0
    assert not [name for name in metrics if name.startswith(("val-core/open", "val-aux/open"))]


def test_the_majority_answers_go_through_a_checkpoint(tmp_path: Path) -> None:
    settings = Settings("majority_voting")
    first, again, older = (RunMonitor(settings, 8, tmp_path) for _ in range(3))
    first.held_out_history.flips({("sums", "1f"): "5"}, str.__eq__)
    (tmp_path / "global_step_3").mkdir()
    first.save(3, 1, {})
    again.load(tmp_path / "global_step_3")
    assert again.held_out_history.flips({("sums", "1f"): "6"}, str.__eq__) == (1, 1)
    state = tmp_path / "global_step_3/co_rewarding.json"
    state.write_text('{"labels": [], "watch": ' + state.read_text().partition('"watch": ')[2])  # an older checkpoint
    older.load(tmp_path / "global_step_3")
    assert older.held_out_history.flips({("sums", "1f"): "6"}, str.__eq__) == (0, 0)


def test_the_line_of_a_validation_says_what_there_is() -> None:
    metrics = {
        "val-core/sums/acc/mean@2": 0.75,
        "val-label-free/sums/agreement": 0.9,
        "val-label-free/sums/answer_share": 1.0,
        "val-label-free/open/set/agreement": 0.625,
        "val-label-free/open/set/answer_share": 1.0,
        "val-label-free/one/answer_share": 0.5,
    }
    assert progress_line(5, 9, metrics) == (
        "step 5/9: validation accuracy 0.750 (sums), validation agreement 0.625 (open/set), validation answered 0.500 "
        "(one)"
    )


@pytest.mark.parametrize("files", [None, "", []])
def test_without_files_nothing_is_validated(
    config: DictConfig, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    config.data.val_files, config.trainer.test_freq, config.trainer.val_before_train = files, 10, True
    _prepare_validation(config)
    assert (config.trainer.test_freq, config.trainer.val_before_train, config.data.val_files) == (-1, False, [])
    trainer = object.__new__(GroupRewardTrainer)
    trainer.config, trainer.tokenizer, trainer.processor, trainer.trainer_mode = config, build_tokenizer(), None, "sync"
    trainer.parameter_sync_step = 1
    trainer._init_dataloader()  # verl's own
    assert (len(trainer.train_dataset), len(trainer.val_dataset), list(trainer.val_dataloader)) == (16, 0, [])
    assert trainer.total_training_steps == 2  # 16 questions in batches of 8, once


def test_with_files_the_settings_stay(config: DictConfig) -> None:
    before = config.copy()
    _prepare_validation(config)
    assert config == before
