# SPDX-License-Identifier: Apache-2.0
"""Every wrong input is told in one line that names the key, the value and the fix, before Ray starts.

Most checks run on the real composed configuration in this process; three run the real command line.
"""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from co_rewarding.launch import launch, run_main
from co_rewarding.preflight import LEGACY_BLOCKS, check_config
from co_rewarding.toy.arithmetic import SYSTEM_PROMPT
from co_rewarding.toy.tiny_model import CHAT_TEMPLATE, build_model, build_tokenizer

NUM_TRAIN, NUM_TEST, BATCH = 16, 6, 8


def make_rows(num: int, wording: str, split: str) -> list[dict[str, Any]]:
    """Rows in verl's schema: question i is i + 10."""
    return [
        {
            "data_source": "toy",
            "prompt": [
                {"role": "system", "content": SYSTEM_PROMPT},
                {"role": "user", "content": wording.format(i)},
            ],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(i + 10)},
            "extra_info": {"index": i, "split": split},
        }
        for i in range(num)
    ]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, Any]]]:
    return {
        "train": make_rows(NUM_TRAIN, "What is {} + 10?", "train"),
        "train_rephrased": make_rows(NUM_TRAIN, "Add 10 to {}.", "train"),
        "test": make_rows(NUM_TEST, "What is {} + 10?", "test"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, list[dict[str, Any]]]) -> Path:
    """Data files and a model folder that pass every check (the checks read no weights)."""
    folder = tmp_path_factory.mktemp("good")
    for name, content in rows.items():
        write(folder / f"{name}.parquet", content)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    build_model(tokenizer, seed=0).config.save_pretrained(folder / "model")
    return folder


def overrides_for(folder: Path) -> list[str]:
    return [
        "platform=cpu",
        f"data.train_files={folder}/train.parquet",
        f"data.train_aug_files={folder}/train_rephrased.parquet",
        f"data.val_files={folder}/test.parquet",
        f"actor_rollout_ref.model.path={folder}/model",
        f"data.train_batch_size={BATCH}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={BATCH}",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64",
        "data.max_prompt_length=128",
        "data.max_response_length=64",
        "trainer.total_epochs=1",
    ]


@pytest.fixture(scope="module")
def composed(folder: Path) -> bytes:
    """Pickled, which makes a copy 30 times faster than deepcopy does."""
    with initialize_config_module("co_rewarding_i.config", version_base=None):
        return pickle.dumps(compose("co_rewarding_i", overrides=overrides_for(folder)))


@pytest.fixture
def config(composed: bytes) -> DictConfig:
    """A configuration that passes; a test spoils its own copy."""
    return pickle.loads(composed)


