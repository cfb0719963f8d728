# SPDX-License-Identifier: Apache-2.0
"""One run at wandb however often a run is started, online with the key of `wandb login`, which no file shows.

The last test is wandb itself, offline: two starts write one run.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.run_dir import RunDir
from co_rewarding.training import launch as launch_module
from co_rewarding.training import wandb_run
from co_rewarding.training.launch import launch
from co_rewarding.training.wandb_run import environment

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the form that wandb asks for


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run's folder, on a machine where nobody has logged in to wandb and no variable of it is set."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "runs/name"
    folder.mkdir(parents=True)
    return RunDir(folder)


def test_offline_where_nobody_has_logged_in(run: RunDir) -> None:
    assert environment(run) == {
        "WANDB_DIR": str(run.path),
        "WANDB_RUN_ID": run.wandb_id.read_text().strip(),
        "WANDB_RESUME": "allow",
        "WANDB_MODE": "offline",
    }


@pytest.mark.parametrize("mode", ["online", "run", "shared"])
def test_online_without_a_key(run: RunDir, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ValueError, match=f"WANDB_MODE={mode}: not logged in; run `wandb login`"):
        environment(run)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert environment(run)["WANDB_MODE"] == mode


def test_nothing_is_started_to_look_for_a_key(run: RunDir) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    environment(run)
    started = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert not [process for process in started if "wandb" in " ".join(process.cmdline())]


def test_online_with_the_key_of_a_login(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    found = environment(run)
    assert found["WANDB_API_KEY"] == KEY
    assert "WANDB_MODE" not in found


def test_a_key_in_the_environment_and_all_other_variables_are_handed_on(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"WANDB_API_KEY": KEY, "WANDB_ENTITY": "us", "WANDB_TAGS": "a,b", "WANDB_RUN_ID": "mine"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert environment(run) == given | {"WANDB_DIR": str(run.path)}
    assert not run.wandb_id.exists()  # the id is the user's
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert environment(run)["WANDB_MODE"] == "offline"


def test_a_key_that_is_none_is_reported_in_one_line(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ValueError, match=r"^wandb: WANDB_API_KEY invalid: .*; run `wandb login`, or set WANDB_MODE"):
        environment(run)


def test_a_run_keeps_its_id(run: RunDir) -> None:
    first = environment(run)["WANDB_RUN_ID"]
    assert environment(run)["WANDB_RUN_ID"] == first


def test_a_run_older_than_that_goes_on_with_its_last_id(run: RunDir) -> None:
    for name in (
        "offline-run-20260101_100000-aaaaaaaa",
        "run-20260301_100000-cc-cc",
        "offline-run-20260201_100000-bbb",
    ):
        (run.wandb / name).mkdir(parents=True)
    assert environment(run)["WANDB_RUN_ID"] == "cc-cc"


@pytest.fixture
def handed(config: DictConfig, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What the process that trains is handed by a launch."""
    from verl.trainer import main_ppo

    seen: list[dict[str, str]] = []
    monkeypatch.setattr(main_ppo, "run_ppo", lambda *_, **__: None)
    monkeypatch.setattr(launch_module, "_task_runner", lambda _, variables, __: seen.append(dict(variables)))

    def started(**values: Any) -> dict[str, str]:
        for key, value in values.items():
            OmegaConf.update(config, f"trainer.{key}", value)
        config.co_rewarding_run_dir = str(run.path)
        launch(config, trainer="a.Trainer")
        return seen.pop()

    return started


def test_the_key_reaches_the_process_that_trains_and_nothing_else(
    config: DictConfig, run: RunDir, handed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert handed(logger=["file", "wandb"])["WANDB_API_KEY"] == KEY
    assert KEY not in OmegaConf.to_yaml(config)  # verl prints it and hands it to wandb
    assert not [file for file in run.path.rglob("*") if file.is_file() and KEY in file.read_text()]
    assert KEY not in "".join(capfd.readouterr())


def test_a_run_without_wandb_does_not_ask_it(handed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    assert handed(logger=["file", "tensorboard"]) == {}


def test_two_starts_are_one_run_of_wandb(run: RunDir) -> None:
    program = "import wandb; run = wandb.init(project='p', name='n'); run.log({'a': 1}, step=1); print('ID', run.id)"
    ids = set()
    for _ in range(2):
        variables = {**os.environ, **environment(run), "WANDB_SILENT": "true"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
        )
        ids |= {line.split()[1] for line in done.stdout.splitlines() if line.startswith("ID ")}
    assert ids == {run.wandb_id.read_text().strip()}
    folders = [path.name for path in run.wandb.glob("offline-run-*")]
    assert folders and all(wandb_run.FOLDER.fullmatch(name)[1] in ids for name in folders)
