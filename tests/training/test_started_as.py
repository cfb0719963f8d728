# SPDX-License-Identifier: Apache-2.0
"""A second start under the name of a run: what is refused, allowed and said. All of the program before Ray."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from fake_checkpoints import save
from omegaconf import DictConfig, OmegaConf, open_dict

from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import STATE_FILE, RunDir
from co_rewarding.training import run_script
from co_rewarding.training.asking import settle
from co_rewarding.training.launch import launch, run_main
from co_rewarding.training.started_as import LEADERS, MUST_STAY, begin, check_started_as, identity

Started = Callable[[DictConfig], tuple[Any, list[str], str]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Started:
    """A start up to Ray: (exit code or None, lines of ours on stdout, stderr)."""
    from verl.trainer import main_ppo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setattr(main_ppo, "run_ppo", lambda *_, **__: None)

    def start(config: DictConfig) -> tuple[Any, list[str], str]:
        code = None
        try:
            run_main(lambda: launch(config.copy(), trainer="co_rewarding_i.trainer.CoRewardingITrainer"))
        except SystemExit as stop:
            code = stop.code
        printed = capsys.readouterr()
        lines = [line for line in printed.out.splitlines() if line.startswith("[co-rewarding] ")]
        lines = [line.removeprefix("[co-rewarding] ") for line in lines]
        return code, [line for line in lines if not line.startswith("data: ")], printed.err

    return start


@pytest.fixture
def run(config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path) -> RunDir:
    """Where `config` runs: `mine`, with a cosine schedule, from the run script of Co-rewarding-I."""
    monkeypatch.setenv(run_script.PATH, str(repo / "Co-rewarding-I/run_corewarding-I.sh"))
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    config.trainer.experiment_name = "mine"
    config.actor_rollout_ref.actor.optim.lr_scheduler_type = "cosine"
    return RunDir(tmp_path / "runs/co-rewarding/mine")


@pytest.fixture
def saved(config: DictConfig, run: RunDir) -> RunDir:
    """`run` with a checkpoint of step 1 and the record of its start, without the start."""
    run.path.mkdir(parents=True)
    begin(config)
    save(run.checkpoints, 1)
    return run


def refusal(config: DictConfig) -> str:
    with pytest.raises(ValueError) as error:
        check_started_as(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_from_the_first_start_to_a_resumed_one(config: DictConfig, run: RunDir, started: Started) -> None:
    assert started(config) == (None, [], "")
    record = json.loads(run.started_as.read_text())
    assert record["settings"]["data.train_batch_size"] == 8
    assert record["contents"]["data.train_files"]["given"] == config.data.train_files
    folder = save(run.checkpoints, 1)
    os.utime(folder / "save_state.txt", (1_764_190_980, 1_764_190_980))
    code, (resuming,), stderr = started(config)  # an earlier version's checkpoint
    assert (code, stderr) == (None, "")
    assert resuming.startswith("Resuming from step 1, saved 202") and resuming.endswith(f" ({folder})")
    (folder / STATE_FILE).write_text('{"steps_per_epoch": 58}')
    config.trainer.total_epochs = 1
    assert started(config)[1][0].startswith("Resuming from step 1 of 58, saved 202")
    # another experiment
    config.data.train_batch_size = config.actor_rollout_ref.actor.ppo_mini_batch_size = 16
    config.trainer.total_epochs = 3
    code, lines, stderr = started(config)
    assert (code, lines, stderr.count("\n")) == (2, [], 1)
    assert stderr.startswith(
        f"error: co_rewarding_run_dir={run.path}: its run was started with data.train_batch_size=8, now 16 "
        "(TRAIN_BATCH_SIZE in the run script); trainer.total_epochs=1, now 3 (TOTAL_EPOCHS in the run script); "
    )
    assert "restore the old values to resume from step 1, or choose another RUN_NAME" in stderr
    assert json.loads(run.started_as.read_text()) == record


def test_nothing_was_saved_yet(config: DictConfig, run: RunDir, started: Started) -> None:
    assert started(config)[0] is None
    (run.checkpoints / "global_step_1").mkdir(parents=True)  # killed in its first save
    config.actor_rollout_ref.rollout.n = 8
    assert started(config) == (None, [], "")
    assert json.loads(run.started_as.read_text())["settings"]["actor_rollout_ref.rollout.n"] == 8


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("co_rewarding.method", "format_only", 'co_rewarding.method="co_rewarding_I", now "format_only"'),
        ("co_rewarding.num_votes", 8, "co_rewarding.num_votes=0, now 8 (NUM_VOTES in"),
        ("co_rewarding.min_agreement", 0.5, "co_rewarding.min_agreement=0.0, now 0.5 (MIN_AGREEMENT in"),
        ("co_rewarding.payout", "soft", 'co_rewarding.payout="hard", now "soft" (PAYOUT in'),
        ("co_rewarding.max_label_flips", 0, "co_rewarding.max_label_flips=-1, now 0 (MAX_LABEL_FLIPS in"),
        ("co_rewarding.equivalence", "string", 'co_rewarding.equivalence="math", now "string"'),
        ("data.seed", 7, "data.seed=null, now 7"),
        ("data.max_response_length", 32, "data.max_response_length=64, now 32 (MAX_RESPONSE_LENGTH in"),
        ("actor_rollout_ref.rollout.n", 8, "actor_rollout_ref.rollout.n=4, now 8 (NUM_ROLLOUTS in"),
        ("actor_rollout_ref.rollout.temperature", 0.5, "rollout.temperature=1.0, now 0.5 (TRAIN_TEMPERATURE in"),
        ("actor_rollout_ref.actor.kl_loss_coef", 0.01, "actor.kl_loss_coef=0.001, now 0.01 (KL_LOSS_COEF in"),
        ("actor_rollout_ref.actor.clip_ratio_c", 4.0, "clip_ratio_c=3.0, now 4.0"),
        ("actor_rollout_ref.actor.optim.weight_decay", 0.1, "weight_decay=0.01, now 0.1"),
        ("actor_rollout_ref.actor.optim.betas", [0.9, 0.95], "betas=[0.9, 0.999], now [0.9, 0.95]"),
        ("actor_rollout_ref.model.tokenizer_path", "other", 'tokenizer_path=null, now "other"'),
        ("algorithm.norm_adv_by_std_in_grpo", False, "norm_adv_by_std_in_grpo=true, now false"),
        ("trainer.total_epochs", 2, "trainer.total_epochs=1, now 2 (TOTAL_EPOCHS in the run script); the schedules of"),
        ("trainer.total_training_steps", 1, "trainer.total_training_steps=null, now 1"),
        ("actor_rollout_ref.model.path", "Qwen/Qwen3-4B", ", now Qwen/Qwen3-4B (MODEL_PATH in the run script)"),
    ],
)
def test_another_experiment(config: DictConfig, saved: RunDir, key: str, value: Any, shown: str) -> None:
    check_started_as(config)
    OmegaConf.update(config, key, value)
    assert shown in refusal(config)


def test_a_run_from_before_a_setting_was_started_with_its_default(config: DictConfig, saved: RunDir) -> None:
    record = json.loads(saved.started_as.read_text())
    del record["settings"]["co_rewarding.payout"]
    saved.started_as.write_text(json.dumps(record))
    check_started_as(config)
    config.co_rewarding.payout = "soft"
    assert 'co_rewarding.payout="hard", now "soft"' in refusal(config)


def test_a_variable_is_named_once_and_the_rest_is_counted(
    config: DictConfig, saved: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, lengths = config.actor_rollout_ref.actor, config.data
    lengths.max_response_length, before = 32, lengths.max_response_length
    assert refusal(config).count("response_length") == 1  # verl's own follows
    with monkeypatch.context() as without_script:
        without_script.delenv(run_script.PATH)
        assert refusal(config).count("response_length") == 1 and "run script" not in refusal(config)
    lengths.max_response_length = before
    actor.clip_ratio = actor.clip_ratio_low = actor.clip_ratio_high = 0.1
    assert refusal(config).count("CLIP_RATIO") == 1
    config.co_rewarding.seed, config.data.seed, actor.ppo_epochs, actor.grad_clip = 5, 5, 2, 0.5
    assert "; and 2 more; restore the old values" in refusal(config)


def test_content_counts_and_not_where_it_lies(config: DictConfig, saved: RunDir, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    for key, path in (
        ("data.train_files", config.data.train_files),
        ("data.train_aug_files", config.data.train_aug_files),
    ):
        table = pq.read_table(path)
        moved.mkdir(exist_ok=True)
        pq.write_table(table, moved / Path(path).name, compression="gzip")  # and other bytes
        OmegaConf.update(config, key, str(moved / Path(path).name))
    shutil.copytree(config.actor_rollout_ref.model.path, moved / "model")
    (moved / "model/README.md").write_text("of no effect")
    config.actor_rollout_ref.model.path = str(moved / "model")
    check_started_as(config)
    rows = table.to_pylist()
    rows[3]["reward_model"]["ground_truth"] = ""  # read by no reward of this method
    pq.write_table(table.from_pylist(rows), moved / "train_rephrased.parquet")
    check_started_as(config)
    rows[3]["prompt"][1]["content"] += " Please."
    pq.write_table(table.from_pylist(rows), moved / "train_rephrased.parquet")
    assert f"now {moved}/train_rephrased.parquet (content " in refusal(config)


@pytest.mark.parametrize("size", [1 << 10, 17 << 20])  # read whole, and by samples
def test_another_training_of_the_same_shape_is_another_model(
    config: DictConfig, saved: RunDir, tmp_path: Path, size: int
) -> None:
    model = shutil.copytree(config.actor_rollout_ref.model.path, tmp_path / "model")
    config.actor_rollout_ref.model.path = str(model)
    weights = bytearray(size)
    (model / "model.safetensors").write_bytes(weights)
    atomic_write_text(saved.started_as, json.dumps(identity(config)))
    check_started_as(config)
    weights[size // 2 : size * 3 // 4] = b"\1" * (size * 3 // 4 - size // 2)
    (model / "model.safetensors").write_bytes(weights)
    assert "actor_rollout_ref.model.path=" in refusal(config)


def test_labels_count_where_the_reward_reads_them(config: DictConfig, tmp_path: Path) -> None:
    config.co_rewarding.method = "ground_truth"
    before = identity(config)["contents"]["data.train_files"]["sha256"]
    table = pq.read_table(config.data.train_files)
    rows = table.to_pylist()
    rows[0]["reward_model"]["ground_truth"] = "99"
    pq.write_table(table.from_pylist(rows), tmp_path / "train.parquet")
    config.data.train_files = str(tmp_path / "train.parquet")
    assert identity(config)["contents"]["data.train_files"]["sha256"] != before


def test_a_reward_of_ones_own_is_its_file(config: DictConfig, saved: RunDir, tmp_path: Path) -> None:
    own, moved = tmp_path / "brevity.py", tmp_path / "moved/brevity.py"
    own.write_text("def short(inputs):\n    return [1 / n for n in inputs.lengths]\n")
    moved.parent.mkdir()
    shutil.copy(own, moved)
    for method in ("{}:short", "co_rewarding_I+0.1*{}:short"):
        config.co_rewarding.method = method.format(own)
        atomic_write_text(saved.started_as, json.dumps(identity(config)))
        check_started_as(config)
        config.co_rewarding.method = method.format(moved)
        check_started_as(config)
        config.co_rewarding.method = "co_rewarding_I"
        assert 'brevity.short", now "co_rewarding_I"' in refusal(config)
    config.co_rewarding.method = f"co_rewarding_I+0.2*{own}:short"
    assert '="co_rewarding_I+0.1*brevity.short", now "co_rewarding_I+0.2*brevity.short"' in refusal(config)
    moved.write_text("def short(inputs):\n    return [2 / n for n in inputs.lengths]\n")
    config.co_rewarding.method = f"co_rewarding_I+0.1*{moved}:short"
    said = refusal(config)
    assert f"co_rewarding.method=co_rewarding_I+0.1*{own}:short (content " in said
    assert f"now co_rewarding_I+0.1*{moved}:short (content " in said
    moved.unlink()  # what a recorded configuration names may be gone
    assert "co_rewarding.method" not in identity(config)["contents"]
    assert identity(config)["settings"]["co_rewarding.method"] == "co_rewarding_I+0.1*brevity.short"


def test_a_reward_that_fails_in_a_step_ends_the_run_in_one_line(
    config: DictConfig, run: RunDir, started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Ray hands it on, and with the place of the function made absolute before."""
    from ray.exceptions import RayTaskError
    from verl.trainer import main_ppo

    (tmp_path / "own.py").write_text("def short(inputs):\n    return [1 / n for n in inputs.lengths]\n")
    config.co_rewarding.method = "co_rewarding_I+0.1*own.py:short"

    def run_ppo(told: DictConfig, **_: Any) -> None:
        assert told.co_rewarding.method == f"co_rewarding_I+0.1*{tmp_path}/own.py:short"
        error = OwnFunctionError(f"{tmp_path}/own.py:2 (short): ZeroDivisionError: division by zero")
        raise RayTaskError("run", "Traceback\n of many\n lines", error).as_instanceof_cause()

    assert started(config)[0] is None  # a start of its own sees the file from the current folder
    monkeypatch.setattr(main_ppo, "run_ppo", run_ppo)
    code, _, stderr = started(config)
    assert (code, stderr) == (1, f"error: {tmp_path}/own.py:2 (short): ZeroDivisionError: division by zero\n")


