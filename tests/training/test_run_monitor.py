# SPDX-License-Identifier: Apache-2.0
"""What watches a run: its state goes through a checkpoint, and a run that collapsed ends at its last good one."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from co_rewarding.monitoring.alarms import CollapseMonitor
from co_rewarding.storage.run_dir import STATE_FILE, TRACKER, RunDir
from co_rewarding.training.checkpoint import resume_dir
from co_rewarding.training.run_monitor import STEP_TIME, RunMonitor, is_logged
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer


def test_what_was_seen_goes_through_a_checkpoint(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`_save_checkpoint` and `_load_checkpoint` around verl's own, which need workers."""
    config.trainer.default_local_dir = str(tmp_path)
    base = GroupRewardTrainer.__mro__[1]
    order = []
    monkeypatch.setattr(base, "_save_checkpoint", lambda self: order.append((tmp_path / "global_step_3").is_dir()))
    monkeypatch.setattr(base, "_load_checkpoint", lambda self: setattr(self, "global_steps", 3))

    def trainer(window: int = 2) -> GroupRewardTrainer:
        made = object.__new__(GroupRewardTrainer)
        made.config, made.checkpoint_callback, made.steps_per_epoch = config, CheckpointCallback(), 58
        made.monitor, made.global_steps = RunMonitor(Settings("co_rewarding_I", watch_window=window), 16, tmp_path), 3
        return made

    first = trainer()
    first.monitor.label_history.flips({("5", "original"): "8"}, str.__eq__)
    first.monitor.observe(3, {"collapse/length": 12.0})
    first._save_checkpoint()
    assert order == [True]
    assert resume_dir(config) == tmp_path / "global_step_3"
    again = trainer()
    again._load_checkpoint()
    assert again.monitor.collapse.state_dict() == first.monitor.collapse.state_dict()
    assert again.monitor.label_history.flips({("5", "original"): "9"}, str.__eq__) == (1, 1)
    assert json.loads((tmp_path / "global_step_3" / STATE_FILE).read_text())["labels"] == [["5", "original", "8"]]
    # with another window the alarms start anew; the labels do not
    other = trainer(window=4)
    other._load_checkpoint()
    assert other.monitor.collapse.state_dict() == CollapseMonitor(window=4).state_dict()
    assert other.monitor.label_history.state_dict() == [["5", "original", "8"]]


