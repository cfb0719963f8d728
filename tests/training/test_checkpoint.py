# SPDX-License-Identifier: Apache-2.0
"""Checkpoints when a run is killed: saving is stopped before each of its file operations in turn, in real folders.

(tests/e2e kills a run that saves with SIGKILL.)
"""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from co_rewarding.storage.run_dir import (
    BEGUN,
    SAVE_STATE,
    TRACKER,
    WHOLE,
    checkpoint_folder,
    save_state,
    saved_steps,
)
from co_rewarding.training.checkpoint import (
    check_checkpoints,
    latest_checkpoint_before,
    pointed_step,
    resume_dir,
    saving,
    set_aside,
    set_resume_checkpoint,
)
from co_rewarding.training.run_monitor import RunMonitor
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer

FILES = ("actor/model.pt", "teacher/model.pt", "data.pt")
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}  # of Python's audit events


def save(checkpoints: Path, step: int, keep: int | None, spare: Path | None = None) -> None:
    folder = checkpoint_folder(checkpoints, step)
    with saving(folder, keep, spare):
        write(folder, step)


def write(folder: Path, step: int) -> None:
    """What verl and a method write, each file in two parts."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        with (folder / name).open("a") as file:
            file.write(f"{step}")


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("global_step_"))


def is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() and (folder / name).read_text() == str(step_of(folder)) for name in FILES)


def settings(checkpoints: Path, **trainer: Any) -> DictConfig:
    given = {"default_local_dir": str(checkpoints), "resume_mode": "auto", "max_actor_ckpt_to_keep": 2} | trainer
    return OmegaConf.create({"trainer": given})


class Killed(BaseException):
    """The process ended here."""


class Killing:
    """Lets file operations happen until one of them, and none from then on, those of `finally` blocks included."""

    OPERATIONS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "fsync"})  # Python's audit events

    def __init__(self) -> None:
        self.left: int | None = None  # operations that may happen; None: all
        sys.addaudithook(self)  # cannot be taken away again: one for all tests

    def __call__(self, event: str, _: Any = None) -> None:
        if self.left is not None and event in self.OPERATIONS:
            if self.left == 0:
                raise Killed
            self.left -= 1

    def before(self, operation: int, work: Callable[[], None]) -> bool:
        """Do `work` until its `operation`-th file operation, from 0; False: it has fewer and was done."""
        self.left = operation
        try:
            work()
        except Killed:
            return True
        finally:
            self.left = None
        return False


@pytest.fixture(scope="module")
def killing() -> Killing:
    return Killing()


@pytest.fixture(autouse=True)
def _fsync_is_an_operation_that_takes_no_time(killing: Killing, monkeypatch: pytest.MonkeyPatch) -> None:
    # what it is for, a machine that goes down, is not tested
    monkeypatch.setattr(os, "fsync", lambda _: killing("fsync"))


@pytest.mark.parametrize(("keep", "set_back"), [(1, False), (2, False), (None, False), (2, True)])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, killing: Killing, keep: int | None, set_back: bool
) -> None:
    """Steps 1 to 3 are saved and 4 is being saved. A run that was set back to 3 finds an old 4 and 5 there.

    Whole checkpoints in the end, when 4 and 5 have been saved (again): the last `keep`.
    """
    start = tmp_path / "start"
    for step in (1, 2, 3, 4, 5) if set_back else (1, 2, 3):
        save(start, step, None)
    set_resume_checkpoint(start / "global_step_3")
    for operation in range(1000):
        checkpoints = shutil.copytree(start, tmp_path / str(operation))
        killed = killing.before(operation, lambda folder=checkpoints: save(folder, 4, keep))
        check_checkpoints(settings(checkpoints, max_actor_ckpt_to_keep=keep))
        resumed = resume_dir(settings(checkpoints))
        assert step_of(resumed) in (3, 4) and is_whole(resumed)
        # what a run that stops early would go back to
        earlier = [latest_checkpoint_before(checkpoints, until) for until in (1, 2, 3, 4, 5)]
        assert all(folder is None or is_whole(folder) for folder in earlier) and earlier[-1] == resumed
        # the same command again does the rest, and nothing of the kill is left
        for step in range(step_of(resumed) + 1, 6):
            save(checkpoints, step, keep)
        names = {f"global_step_{step}" for step in ([1, 2, 3, 4, 5][-keep:] if keep else [1, 2, 3, 4, 5])}
        assert {path.name for path in checkpoints.glob("global_step_*")} == names
        assert all(save_state(checkpoints / name) == WHOLE for name in names)
        if not killed:
            break
    assert 20 < operation < 999  # each of the three files is opened twice, synced once …


def test_a_kill_in_the_first_save_leaves_a_fresh_start_or_the_checkpoint(tmp_path: Path, killing: Killing) -> None:
    operation, resumed = 0, []
    while killing.before(operation, lambda folder=tmp_path / str(operation): save(folder, 1, 2)):
        folder = resume_dir(settings(tmp_path / str(operation)))
        assert folder is None or is_whole(folder)
        resumed.append(folder is not None)
        save(tmp_path / str(operation), 1, 2)
        operation += 1
    assert resumed == sorted(resumed) and {*resumed} == {False, True}


def test_checkpoints_that_no_pointer_names_are_not_begun_over(tmp_path: Path) -> None:
    """Someone removed it, or the first save was killed between its last two operations."""
    for step in (1, 2):
        save(tmp_path, step, None)
    (tmp_path / TRACKER).unlink()
    with pytest.raises(ValueError, match=r"latest_\S+: missing, and the checkpoints of steps 1, 2 are whole;"):
        check_checkpoints(settings(tmp_path))
    check_checkpoints(settings(tmp_path, resume_mode="disable"))
    assert set_aside(tmp_path) == [1, 2]
    check_checkpoints(settings(tmp_path))  # a start that was killed before it saved anything starts over again
    assert latest_checkpoint_before(tmp_path, 2) is None
    save(tmp_path, 2, None)
    assert latest_checkpoint_before(tmp_path, 2) == tmp_path / "global_step_2" == resume_dir(settings(tmp_path))
    save(tmp_path, 3, 3)
    assert saved_steps(tmp_path) == [2, 3]


def test_set_aside_with_its_pointer(tmp_path: Path) -> None:
    assert set_aside(tmp_path / "none") == []
    save(tmp_path, 1, None)
    assert set_aside(tmp_path) == [1]
    check_checkpoints(settings(tmp_path))
    assert resume_dir(settings(tmp_path)) is None
    check_checkpoints(settings(tmp_path, resume_mode="resume_path", resume_from_path=f"{tmp_path}/global_step_1"))


def test_a_step_that_is_saved_over_is_not_resumed_from_meanwhile(tmp_path: Path, killing: Killing) -> None:
    """A run that is begun afresh, or set back, in a folder whose pointer names the step that it saves."""
    for operation in range(1000):
        checkpoints = tmp_path / str(operation)
        for step in (1, 2):
            save(checkpoints, step, None)
        killed = killing.before(operation, lambda folder=checkpoints: save(folder, 2, 2))
        assert is_whole(resume_dir(settings(checkpoints)))
        if not killed:
            break
    assert 20 < operation < 999


def test_checkpoints_of_earlier_runs_are_never_removed(tmp_path: Path) -> None:
    for step in (1, 2, 3):  # all were kept, and none said how its saving went
        write(checkpoint_folder(tmp_path, step), step)
    (tmp_path / TRACKER).write_text("3")
    assert resume_dir(settings(tmp_path)) == tmp_path / "global_step_3"
    assert latest_checkpoint_before(tmp_path, 2) == tmp_path / "global_step_2"
    for step in (4, 5, 6, 7):
        save(tmp_path, step, 2)
    assert saved_steps(tmp_path) == [1, 2, 3, 6, 7]


def test_a_half_saved_checkpoint_goes_with_the_next_one(tmp_path: Path) -> None:
    save(tmp_path, 2, 2)
    with pytest.raises(OSError, match="disk full"), saving(tmp_path / "global_step_3", 2):
        raise OSError("disk full")
    assert save_state(tmp_path / "global_step_3") == BEGUN
    assert latest_checkpoint_before(tmp_path, 3) == tmp_path / "global_step_2"
    save(tmp_path, 4, 2)  # resumed from 2 with another trainer.save_freq
    assert saved_steps(tmp_path) == [2, 4]


def test_the_checkpoint_that_the_command_names_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save(tmp_path, step, 1, spare=tmp_path / "global_step_1")
    assert saved_steps(tmp_path) == [1, 4]


@pytest.mark.parametrize("text", ["", "abc", "3.0", "99", "-1"])
def test_a_pointer_that_names_nothing_is_no_fresh_start(tmp_path: Path, text: str) -> None:
    save(tmp_path, 2, 2)
    (tmp_path / TRACKER).write_text(text)
    with pytest.raises(ValueError, match=r"names no checkpoint .*there are 2, .*start over with trainer.resume_mode"):
        check_checkpoints(settings(tmp_path))
    check_checkpoints(settings(tmp_path, resume_mode="disable"))


def test_what_cannot_be_resumed_from_is_refused(tmp_path: Path) -> None:
    def refused(**trainer: Any) -> str:
        with pytest.raises(ValueError) as error:
            check_checkpoints(settings(tmp_path, **trainer))
        assert "\n" not in str(error.value)
        return str(error.value)

    check_checkpoints(settings(tmp_path))  # nothing there
    save(tmp_path, 2, 2)
    (tmp_path / "global_step_5").mkdir()
    assert "global_step_5: has no actor" in refused(
        resume_mode="resume_path", resume_from_path=f"{tmp_path}/global_step_5"
    )
    write(tmp_path / "global_step_5", 5)
    check_checkpoints(settings(tmp_path, resume_mode="resume_path", resume_from_path=f"{tmp_path}/global_step_5"))
    (tmp_path / "global_step_5" / SAVE_STATE).write_text(BEGUN)
    assert "interrupted" in refused(resume_mode="resume_path", resume_from_path=f"{tmp_path}/global_step_5")
    for path in (None, str(tmp_path), 5, f"{tmp_path}/global_step_x"):
        assert f"resume_from_path={path}: " in refused(resume_mode="resume_path", resume_from_path=path)
    assert "resume_mode=latest: must be one of auto, disable, resume_path" in refused(resume_mode="latest")
    for keep in (0, -1, "two", 1.5, True):
        assert f"max_actor_ckpt_to_keep={keep}: " in refused(max_actor_ckpt_to_keep=keep)
    for key in ("remove_previous_ckpt_in_save", "del_local_ckpt_after_load"):
        assert f"trainer.{key}=True: " in refused(**{key: True})


class Workers:
    """Stands in for the processes that train: writes what they would."""

    def __init__(self) -> None:
        self.keep: list[int | None] = []

    def save_checkpoint(self, path: str, remote: None, step: int, max_ckpt_to_keep: int | None) -> None:
        self.keep.append(max_ckpt_to_keep)
        write(Path(path).parent, step)


class Loader:
    def state_dict(self) -> dict[str, int]:
        return {"position": 7}


def test_verl_saves_and_leaves_pointer_and_pruning_to_us(config: DictConfig, tmp_path: Path) -> None:
    """verl's own `_save_checkpoint`, which would write the pointer in place and have its workers remove older ones."""
    config.trainer.default_local_dir, config.trainer.max_actor_ckpt_to_keep = str(tmp_path), 2
    trainer = object.__new__(GroupRewardTrainer)
    trainer.config, trainer.use_critic, trainer.trainer_mode = config, False, "sync"
    trainer.actor_rollout_wg, trainer.train_dataloader, trainer.steps_per_epoch = Workers(), Loader(), 3
    trainer.monitor = RunMonitor(Settings("co_rewarding_I"), 16, tmp_path)
    called_back = []

    class Callback:
        def on_save(self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool) -> None:
            called_back.append((global_step, Path(checkpoint_dir), async_save, (tmp_path / TRACKER).read_text()))

    trainer.checkpoint_callback = Callback()
    in_place = []

    def watch(event: str, args: tuple[Any, ...]) -> None:  # stays for the whole session
        if event == "open" and args[0] == str(tmp_path / TRACKER) and args[1] == "w":
            in_place.append(args)

    sys.addaudithook(watch)
    for trainer.global_steps in (2, 4, 6):
        trainer._save_checkpoint()
    assert not in_place
    (tmp_path / TRACKER).write_text("6")
    assert in_place  # it would have been seen
    assert trainer.actor_rollout_wg.keep == [None] * 3
    assert called_back == [(step, tmp_path / f"global_step_{step}", False, str(step)) for step in (2, 4, 6)]
    assert saved_steps(tmp_path) == [4, 6]
    assert torch.load(tmp_path / "global_step_6/data.pt") == {"position": 7}
    assert config.actor_rollout_ref.actor.checkpoint.async_save is False