def test_one_view_or_two_with_a_teacher_or_without(config: DictConfig, saved: RunDir) -> None:
    """A reward that is no vote goes with each: the method's name does not tell them apart."""
    config.co_rewarding.method = "format_only"
    for key, value in (("data.train_aug_files", None), ("actor_rollout_ref.teacher", {"n": 8, "update": False})):
        changed = config.copy()
        OmegaConf.update(changed, key, value, force_add=True)
        for first, second in ((config, changed), (changed, config)):
            atomic_write_text(saved.started_as, json.dumps(identity(first)))
            check_started_as(first)
            assert f"was started with {key}=" in refusal(second)


def test_what_may_change_is_listed(config: DictConfig, run: RunDir, started: Started) -> None:
    assert started(config)[0] is None
    save(run.checkpoints, 1)
    config.actor_rollout_ref.actor.optim.lr, config.trainer.save_freq = 5e-7, 7
    config.actor_rollout_ref.rollout.gpu_memory_utilization = 0.3
    code, (_, changed), _ = started(config)
    assert code is None
    assert changed == (
        "changed since the last start: actor_rollout_ref.actor.optim.lr 1e-06 → 5e-07, "
        "actor_rollout_ref.rollout.gpu_memory_utilization 0.5 → 0.3, trainer.save_freq -1 → 7"
    )
    assert len(started(config)[1]) == 1  # since the last start, nothing


