# SPDX-License-Identifier: Apache-2.0
"""What the program makes of a refusal: exit code 2 and one line, before Ray; and what it does not tell Ray.

All but the end-to-end tests run everything of the program before Ray in this process.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

import co_rewarding_ii.main
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training import launch as launch_module
from co_rewarding.training.launch import _lock, launch, run_main
from co_rewarding.training.preflight.batches import MICRO_BATCH_KEYS
from co_rewarding.training.preflight.keys import check_settings


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


def test_a_good_configuration_reaches_ray(config: DictConfig, launched: Callable[..., Any], tmp_path: Path) -> None:
    assert launched(config) == (None, "")
    run = RunDir(tmp_path / "runs/co-rewarding" / config.trainer.experiment_name)
    ((start, recorded),) = run.configurations().items()
    assert OmegaConf.load(recorded).data.train_batch_size == config.data.train_batch_size
    assert run.noted_starts() == [start]
    variables = config.ray_kwargs.ray_init.runtime_env.env_vars
    assert Path(variables.VERL_FILE_LOGGER_PATH) == run.metrics_file(start)
    assert run.metrics.is_dir()  # verl's logger does not make it
    assert Path(variables.TENSORBOARD_DIR) == run.tensorboard


def test_a_directory_has_one_run_at_a_time(config: DictConfig, launched: Callable[..., Any], tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs/co-rewarding" / config.trainer.experiment_name)
    run.path.mkdir(parents=True)
    with _lock(run):
        code, stderr = launched(config)
        assert code == 2
        assert f"co_rewarding_run_dir={run.path}: another run writes there (process {os.getpid()} on " in stderr
        assert stderr.count("\n") == 1
    assert launched(config) == (None, "")


def test_the_lock_of_a_run_that_was_killed_is_free_and_names_the_next_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    holding = (
        "import sys, time; from co_rewarding.training.launch import _lock; from co_rewarding.storage.run_dir import "
    )
    holding += "RunDir; lock = _lock(RunDir(sys.argv[1])); print('locked', flush=True); time.sleep(600)"
    killed = subprocess.Popen([sys.executable, "-c", holding, tmp_path], stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match=rf"another run writes there \(process {killed.pid} on "):
        _lock(run)
    killed.kill()
    killed.wait()
    killed.stdout.close()
    with _lock(run), pytest.raises(ValueError, match=rf"another run writes there \(process {os.getpid()} on "):
        _lock(run)


def test_a_directory_that_cannot_be_written(config: DictConfig, launched: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in its place")
    code, stderr = launched(config)
    assert code == 2
    assert "cannot be written (Not a directory); set RUNS_DIR" in stderr and stderr.count("\n") == 1


def test_a_path_that_the_file_system_does_not_take(config: DictConfig, launched: Callable[..., Any]) -> None:
    for key in ("data.train_files", "co_rewarding_run_dir"):
        changed = config.copy()
        OmegaConf.update(changed, key, f"/tmp/{'x' * 300}.parquet")
        code, stderr = launched(changed)
        assert (code, stderr.count("\n")) == (2, 1)
        assert "File name too long" in stderr and "x" * 300 in stderr


class OfAProcess(ConnectionError):
    """As Ray makes of one that was raised in a process of the run."""


def test_a_cluster_that_ray_does_not_find(
    config: DictConfig,
    launched: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from verl.trainer import main_ppo

    def start(error: ConnectionError) -> None:
        def fail(config: DictConfig, task_runner_class: Any) -> None:
            raise error

        monkeypatch.setattr(main_ppo, "run_ppo", fail)
        run_main(lambda: launch(config.copy(), trainer="co_rewarding_i.trainer.CoRewardingITrainer"))

    config.ray_kwargs.ray_init.address = "auto"
    with pytest.raises(SystemExit) as stop:
        start(ConnectionError("Could not find any running Ray instance."))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: RAY_ADDRESS=auto: Could not find any running Ray instance.\n"
    with pytest.raises(OfAProcess):
        start(OfAProcess("reset by peer"))


def test_refused_with_exit_code_2_and_one_line(config: DictConfig, launched: Callable[..., Any]) -> None:
    config.actor_rollout_ref.rollout.n = 1
    code, stderr = launched(config)
    assert code == 2
    assert stderr.startswith("error: actor_rollout_ref.rollout.n=1: ")
    assert stderr.count("\n") == 1


def test_a_refused_start_leaves_nothing_behind(
    config: DictConfig, launched: Callable[..., Any], tmp_path: Path
) -> None:
    config.actor_rollout_ref.actor.use_dynamic_bsz = False
    for key in MICRO_BATCH_KEYS:
        OmegaConf.update(config, key, 64)
    for key, value in (("actor_rollout_ref.rollout.n", 1), ("actor_rollout_ref.actor.ppo_micro_batch_size", 4)):
        changed = config.copy()
        OmegaConf.update(changed, key, value)  # the first is refused by us, the second by verl
        assert launched(changed)[0] == 2
        assert not list(tmp_path.iterdir())


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


def command_line(sample: list[str], cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The real program; Ray, had it started, would have left its session in `cwd`."""
    done = subprocess.run(
        [sys.executable, "-m", "co_rewarding_i.main", *sample, *overrides],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(cwd / "ray"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 2, done.stderr
    assert not (cwd / "ray").exists()
    assert "ray init kwargs" not in done.stdout
    assert not list(cwd.iterdir())
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return done


@pytest.mark.e2e
def test_command_line_with_an_unknown_setting(sample_overrides: list[str], tmp_path: Path) -> None:
    stderr = command_line(sample_overrides, tmp_path, "co_rewarding.foo=1").stderr
    assert "co_rewarding.foo" in stderr
    assert "unknown key" in stderr
    assert "min_agreement" in stderr


@pytest.mark.e2e
def test_command_line_with_an_unknown_key_of_verls(sample_overrides: list[str], tmp_path: Path) -> None:
    stderr = command_line(sample_overrides, tmp_path, "trainer.total_epoch=1").stderr
    assert "total_epoch" in stderr


@pytest.mark.e2e
def test_command_line_with_a_missing_file(sample_overrides: list[str], tmp_path: Path) -> None:
    stderr = command_line(sample_overrides, tmp_path, "data.train_files=nowhere.parquet").stderr
    assert "data.train_files=nowhere.parquet" in stderr
    assert str(tmp_path) in stderr


UNKNOWN = "unknown key; known keys are answer_format, "
UNKNOWN_TEACHER = "unknown key; known keys are check_log_probs, decay_end, "


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("co_rewarding.methd=x", f"co_rewarding.methd=x: {UNKNOWN}"),
        ("co_rewarding.seed=abc", "co_rewarding.seed=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("co_rewarding.seed=null", "co_rewarding.seed=null: field 'co_rewarding.seed' is not Optional"),
        ("co_rewarding.min_agreement=2", "co_rewarding.min_agreement=2.0: must be a share from 0 to 1"),
        ("actor_rollout_ref.teacher.foo=1", f"actor_rollout_ref.teacher.foo=1: {UNKNOWN_TEACHER}"),
        ("actor_rollout_ref.teacher.n=1.5", "actor_rollout_ref.teacher.n=1.5: Value '1.5' of type 'float' could not"),
        # Hydra itself lets + add a key to a dataclass
        ("+co_rewarding.foo=1", f"co_rewarding.foo=1: {UNKNOWN}"),
        ("++co_rewarding.foo=1", f"co_rewarding.foo=1: {UNKNOWN}"),
        ("+actor_rollout_ref.teacher.foo=1", f"actor_rollout_ref.teacher.foo=1: {UNKNOWN_TEACHER}"),
        ("+co_rewarding={foo:1}", f"+co_rewarding={{foo:1}}: {UNKNOWN}"),
        ("~co_rewarding.seed", "~co_rewarding.seed: Settings (DictConfig) does not support deletion"),
        ("~co_rewarding", "co_rewarding=None: must be a block; known keys are "),
        ("trainer.total_epoch=1", "trainer.total_epoch=1: unknown key, which nothing reads; is trainer.total_epochs "),
    ],
)
def test_what_is_reported_of_an_override(
    override: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through Hydra and the two checks that read a block."""
    monkeypatch.setattr(sys, "argv", ["main.py", override])
    monkeypatch.setattr(launch_module, "check_config", check_settings)
    with pytest.raises(SystemExit) as stop:
        run_main(co_rewarding_ii.main.main)
    assert stop.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith(f"error: {message}")
    assert stderr.count("\n") == 1