def test_what_cannot_be_removed_does_not_end_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "other_disk"
    elsewhere.mkdir()
    (elsewhere / SAVE_STATE).write_text(WHOLE)
    (tmp_path / "global_step_1").symlink_to(elsewhere)
    (tmp_path / "global_step_0.removing").write_text("a file, which rmtree refuses")
    with saving(tmp_path / "global_step_2", keep=1):
        pass
    assert pointed_step(tmp_path) == 2
    assert (tmp_path / "global_step_1").is_symlink() and (elsewhere / SAVE_STATE).is_file()
    assert "cannot be removed now" in capsys.readouterr().out


def test_a_state_written_by_hand(tmp_path: Path) -> None:
    for step, state in ((1, "whole\n"), (2, "begun\n"), (3, "?")):
        (tmp_path / f"global_step_{step}").mkdir()
        (tmp_path / f"global_step_{step}" / SAVE_STATE).write_text(state)
    with saving(tmp_path / "global_step_4", keep=2):
        pass
    # the two newest whole ones; the interrupted one goes, and what says something else is not ours
    assert saved_steps(tmp_path) == [1, 3, 4]


def test_a_pointer_at_a_step_that_is_gone_is_no_hindrance_to_saving_it(tmp_path: Path) -> None:
    set_resume_checkpoint(tmp_path / "global_step_2")
    with saving(tmp_path / "global_step_2", keep=1):
        pass
    assert pointed_step(tmp_path) == 2


def test_a_place_for_checkpoints_that_is_none(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(tmp_path / "gone")
    config.trainer.default_local_dir = str(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="must be a folder for checkpoints, or a link to one"):
        check_checkpoints(config)
    (tmp_path / "gone").mkdir()
    check_checkpoints(config)