def test_more_steps_where_no_schedule_counts_them(config: DictConfig, run: RunDir) -> None:
    run.path.mkdir(parents=True)
    config.actor_rollout_ref.actor.optim.lr_scheduler_type = "constant"
    begin(config)
    save(run.checkpoints, 1)
    config.trainer.total_epochs = 5
    check_started_as(config)
    config.actor_rollout_ref.actor.optim.lr_warmup_steps_ratio = 0.1
    assert "lr_warmup_steps_ratio=0.0, now 0.1" in refusal(config)


def test_a_run_from_before_the_record(config: DictConfig, run: RunDir, started: Started) -> None:
    assert started(config)[0] is None
    run.started_as.unlink()
    save(run.checkpoints, 1)
    config.actor_rollout_ref.rollout.n = 8
    code, _, stderr = started(config)
    assert code == 2 and "actor_rollout_ref.rollout.n=4, now 8" in stderr
    config.actor_rollout_ref.rollout.n = 4
    code, (_, told), _ = started(config)
    assert code is None
    assert told.startswith("the run is older than started_as.json: this start was compared with the ")
    assert "config.yaml" in told
    assert run.started_as.is_file() and len(started(config)[1]) == 1
    # of other files than were recorded nothing is known
    run.started_as.unlink()
    for path in run.configurations().values():
        path.write_text(path.read_text().replace("train.parquet", "gone.parquet"))
    assert started(config)[0] is None
    run.started_as.unlink()
    shutil.rmtree(run.hydra)
    code, (_, told), _ = started(config)
    assert code is None and told.endswith("the configuration in none: no record found")