def write(path: Path, content: list[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(content, schema=schema), path)
    return path


def edited(content: list[dict[str, Any]], row: int, **columns: Any) -> list[dict[str, Any]]:
    """A copy of `content` with columns of one row replaced."""
    content = copy.deepcopy(content)
    content[row].update(columns)
    return content


def refusal(config: DictConfig, *parts: str) -> str:
    """The message with which `config` is refused; it has each of `parts` and is one short line."""
    with pytest.raises(ValueError) as refused:
        check_config(config)
    message = str(refused.value)
    for part in parts:
        assert part in message, message
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1000, message
    return message


def refused_after(config: DictConfig, key: str, value: Any, *parts: str) -> str:
    OmegaConf.update(config, key, value)
    return refusal(config, f"{key}={value}", *parts)


def test_the_good_configuration_passes(config: DictConfig) -> None:
    check_config(config)


def test_lists_of_files_pass(config: DictConfig, folder: Path) -> None:
    for key, name in (("train_files", "train"), ("train_aug_files", "train_rephrased"), ("val_files", "test")):
        config.data[key] = [f"{folder}/{name}.parquet"]
    check_config(config)


def test_data_without_ground_truth_passes(config: DictConfig, rows: dict[str, Any], tmp_path: Path) -> None:
    # label-free training data is what the methods are for
    for key, name in (("train_files", "train"), ("train_aug_files", "train_rephrased")):
        unlabelled = [{**row, "reward_model": {"style": "rule", "ground_truth": ""}} for row in rows[name]]
        config.data[key] = str(write(tmp_path / f"{name}.parquet", unlabelled))
    check_config(config)


# ---- data files ----


@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files", "data.val_files"])
class TestFile:
    def test_missing(self, config: DictConfig, key: str, tmp_path: Path) -> None:
        refused_after(config, key, f"{tmp_path}/nowhere.parquet", "no such file")

    def test_relative_and_missing(self, config: DictConfig, key: str) -> None:
        # the message says where it looked, since the working folder decides
        refused_after(config, key, "nowhere/x.parquet", "no such file", f"{Path.cwd()}/nowhere/x.parquet")

    def test_a_folder(self, config: DictConfig, key: str, tmp_path: Path) -> None:
        refused_after(config, key, str(tmp_path), "no such file")

    def test_not_parquet(self, config: DictConfig, key: str, tmp_path: Path) -> None:
        (tmp_path / "text.parquet").write_text('{"prompt": "no parquet"}\n' * 20)
        refused_after(config, key, f"{tmp_path}/text.parquet", "not a readable parquet file")

    def test_cut_short(self, config: DictConfig, key: str, folder: Path, tmp_path: Path) -> None:
        # a download that broke off
        (tmp_path / "half.parquet").write_bytes((folder / "train.parquet").read_bytes()[:-100])
        refused_after(config, key, f"{tmp_path}/half.parquet", "not a readable parquet file")

    def test_zero_bytes(self, config: DictConfig, key: str, tmp_path: Path) -> None:
        (tmp_path / "empty.parquet").touch()
        refused_after(config, key, f"{tmp_path}/empty.parquet", "not a readable parquet file")

    def test_no_rows(self, config: DictConfig, key: str, folder: Path, tmp_path: Path) -> None:
        pq.write_table(pq.read_table(folder / "train.parquet").slice(0, 0), tmp_path / "none.parquet")
        refused_after(config, key, f"{tmp_path}/none.parquet", "no rows")

    def test_wrong_columns(self, config: DictConfig, key: str, tmp_path: Path) -> None:
        write(tmp_path / "columns.parquet", [{"question": "1+1?", "answer": "2", "prompt": []}])
        refused_after(
            config,
            key,
            f"{tmp_path}/columns.parquet",
            "missing columns data_source, reward_model, extra_info",
            "found question, answer, prompt",
            "data/README.md",
        )

    @pytest.mark.parametrize(
        "prompt",
        [
            "What is 1 + 1?",
            [{"role": "user", "text": "What is 1 + 1?"}],
            [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}],
            [],
        ],
        ids=["text", "no-content", "ends-with-the-answer", "no-messages"],
    )
    def test_wrong_prompts(
        self, config: DictConfig, key: str, rows: dict[str, Any], tmp_path: Path, prompt: Any
    ) -> None:
        write(tmp_path / "p.parquet", [{**row, "prompt": prompt} for row in rows["train"]])
        refused_after(config, key, f"{tmp_path}/p.parquet", "column prompt", "{role, content}", "row 0")

    def test_another_suffix(self, config: DictConfig, key: str, folder: Path, tmp_path: Path) -> None:
        # verl reads a file by its suffix, and only after Ray has started
        name = {"data.train_files": "train", "data.train_aug_files": "train_rephrased", "data.val_files": "test"}[key]
        (tmp_path / "data.pq").write_bytes((folder / f"{name}.parquet").read_bytes())
        refused_after(config, key, f"{tmp_path}/data.pq", ".parquet")

    def test_null(self, config: DictConfig, key: str) -> None:
        OmegaConf.update(config, key, None)
        refusal(config, key)


@pytest.mark.parametrize("key", ["data.train_files", "data.train_aug_files", "data.val_files"])
def test_a_file_that_is_not_set(config: DictConfig, key: str) -> None:
    OmegaConf.update(config, key, "???")
    refusal(config, f"{key} is not set", "run script", f"{key}=")


