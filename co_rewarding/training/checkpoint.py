# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run resumes from, in verl's trainer.default_local_dir (layout: co_rewarding.storage.run_dir)."""

from pathlib import Path

from omegaconf import DictConfig

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import STEP_PREFIX, TRACKER, checkpoint_folder, saved_steps


def resume_dir(config: DictConfig) -> Path | None:
    """The `global_step_N` folder that a run with this configuration resumes from, None for a fresh start."""
    if config.trainer.resume_mode == "resume_path":
        return Path(config.trainer.resume_from_path)
    tracker = Path(config.trainer.default_local_dir) / TRACKER
    if config.trainer.resume_mode != "auto" or not tracker.is_file():
        return None
    folder = checkpoint_folder(tracker.parent, tracker.read_text().strip())
    return folder if folder.is_dir() else None


def latest_checkpoint_before(checkpoints: Path, step: int) -> Path | None:
    """The latest complete `global_step_N` folder with N ≤ `step`, None without one."""
    tracker = checkpoints / TRACKER
    if not tracker.is_file():
        return None
    last_complete = int(tracker.read_text())
    steps = [saved for saved in saved_steps(checkpoints) if saved <= min(step, last_complete)]
    return checkpoint_folder(checkpoints, steps[-1]) if steps else None


def set_resume_checkpoint(folder: Path) -> None:
    """Name `folder` as the checkpoint that the next start resumes from."""
    atomic_write_text(folder.parent / TRACKER, folder.name.removeprefix(STEP_PREFIX))
