# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with the files that verl and a method write, without what is in them."""

import zipfile
from pathlib import Path

from co_rewarding.storage.run_dir import SAVE_STATE, TRACKER, WHOLE

ACTOR_PARTS, TEACHER_PARTS = ("model", "optim", "extra_state"), ("model", "average")


def save(checkpoints: Path, step: int, world: int = 1, teacher: bool = False) -> Path:
    """A whole checkpoint of `step`, which the next start resumes from; its folder."""
    folder = checkpoints / f"global_step_{step}"
    for name, parts in (("actor", ACTOR_PARTS), *([("teacher", TEACHER_PARTS)] if teacher else [])):
        for rank in range(world):
            for part in parts:
                zipped(folder / name / f"{part}_world_size_{world}_rank_{rank}.pt")
    zipped(folder / "data.pt")
    (folder / SAVE_STATE).write_text(WHOLE)
    (checkpoints / TRACKER).write_text(str(step))
    return folder


def zipped(path: Path) -> None:
    """An archive, as torch's files are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"state")