def test_pairs_of_unequal_length(config: DictConfig, rows: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "short.parquet", rows["train_rephrased"][:-1])
    refused_after(config, "data.train_aug_files", str(path), "data.train_files=", "16 and 15 rows", "same order")


def test_pairs_in_another_order(config: DictConfig, rows: dict[str, Any], tmp_path: Path) -> None:
    swapped = [rows["train_rephrased"][i] for i in (0, 2, 1, *range(3, NUM_TRAIN))]
    path = write(tmp_path / "swapped.parquet", swapped)
    refused_after(
        config,
        "data.train_aug_files",
        str(path),
        "data.train_files=",
        "extra_info.index differs",
        "row 1: 1 and 2; row 2: 2 and 1",
    )


def test_pairs_with_another_answer(config: DictConfig, rows: dict[str, Any], tmp_path: Path) -> None:
    wrong = edited(rows["train_rephrased"], 3, reward_model={"style": "rule", "ground_truth": "-5"})
    path = write(tmp_path / "answer.parquet", wrong)
    truth = rows["train"][3]["reward_model"]["ground_truth"]
    refused_after(config, "data.train_aug_files", str(path), "ground truth differs", f"row 3: '{truth}' and '-5'")


@pytest.mark.parametrize("truth", ["", None])
def test_validation_without_ground_truth(config: DictConfig, rows: dict[str, Any], tmp_path: Path, truth: Any) -> None:
    unlabelled = edited(rows["test"], 2, reward_model={"style": "rule", "ground_truth": truth})
    path = write(tmp_path / "val.parquet", unlabelled)
    refused_after(config, "data.val_files", str(path), "1 rows without reward_model.ground_truth", "[2]")


# ---- sizes ----


def test_fewer_questions_than_a_batch(config: DictConfig) -> None:
    config.actor_rollout_ref.actor.ppo_mini_batch_size = 32
    refused_after(config, "data.train_batch_size", 32, "16 questions")


@pytest.mark.parametrize("n", [1, 0, -1, None, 2.5, "many"])
def test_a_group_that_cannot_vote(config: DictConfig, n: Any) -> None:
    OmegaConf.update(config, "actor_rollout_ref.rollout.n", n)
    refusal(config, f"actor_rollout_ref.rollout.n={n!r}", "at least 2", "NUM_ROLLOUTS")


def test_two_rollouts_are_enough(config: DictConfig) -> None:
    config.actor_rollout_ref.rollout.n = 2  # 8 questions × 2 views × 2 = 32 sequences
    for block, key in (("actor", "ppo_micro"), ("rollout", "log_prob_micro"), ("ref", "log_prob_micro")):
        config.actor_rollout_ref[block][f"{key}_batch_size_per_gpu"] = 32
    check_config(config)


def test_a_mini_batch_that_does_not_divide(config: DictConfig) -> None:
    refused_after(
        config,
        "actor_rollout_ref.actor.ppo_mini_batch_size",
        3,
        f"must divide data.train_batch_size={BATCH}",
        "questions",
    )


@pytest.mark.parametrize("key", ["data.train_batch_size", "actor_rollout_ref.actor.ppo_mini_batch_size"])
@pytest.mark.parametrize("value", [0, -8, "many", 2.5, None])
def test_a_batch_that_is_no_number_of_questions(config: DictConfig, key: str, value: Any) -> None:
    refused_after(config, key, value)


def test_a_generation_batch_that_does_not_divide(config: DictConfig) -> None:
    refused_after(config, "data.gen_batch_size", 3, f"must divide data.train_batch_size={BATCH}")


@pytest.mark.parametrize(
    "key",
    [
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu",
    ],
)
class TestMicroBatch:
    @pytest.mark.parametrize("value", [5, 128])
    def test_does_not_divide(self, config: DictConfig, key: str, value: int) -> None:
        # 8 questions × 2 views × 4 rollouts = 64 sequences on one device
        refused_after(config, key, value, "64 sequences", "MICRO_BATCH_SIZE")

    @pytest.mark.parametrize("value", [0, None, -4, "many"])
    def test_is_no_number_of_sequences(self, config: DictConfig, key: str, value: Any) -> None:
        refused_after(config, key, value)