def test_a_run_from_before_a_setting(config: DictConfig, saved: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """It did what the default does, whether its start was recorded or only its configuration."""
    key, record = "co_rewarding.num_votes", json.loads(saved.started_as.read_text())
    del record["settings"][key]
    atomic_write_text(saved.started_as, json.dumps(record))
    older = config.copy()
    with open_dict(older):
        del older.co_rewarding.num_votes
    path = saved.configuration_file("2026-01-01_10-00-00")
    path.parent.mkdir(parents=True)
    OmegaConf.save(older, path)
    for _ in range(2):
        config.co_rewarding.num_votes = 0
        check_started_as(config)
        config.co_rewarding.num_votes = 8
        assert f"was started with {key}=0, now 8" in refusal(config)
        saved.started_as.unlink(missing_ok=True)


def test_a_garbled_record(config: DictConfig, saved: RunDir) -> None:
    for text in ("", "{}", "[1]", '{"settings": 5, "contents": {}}', '{"settings": {}, "contents": {"x": 5}}'):
        saved.started_as.write_text(text)
        assert "started_as.json: not a valid record" in refusal(config)


def test_begun_anew_on_purpose(config: DictConfig, saved: RunDir, started: Started) -> None:
    config.trainer.resume_mode, config.actor_rollout_ref.rollout.n = "disable", 8
    code, lines, _ = started(config)
    assert code is None
    assert lines == ["trainer.resume_mode=disable: starts over and replaces the checkpoints of steps 1"]
    assert json.loads(saved.started_as.read_text())["settings"]["actor_rollout_ref.rollout.n"] == 8
    config.trainer.resume_mode = "auto"  # that start was killed before it saved: the old weights are not this run's
    assert started(config)[:2] == (None, [])


def test_a_new_run_from_a_checkpoint_of_another(config: DictConfig, saved: RunDir, started: Started) -> None:
    """The way for who knows: another name, the checkpoint by its path. How the runs differ is listed."""
    config.trainer.resume_mode = "resume_path"
    config.trainer.resume_from_path = str(saved.checkpoints / "global_step_1")
    check_started_as(config)  # its own
    config.trainer.total_epochs = 5
    assert "trainer.total_epochs=1, now 5" in refusal(config)
    config.trainer.experiment_name = "longer"
    code, (resuming, told), _ = started(config)
    assert code is None
    assert resuming.startswith("Resuming from step 1, saved ")
    assert told.startswith(f"a new run from another run's checkpoint: {saved.path} was started with trainer.total_epo")
    longer = RunDir(saved.path.with_name("longer"))
    assert json.loads(longer.started_as.read_text())["settings"]["trainer.total_epochs"] == 5
    # from its own first checkpoint on, it is held to what it was started as
    save(longer.checkpoints, 2)
    code, lines, _ = started(config)
    assert (code, len(lines)) == (None, 1) and lines[0].startswith("Resuming from step 2,")
    assert str(longer.path) in lines[0]
    longer_now = config.copy()
    longer_now.trainer.total_epochs = 6
    assert "trainer.total_epochs=5, now 6" in started(longer_now)[2]
    for key, value in (("default_local_dir", 7), ("resume_from_path", None)):  # others refuse it
        broken = config.copy()
        broken.trainer[key] = value
        code, _, stderr = started(broken)
        assert (code, stderr.count("\n")) == (2, 1) and f"trainer.{key}={value}: " in stderr
    # a checkpoint of a third run would be another experiment under this name
    save(saved.checkpoints, 2)
    config.trainer.resume_from_path = str(saved.checkpoints / "global_step_2")
    assert f"{longer.path} has its own checkpoints and did not start from that one" in refusal(config)
    code, _, stderr = started(config)
    assert (code, stderr.count("\n")) == (2, 1) and "leave it out to resume from step 2" in stderr


def test_an_adapter_starts_from_one_of_the_same_model(
    config: DictConfig, saved: RunDir, sample_folder: Path, tmp_path: Path
) -> None:
    """vLLM is sent adapters alone: with another base of the same shape it would answer as neither model."""
    folder = saved.checkpoints / "global_step_1"
    config.trainer.resume_mode, config.trainer.resume_from_path = "resume_path", str(folder)
    config.trainer.experiment_name = "other"
    config.actor_rollout_ref.model.lora_rank = 8
    assert "is of a run that trains all weights, and actor_rollout_ref.model.lora_rank=8" in refusal(config)
    record = json.loads(saved.started_as.read_text())
    record["settings"] |= {"actor_rollout_ref.model.lora_rank": 8}
    saved.started_as.write_text(json.dumps(record))
    (folder / "actor/lora_train_meta.json").write_text("{}")
    check_started_as(config)
    base = tmp_path / "base"
    shutil.copytree(sample_folder / "model", base)
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    config.actor_rollout_ref.model.path = str(base)
    assert "its adapter is of a run that was started with actor_rollout_ref.model.path=" in refusal(config)
    config.actor_rollout_ref.model.lora_rank = 0
    assert "is of a run that trains an adapter, and actor_rollout_ref.model.lora_rank=0" in refusal(config)


def test_the_same_command_as_before_names_had_model_and_data(
    config: DictConfig, run: RunDir, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = config.copy()
    default.trainer.experiment_name = "${run_name:}"
    named_before = config.copy()
    named_before.trainer.experiment_name = "co_rewarding_I"
    assert started(named_before)[0] is None
    older = RunDir(run.path.with_name("co_rewarding_I"))
    older.started_as.unlink()
    assert started(default)[0] is None  # nothing was saved there
    shutil.rmtree(run.path.with_name(default.trainer.experiment_name))
    save(older.checkpoints, 1)
    code, _, stderr = started(default)
    assert (code, stderr.count("\n")) == (2, 1)
    assert stderr == (
        f"error: RUN_NAME is not set: {older.path} is this run under an older default name; RUN_NAME="
        f"co_rewarding_I resumes it, RUN_NAME={default.trainer.experiment_name} starts a new one\n"
    )
    other = default.copy()
    other.actor_rollout_ref.rollout.n = 8
    assert started(other)[0] is None  # another run
    shutil.rmtree(run.path.with_name(default.trainer.experiment_name))
    monkeypatch.setenv("RUN_NAME", default.trainer.experiment_name)
    assert started(default)[0] is None
    monkeypatch.setenv("RUN_NAME", "co_rewarding_I")
    assert started(default)[1][0].startswith("Resuming from step 1")


def test_how_the_model_is_asked_stays(config: DictConfig, saved: RunDir, tmp_path: Path) -> None:
    for name in ("a.jinja", "b.jinja", "c.jinja"):
        (tmp_path / name).write_text("same beginning, " + ("B" if name == "b.jinja" else "A"))
    config.co_rewarding.enable_thinking = True
    settle(config)
    assert "enable_thinking=null, now true (ENABLE_THINKING in the run script)" in refusal(config)
    config.data.apply_chat_template_kwargs, config.co_rewarding.chat_template = {}, str(tmp_path / "a.jinja")
    config.co_rewarding.enable_thinking = None
    settle(config)
    message = refusal(config)
    assert "custom_chat_template=null, now a template of 17 characters (" in message and "(CHAT_TEMPLATE in" in message
    begin(OmegaConf.merge(config, {"trainer": {"resume_mode": "disable"}}))
    save(saved.checkpoints, 1)
    for name, is_same in (("c.jinja", True), ("b.jinja", False)):  # by its text, not by its name
        config.actor_rollout_ref.model.custom_chat_template = None
        config.co_rewarding.chat_template = str(tmp_path / name)
        settle(config)
        check_started_as(config) if is_same else refusal(config)


def test_a_teacher_of_before_its_settings(config: DictConfig, saved: RunDir) -> None:
    """Records that know neither the anchor nor a temperature that follows the student's."""

    def with_teacher(**settings: Any) -> DictConfig:
        return OmegaConf.merge(config, {"actor_rollout_ref": {"teacher": {"update": True, "n": 8} | settings}})

    OmegaConf.set_struct(config, False)
    record = json.loads(saved.started_as.read_text())
    record["settings"] |= identity(with_teacher(temperature=1.0))["settings"]
    del record["settings"]["data.apply_chat_template_kwargs.enable_thinking"]
    saved.started_as.write_text(json.dumps(record))
    check_started_as(with_teacher(temperature=None, kl_anchor="teacher"))
    assert "kl_anchor=teacher, now start" in refusal(with_teacher(temperature=None, kl_anchor="start")).replace('"', "")
    assert "teacher.temperature=1.0, now 0.5" in refusal(with_teacher(temperature=0.5, kl_anchor="teacher"))
    config.actor_rollout_ref.rollout.temperature = 0.7  # which the teacher would follow now
    message = refusal(with_teacher(temperature=None, kl_anchor="teacher"))
    assert "rollout.temperature=1.0, now 0.7" in message and "teacher.temperature=1.0, now 0.7" in message


def test_what_must_stay_are_keys_of_the_configuration(config: DictConfig) -> None:
    for key in (*MUST_STAY, *LEADERS.values()):
        if not key.startswith("actor_rollout_ref.teacher"):
            block, _, name = key.rpartition(".")
            assert name in list(OmegaConf.select(config, block) if block else config), key


@pytest.mark.parametrize("lr", [1e-3, 5e-4])
def test_a_learning_rate_that_changed_is_the_one_that_is_used(lr: float) -> None:
    """verl restores optimizer and schedule, and with them the learning rate that they had."""
    from verl.utils.torch_functional import get_cosine_schedule_with_warmup

    from co_rewarding.training.engine import set_learning_rate

    def made(rate: float) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=rate)
        return optimizer, get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=10)

    def rates(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    first, schedule = made(1e-3)
    rates(first, schedule, 4)
    state = first.state_dict(), schedule.state_dict()
    again, resumed = made(lr)
    again.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    set_learning_rate(resumed, lr)
    assert rates(again, resumed, 6) == rates(*made(lr), 10)[4:]
