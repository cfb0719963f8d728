# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: which one it resumes from, how they are saved and kept (layout: co_rewarding.storage.run_dir).

A kill or power loss at any moment leaves the last completely saved checkpoint and the pointer to it:

    1. global_step_N begins: SAVE_STATE in it says "begun". A pointer that already names this step (the run was
       set back) first moves to an older one
    2. verl and the method write their parts
    3. once all of it is on the disk, SAVE_STATE says "whole"
    4. the pointer names N
    5. older ones are removed: each is renamed first, which is atomic

Unmodified verl 0.9.1 removes the old actor before 4, keeps the rest of the folder, and writes the pointer in place, so
a kill can leave it empty.

When a run starts over in the same folder, the pointer is removed and old checkpoints are "set aside": no start resumes
from them by default, and step 5 removes them once the run has passed their steps. Only checkpoints with a SAVE_STATE
are ever removed; older runs' checkpoints are left to their owner.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import (
    ACTOR,
    BEGUN,
    REMOVING,
    SAVE_STATE,
    SET_ASIDE,
    STEP_PREFIX,
    TRACKER,
    WHOLE,
    checkpoint_folder,
    save_state,
    saved_steps,
)

RESUME_MODES = ("auto", "disable", "resume_path")


def resume_dir(config: DictConfig) -> Path | None:
    """The `global_step_N` folder that a run with this configuration resumes from, None for a fresh start.

    Raises:
        ValueError: the pointer to it is broken, see `pointed_step`.
    """
    if config.trainer.resume_mode == "resume_path":
        return Path(config.trainer.resume_from_path)
    if config.trainer.resume_mode != "auto":
        return None
    checkpoints = Path(config.trainer.default_local_dir)
    step = pointed_step(checkpoints)
    return None if step is None else checkpoint_folder(checkpoints, step)


def is_of_another(config: DictConfig, folder: Path) -> bool:
    """Whether a checkpoint folder belongs to another run."""
    return folder.parent.resolve() != Path(config.trainer.default_local_dir).resolve()


def pointed_step(checkpoints: Path) -> int | None:
    """The step that is resumed from by default, None where none was ever saved.

    Raises:
        ValueError: the pointer file is empty or garbled, or its checkpoint is gone. verl would stop after its start, or
        train from the beginning.
    """
    pointer = checkpoints / TRACKER
    if not pointer.is_file():
        return None
    text = pointer.read_text(errors="replace").strip()
    if text.isdecimal() and checkpoint_folder(checkpoints, text).is_dir():
        return int(text)
    there = ", ".join(map(str, saved_steps(checkpoints))) or "none"
    raise ValueError(
        f"{pointer}: names no checkpoint ({text[:20]!r}; there are {there}, the last may be half-written); write the "
        "step to resume from into it, or start over with trainer.resume_mode=disable"
    )


def check_checkpoints(config: DictConfig) -> None:
    """Check that a run can resume from a complete checkpoint or start afresh, and the number of checkpoints to keep.

    Raises:
        ValueError: a setting or checkpoint that cannot be resumed.
    """
    trainer = config.trainer
    keep = trainer.max_actor_ckpt_to_keep
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise ValueError(f"trainer.max_actor_ckpt_to_keep={keep}: must be a whole number from 1, or null to keep all")
    for key in ("remove_previous_ckpt_in_save", "del_local_ckpt_after_load"):
        if trainer.get(key):
            raise ValueError(
                f"trainer.{key}=True: removes what a killed run would resume from; use trainer.max_actor_ckpt_to_keep=1"
            )
    place = trainer.default_local_dir
    if not isinstance(place, str) or (os.path.lexists(place) and not os.path.isdir(place)):
        raise ValueError(f"trainer.default_local_dir={place}: must be a folder for checkpoints, or a link to one")
    if trainer.resume_mode not in RESUME_MODES:
        raise ValueError(f"trainer.resume_mode={trainer.resume_mode}: must be one of {', '.join(RESUME_MODES)}")
    if trainer.resume_mode == "resume_path":
        path = trainer.resume_from_path
        name = Path(str(path)).name
        if not isinstance(path, str) or not (name.startswith(STEP_PREFIX) and name[len(STEP_PREFIX) :].isdecimal()):
            raise ValueError(f"trainer.resume_from_path={path}: must be a folder {STEP_PREFIX}N of checkpoints")
    folder = resume_dir(config)
    if folder is None:
        whole = [step for step in saved_steps(Path(place)) if save_state(checkpoint_folder(Path(place), step)) == WHOLE]
        if whole and trainer.resume_mode == "auto":  # verl would start over, and the first save would remove them
            raise ValueError(
                f"{Path(place) / TRACKER}: missing, and the checkpoints of steps {', '.join(map(str, whole))} are "
                "whole; write the step to resume from into it, or start over with trainer.resume_mode=disable"
            )
        return
    if not (folder / ACTOR).is_dir():
        raise ValueError(f"{folder}: has no {ACTOR} to resume from; choose another checkpoint")
    if save_state(folder) == BEGUN:
        raise ValueError(f"{folder}: saving it was interrupted; choose another checkpoint")