def test_devices_that_do_not_divide(config: DictConfig) -> None:
    # 64 sequences over 3 devices
    config.trainer.n_gpus_per_node = 3
    refusal(config, f"ppo_mini_batch_size={BATCH}", "2 views x 4 rollouts = 64 sequences", "3 devices")


@pytest.mark.parametrize("key", ["trainer.n_gpus_per_node", "trainer.nnodes"])
@pytest.mark.parametrize("value", [0, -1, "many"])
def test_no_number_of_devices(config: DictConfig, key: str, value: Any) -> None:
    refused_after(config, key, value)


def test_a_tensor_parallel_size_that_does_not_divide(config: DictConfig) -> None:
    refused_after(config, "actor_rollout_ref.rollout.tensor_model_parallel_size", 2, "1 devices")


@pytest.mark.parametrize("value", [0, "many"])
def test_no_number_of_devices_of_an_engine(config: DictConfig, value: Any) -> None:
    refused_after(config, "actor_rollout_ref.rollout.tensor_model_parallel_size", value)


def test_more_steps_than_there_is_data(config: DictConfig) -> None:
    # 16 questions in batches of 8 for 1 epoch: 2 steps
    refused_after(config, "trainer.total_training_steps", 3, "make 2 steps", "raise trainer.total_epochs")
    config.trainer.total_training_steps = 2
    check_config(config)


# ---- our block, verl's legacy and fixed keys ----


@pytest.mark.parametrize(
    ("key", "value"), [("min_agreement", 1.5), ("equivalence", "fuzzy"), ("verify_workers", 0), ("poll_interval_s", -1)]
)
def test_a_setting_out_of_range(config: DictConfig, key: str, value: Any) -> None:
    OmegaConf.update(config, f"co_rewarding.{key}", value)
    refusal(config, f"co_rewarding.{key}={value!r}", "must be")


def test_an_unknown_setting(config: DictConfig) -> None:
    OmegaConf.update(config, "co_rewarding.foo", 1, force_add=True)
    refusal(config, "co_rewarding.foo=1", "unknown key", "min_agreement")


@pytest.mark.parametrize(
    ("key", "value", "successor"),
    [
        ("reward_model.enable", True, "reward.reward_model.enable"),
        ("reward_model.enable", False, "reward.reward_model.enable"),
        ("reward_model.reward_manager", "naive", "reward.reward_manager.name"),
        ("reward_model.model.path", "some/model", "reward.reward_model.model.path"),
        ("custom_reward_function.path", "reward.py", "reward.custom_reward_function.path"),
        ("custom_reward_function.name", "score", "reward.custom_reward_function.name"),
    ],
)
def test_a_legacy_key(config: DictConfig, key: str, value: Any, successor: str) -> None:
    OmegaConf.update(config, key, value)
    refusal(config, f"{key}={value!r}", "silently ignores", f"use {successor}")


def test_each_successor_of_a_legacy_key_exists(config: DictConfig) -> None:
    for successor in LEGACY_BLOCKS.values():
        block, _, name = successor.rpartition(".")
        assert name in list(OmegaConf.select(config, block)), successor


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.use_v1", False),
        ("trainer.v1.trainer_mode", "separate_async"),
        ("algorithm.adv_estimator", "gae"),
        ("algorithm.filter_groups.enable", True),
        ("reward.reward_model.enable", True),
        ("reward.custom_reward_function.path", "reward.py"),
        ("data.return_raw_chat", False),
        ("actor_rollout_ref.actor.strategy", "fsdp"),
    ],
)
def test_a_choice_that_the_method_does_not_have(config: DictConfig, key: str, value: Any) -> None:
    OmegaConf.update(config, key, value)
    refusal(config, f"{key}={value!r}", "must be")


# ---- model ----

MODEL = "actor_rollout_ref.model.path"


@pytest.mark.parametrize("path", ["/nowhere/model", "./nowhere", "~/nowhere/model", "a/b/c", "nowhere"])
def test_a_model_that_is_not_there(config: DictConfig, path: str) -> None:
    refused_after(config, MODEL, path, "no such directory", "MODEL_PATH")