def test_what_a_kill_after_saving_left_out_is_logged_once(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl saves a step, validates, dumps and logs it: killed in between, the next start has step 3 behind it."""
    run = RunDir(tmp_path)
    config.co_rewarding_run_dir, config.trainer.default_local_dir = str(run.path), str(run.checkpoints)
    config.trainer.rollout_data_dir = str(run.rollouts)

    def step(self: GroupRewardTrainer, metrics: dict, timing_raw: dict) -> str:
        metrics["actor/lr"] = 0.5
        return "batch"

    def compute(self: GroupRewardTrainer, batch: str, metrics: dict, timing: dict, global_steps: int, epoch: int):
        metrics.update({STEP_TIME: timing["step"], "training/epoch": epoch, "batch": batch})

    base = GroupRewardTrainer.__mro__[1]
    monkeypatch.setattr(base, "step", step)
    monkeypatch.setattr(base, "_compute_metrics", compute)
    monkeypatch.setattr(base, "_save_checkpoint", lambda self: dumped.append(run.rollouts_file(3).read_text()))
    monkeypatch.setattr(base, "_load_checkpoint", lambda self: setattr(self, "global_steps", 3))
    dumped, logged = [], []

    def trainer() -> GroupRewardTrainer:
        made = object.__new__(GroupRewardTrainer)
        made.config, made.checkpoint_callback, made.steps_per_epoch = config, CheckpointCallback(), 2
        made.monitor, made.global_steps = RunMonitor(Settings("co_rewarding_I"), 16, run.checkpoints), 3
        made._dump_futures, made._dump_executor, made.timing_raw = [], ThreadPoolExecutor(1), {"gen": 1.0}
        made.logger = SimpleNamespace(log=lambda data, step: logged.append((step, data)))
        return made

    killed = trainer()
    killed.step({}, {})
    killed._dump_rows = [{"question": "5"}]
    killed._save_checkpoint()
    assert [json.loads(text) for text in dumped] == [{"question": "5"}]  # before the checkpoint
    again = trainer()
    again._load_checkpoint()
    again.on_train_begin()
    ((step_logged, metrics),) = logged
    assert step_logged == 3 and metrics[STEP_TIME] >= 0
    assert metrics == {STEP_TIME: metrics[STEP_TIME], "actor/lr": 0.5, "training/epoch": 1.0}  # numbers; 1 and 2 were 0
    # once it is in the log of some start, it stays as it is
    run.metrics.mkdir()
    row = json.dumps({"step": 3, "data": {STEP_TIME: 1.0}})
    run.metrics_file("start").write_text(json.dumps({"step": 3, "data": {}}) + "\n" + row[:-2])
    assert not is_logged(run, 3)  # a validation, and a line that was cut off
    run.metrics_file("start").write_text(row + "\n")
    again.on_train_begin()
    # nor is the step of another run this run's
    run.metrics_file("start").unlink()
    config.trainer.resume_mode = "resume_path"
    config.trainer.resume_from_path = str(
        shutil.copytree(run.checkpoints / "global_step_3", tmp_path / "global_step_3")
    )
    again._load_checkpoint()
    again.on_train_begin()
    assert len(logged) == 1


def test_an_early_stop_names_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GroupRewardTrainer.__mro__[1], "on_step_end", lambda self: None)
    for step in (2, 4, 6, 8):
        (tmp_path / f"global_step_{step}").mkdir()
    (tmp_path / TRACKER).write_text("6")  # 8 was being written when an earlier run was killed
    trainer = object.__new__(GroupRewardTrainer)
    trainer.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_mode": "auto"}})
    trainer.monitor = RunMonitor(Settings("co_rewarding_I", watch_window=2, early_stop_after=2), 16, tmp_path)
    trainer.total_training_steps = 50
    # repetition: the means of two are 0.1, 0.1, 0.1, 0.1, 0.3, 0.5: seen at step 7, so step 5 was the last without,
    # and the checkpoint of step 6, of which the window tells, is none to resume from
    for step, value in enumerate([0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.6], 1):
        trainer.global_steps = step
        trainer.monitor.observe(step, {"collapse/repetition": value})
        trainer.on_step_end()
    assert (trainer.total_training_steps, trainer.stopped_early_after) == (8, 50)
    assert (tmp_path / TRACKER).read_text() == "4"
    assert resume_dir(trainer.config) == tmp_path / "global_step_4"
    printed = capsys.readouterr().out
    assert f"step 5 was the last one without; the last good checkpoint is {tmp_path}/global_step_4" in printed


def test_a_step_says_how_long_the_rest_will_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(monitor: RunMonitor, step: int, seconds: float) -> str:
        monitor.progress(step, 174, {"timing_s/step": seconds})
        return capsys.readouterr().out.removeprefix("[co-rewarding] ").rstrip("\n")

    settings = Settings("co_rewarding_I")
    monitor = RunMonitor(settings, 16, tmp_path)
    monitor.progress(0, 174, {"val-core/math/acc/mean@1": 0.5})
    assert capsys.readouterr().out == "[co-rewarding] step 0/174: validation accuracy 0.500 (math)\n"
    assert line(monitor, 1, 90.0) == "step 1/174: seconds 90, left 4 h 19 min"  # 173 × 90 s = 15,570 s
    for step in (2, 3, 4):
        line(monitor, step, 62.0)
    # the last five are 90, 62, 62, 62 and 400, of a step that saved: 62 s × 169 = 10,478 s = 2 h 54 min 38 s
    assert line(monitor, 5, 400.0) == "step 5/174: seconds 400, left 2 h 54 min"
    # of the last five, 62, 62, 400, 70 and 70, the first steps are forgotten: 70 s × 167 = 11,690 s
    line(monitor, 6, 70.0)
    assert line(monitor, 7, 70.0) == "step 7/174: seconds 70, left 3 h 14 min"
    assert line(monitor, 173, 70.0).endswith("left 1 min 10 s")
    assert line(monitor, 174, 70.0) == "step 174/174: seconds 70"
    # another start, perhaps on another machine, knows nothing of these
    assert line(RunMonitor(settings, 16, tmp_path), 100, 10.0) == "step 100/174: seconds 10, left 12 min 20 s"
