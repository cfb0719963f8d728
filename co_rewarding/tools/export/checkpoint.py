# SPDX-License-Identifier: Apache-2.0
"""Finds the requested weights in a run's checkpoints.

    actor/       the student, verl's FSDP shards, one file a process
    teacher/     the teacher, in the same form (Co-rewarding-II, -III); with LoRA only its adapter, for the model in
                 actor/

Errors: no checkpoint, an unknown step, a method without a teacher, a teacher that never moves (it is the starting
model), saving interrupted before the teacher, a shard on another machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from co_rewarding.storage.files import short_json
from co_rewarding.storage.run_dir import (
    ACTOR,
    ADAPTER_FACTS,
    BEGUN,
    TEACHER,
    TRACKER,
    checkpoint_folder,
    save_state,
    saved_steps,
    shard_file,
)
from co_rewarding.tools.cli import one_line

Weights = Literal["student", "teacher"]
FOLDERS: dict[Weights, str] = {"student": ACTOR, "teacher": TEACHER}
MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Checkpoint:
    """The saved shards of one model."""

    step: int
    weights: Weights
    folder: Path  # with model_world_size_W_rank_R.pt, fsdp_config.json and huggingface/
    world_size: int
    base: Path | None = None  # with the shards of the base model of the adapter in `folder`

    @property
    def shards(self) -> list[Path]:
        return self.shards_in(self.folder) + ([] if self.base is None else self.shards_in(self.base))

    def shards_in(self, folder: Path) -> list[Path]:
        return [folder / shard_file(rank, self.world_size) for rank in range(self.world_size)]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a run, a checkpoint or an export.

    Raises:
        ValueError: names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({one_line(error)}); copy it again from where it was written") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a JSON object; copy it again from where it was written")
    return found


def find_checkpoint(checkpoints: Path, step: int | None, weights: Weights, saves_teacher: bool = False) -> Checkpoint:
    """The checkpoint of `step`, or the last complete one.

    Args:
        saves_teacher: from the run's configuration (run_config.saves_teacher), to explain a missing one.

    Raises:
        ValueError: see the module docstring.
    """
    steps = saved_steps(checkpoints)
    if not steps:
        raise ValueError(f"{checkpoints}: no checkpoints; was trainer.save_freq set, and is this the run's folder?")
    there = f"there are {', '.join(map(str, steps))}"
    if step is None:
        tracker = checkpoints / TRACKER
        text = tracker.read_text(errors="replace").strip() if tracker.is_file() else ""
        if not text.isdecimal() or int(text) not in steps:
            raise ValueError(f"{tracker}: does not name a saved step ({text[:60]!r}); choose one: {there}")
        step = int(text)
    elif step not in steps:
        raise ValueError(f"--step {step}: not saved in {checkpoints}; {there}")
    if save_state(checkpoint_folder(checkpoints, step)) == BEGUN:
        raise ValueError(f"--step {step}: saving it was interrupted; choose another: {there}")
    folder = checkpoint_folder(checkpoints, step) / FOLDERS[weights]
    if not folder.is_dir():
        why = "; was saving it interrupted?"
        if weights == "teacher" and not saves_teacher:
            why = ": the method has no teacher, or one that never moves, which is the starting model"
        raise ValueError(f"--weights {weights}: no {folder}{why}")
    facts = folder / "fsdp_config.json"
    if not facts.is_file() or not (folder / "huggingface/config.json").is_file():
        raise ValueError(f"{folder}: lacks {facts.name} or huggingface/config.json; was saving it interrupted?")
    world_size = read_json(facts).get("world_size")
    if not isinstance(world_size, int) or not 1 <= world_size <= MOST_SHARDS:
        raise ValueError(f"{facts}: world_size={short_json(world_size)}: must be the number of shards in its folder")
    is_adapter = weights == "teacher" and (folder / ADAPTER_FACTS).is_file()
    base = folder.with_name(ACTOR) if is_adapter else None
    checkpoint = Checkpoint(step, weights, folder, world_size, base)
    if missing := [path for path in checkpoint.shards if not path.is_file()]:
        raise ValueError(
            f"{missing[0]}: missing, one of {len(missing)} missing shards of {world_size}; copy them from the machines "
            "that wrote them"
        )
    return checkpoint