@pytest.mark.parametrize("value", [None, "", 7])
def test_a_model_path_that_is_no_path(config: DictConfig, value: Any) -> None:
    refused_after(config, MODEL, value)


def test_a_folder_without_a_model(config: DictConfig, tmp_path: Path) -> None:
    refused_after(config, MODEL, str(tmp_path), "not a loadable model")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_model_with_a_broken_file(config: DictConfig, folder: Path, tmp_path: Path, file: str) -> None:
    for part in (folder / "model").iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    (tmp_path / file).write_text("{ not json")
    refused_after(config, MODEL, str(tmp_path), "not a loadable model")


@pytest.fixture
def with_template(folder: Path, tmp_path: Path) -> Callable[[str | None], str]:
    """The good model with another chat template; returns its path."""

    def save(template: str | None) -> str:
        tokenizer = build_tokenizer()
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / "other")
        (tmp_path / "other/config.json").write_bytes((folder / "model/config.json").read_bytes())
        return str(tmp_path / "other")

    return save


WITHOUT_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% endif %}{% endfor %}<|assistant|>"
)


def test_a_template_without_the_system_prompt(config: DictConfig, with_template: Callable[[str | None], str]) -> None:
    message = refused_after(config, MODEL, with_template(WITHOUT_SYSTEM), "chat template leaves out the system message")
    assert "Let's think step by step" in message
    assert "custom_chat_template" in message


def test_a_model_without_a_template(config: DictConfig, with_template: Callable[[str | None], str]) -> None:
    refused_after(config, MODEL, with_template(None), "no chat template", "custom_chat_template")


def test_a_template_that_refuses_the_system_role(
    config: DictConfig, with_template: Callable[[str | None], str]
) -> None:
    # as Gemma's does
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    refused_after(config, MODEL, with_template(template + CHAT_TEMPLATE), "System role not supported")


def test_a_custom_template_helps(config: DictConfig, with_template: Callable[[str | None], str]) -> None:
    config.actor_rollout_ref.model.custom_chat_template = CHAT_TEMPLATE
    for template in (None, WITHOUT_SYSTEM):
        config.actor_rollout_ref.model.path = with_template(template)
        check_config(config)


def test_a_custom_template_can_leave_out_the_system_prompt_too(config: DictConfig) -> None:
    config.actor_rollout_ref.model.custom_chat_template = WITHOUT_SYSTEM
    refusal(config, "chat template leaves out the system message", "custom_chat_template")


def test_more_tokens_than_the_model_has_positions(config: DictConfig) -> None:
    # 1024 positions; 961 + 64 is one more
    config.data.max_prompt_length = 961
    refusal(config, "data.max_prompt_length=961", "data.max_response_length=64", "1024 positions")
    config.data.max_prompt_length = 960
    check_config(config)


@pytest.mark.parametrize("key", ["data.max_prompt_length", "data.max_response_length"])
@pytest.mark.parametrize("value", [0, -1, "many", None])
def test_no_number_of_tokens(config: DictConfig, key: str, value: Any) -> None:
    refused_after(config, key, value)


def test_packed_sequences_need_flash_attention(config: DictConfig) -> None:
    refused_after(config, "actor_rollout_ref.model.use_remove_padding", True, "flash_attention_2", "set it to False")