def latest_checkpoint_before(checkpoints: Path, step: int) -> Path | None:
    """The latest whole `global_step_N` folder with N ≤ `step` and not after the one resumed from, None without one."""
    last = pointed_step(checkpoints)
    if last is None:
        return None
    folders = [checkpoint_folder(checkpoints, saved) for saved in saved_steps(checkpoints) if saved <= min(step, last)]
    whole = [folder for folder in folders if save_state(folder) not in (BEGUN, SET_ASIDE)]
    return whole[-1] if whole else None


def set_resume_checkpoint(folder: Path) -> None:
    """Point the next start at `folder`; durable on disk when this returns."""
    atomic_write_text(folder.parent / TRACKER, folder.name.removeprefix(STEP_PREFIX))
    _sync(folder.parent)


def set_aside(checkpoints: Path) -> list[int]:
    """Set existing checkpoints aside before a run starts over. Returns: their steps."""
    (checkpoints / TRACKER).unlink(missing_ok=True)
    steps = saved_steps(checkpoints)
    for folder in (checkpoint_folder(checkpoints, step) for step in steps):
        if save_state(folder) == WHOLE:
            _mark(folder, SET_ASIDE)
    if steps:
        _sync(checkpoints)
    return steps


@contextmanager
def saving(folder: Path, keep: int | None, spare: Path | None = None) -> Iterator[None]:
    """Wraps the code that writes a checkpoint into `folder`: steps 1, 3, 4 and 5 above. If it fails, the pointer stays.

    Args:
        keep: number of checkpoints kept, this one included; None: all.
        spare: one more to keep, whatever its age.
    """
    _begin(folder)
    yield
    _sync_all(folder)
    _mark(folder, WHOLE)
    set_resume_checkpoint(folder)
    if keep is not None:
        _prune(folder, keep, spare)


def _begin(folder: Path) -> None:
    checkpoints, step = folder.parent, int(folder.name.removeprefix(STEP_PREFIX))
    pointer = checkpoints / TRACKER
    if pointer.is_file() and pointer.read_text(errors="replace").strip() == str(step):
        if folder.is_dir() and (older := latest_checkpoint_before(checkpoints, step - 1)) is not None:
            set_resume_checkpoint(older)
        else:
            pointer.unlink()
    _remove_leftovers(checkpoints)
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, BEGUN)


def _prune(newest: Path, keep: int, spare: Path | None) -> None:
    checkpoints, last = newest.parent, int(newest.name.removeprefix(STEP_PREFIX))
    # checkpoints after the pointer belong to a run that was set back, which overwrites them when it gets there
    older = [checkpoint_folder(checkpoints, step) for step in saved_steps(checkpoints) if step < last]
    whole = [folder for folder in older if save_state(folder) == WHOLE]
    kept = whole[::-1][: keep - 1]
    for folder in older:
        # the owner may link to another disk
        ours = save_state(folder) in (BEGUN, WHOLE, SET_ASIDE) and not folder.is_symlink()
        if ours and folder not in kept and not (spare and spare.resolve() == folder.resolve()):
            folder.rename(folder.with_name(folder.name + REMOVING))
    _remove_leftovers(checkpoints)


def _remove_leftovers(checkpoints: Path) -> None:
    for leftover in checkpoints.glob(f"{STEP_PREFIX}*{REMOVING}"):
        try:
            shutil.rmtree(leftover)
        except OSError as error:  # on a shared disk a file may be open elsewhere; the next save tries again
            print(f"{leftover}: cannot be removed now ({error.strerror}); training continues", flush=True)


def _mark(folder: Path, state: str) -> None:
    atomic_write_text(folder / SAVE_STATE, state)
    _sync(folder)


def _sync_all(folder: Path) -> None:
    for path, _, files in os.walk(folder):
        for name in files:
            _sync(Path(path, name))
        _sync(Path(path))
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise  # otherwise a network or user-space file system that cannot sync folders
    finally:
        os.close(descriptor)