def test_a_gpu_platform_without_a_gpu(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    OmegaConf.update(config, "trainer.device", "cuda")
    refusal(config, "trainer.device='cuda'", "no GPU here", "platform=cpu")


# ---- what the program makes of it ----


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Everything of the program before Ray: returns (exit code or None where Ray would have started, stderr)."""
    from verl.trainer import main_ppo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    started = []
    monkeypatch.setattr(main_ppo, "run_ppo", lambda config, task_runner_class: started.append(task_runner_class))

    def run(config: DictConfig) -> tuple[Any, str]:
        code = None
        try:
            run_main(lambda: launch(config, trainer="co_rewarding_i.trainer.CoRewardingITrainer"))
        except SystemExit as stop:
            code = stop.code
        assert bool(started) == (code is None)
        return code, capsys.readouterr().err

    return run


def test_a_good_configuration_reaches_ray(config: DictConfig, launched: Callable[..., Any]) -> None:
    assert launched(config) == (None, "")


def test_refused_with_exit_code_2_and_one_line(config: DictConfig, launched: Callable[..., Any]) -> None:
    config.actor_rollout_ref.rollout.n = 1
    code, stderr = launched(config)
    assert code == 2
    assert stderr.startswith("error: actor_rollout_ref.rollout.n=1: ")
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        # lines at the top of the run script that verl reads, with a value that cannot work
        ("actor_rollout_ref.actor.optim.lr", "fast"),
        ("actor_rollout_ref.actor.optim.lr_scheduler_type", "cosin"),
        ("actor_rollout_ref.actor.optim.lr_warmup_steps_ratio", "some"),
        ("actor_rollout_ref.actor.clip_ratio", "tight"),
        ("actor_rollout_ref.actor.kl_loss_coef", "small"),
        ("actor_rollout_ref.actor.loss_agg_mode", "mean"),
        ("actor_rollout_ref.rollout.temperature", "hot"),
        ("actor_rollout_ref.rollout.gpu_memory_utilization", "most"),
        ("actor_rollout_ref.rollout.val_kwargs.n", 0),
        ("trainer.total_epochs", 0),
        ("trainer.total_epochs", "three"),
        ("trainer.test_freq", "often"),
        ("trainer.save_freq", "often"),
    ],
)
def test_a_bad_value_of_verls_is_refused_too(
    config: DictConfig, launched: Callable[..., Any], key: str, value: Any
) -> None:
    OmegaConf.update(config, key, value)
    code, stderr = launched(config)
    assert code == 2, f"{key}={value} would have started Ray"
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert key.rpartition(".")[2] in stderr
    assert str(value) in stderr


def command_line(folder: Path, cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The real program; Ray, had it started, would have left its session in `cwd`."""
    done = subprocess.run(
        [sys.executable, "-m", "co_rewarding_i.main", *overrides_for(folder), *overrides],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(cwd / "ray"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2, done.stderr
    assert not (cwd / "ray").exists()
    assert "ray init kwargs" not in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return done


def test_command_line_with_an_unknown_setting(folder: Path, tmp_path: Path) -> None:
    stderr = command_line(folder, tmp_path, "co_rewarding.foo=1").stderr
    assert "co_rewarding.foo" in stderr
    assert "unknown key" in stderr
    assert "min_agreement" in stderr


@pytest.mark.e2e
def test_command_line_with_an_unknown_key_of_verls(folder: Path, tmp_path: Path) -> None:
    stderr = command_line(folder, tmp_path, "trainer.total_epoch=1").stderr
    assert "total_epoch" in stderr


@pytest.mark.e2e
def test_command_line_with_a_missing_file(folder: Path, tmp_path: Path) -> None:
    stderr = command_line(folder, tmp_path, "data.train_files=nowhere.parquet").stderr
    assert "data.train_files=nowhere.parquet" in stderr
    assert str(tmp_path) in stderr


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_unknown_settings_are_told_before_hydra_advises_to_add_them(
    plus: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py", "platform=cpu", f"{plus}co_rewarding.foo=1"])
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: pytest.fail("Hydra ran"))
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "co_rewarding.foo" in message
    assert "unknown key" in message
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_wandb_stays_offline_without_a_key(
    config: DictConfig, launched: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    launched(config)
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    assert variables.WANDB_MODE == "offline"
    assert "WANDB_API_KEY" not in json.dumps(OmegaConf.to_container(config.ray_kwargs))


def test_wandb_goes_online_with_a_key_that_no_config_shows(
    config: DictConfig, launched: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a-secret")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    launched(config)
    assert "WANDB_MODE" not in config.ray_kwargs.ray_init.runtime_env.env_vars
    assert "a-secret" not in OmegaConf.to_yaml(config)
