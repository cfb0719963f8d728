# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint has every file that a resumed run reads: each process reads the part that it wrote.

verl names the parts `model_world_size_4_rank_0.pt`. torch writes zip files, whose last bytes mark them as complete; a
truncated part lacks them.
"""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from co_rewarding.storage.run_dir import ACTOR, DATA_STATE, LABELS_FILE, STATE_FILE, saved_steps, shard_file, step_of
from co_rewarding.training.checkpoint import resume_dir
from co_rewarding.training.preflight.machine import world_size

PARTS = {"model": "model", "optimizer": "optim", "extra": "extra_state"}  # verl's load_contents → name of the part


def check_checkpoint_files(config: DictConfig) -> None:
    """The checkpoint has the actor part of each process and the position in the order of questions.

    Raises:
        ValueError: a part is missing, or the number of processes differs.
    """
    folder = resume_dir(config)
    if folder is None:
        return
    world = world_size(config)
    sizes = {re.search(r"_world_size_(\d+)_rank_", file.name) for file in (folder / ACTOR).glob("*.pt")}
    saved_by = sorted({int(found[1]) for found in sizes if found})
    if saved_by and world not in saved_by:
        raise ValueError(
            f"trainer.nnodes={config.trainer.nnodes}, trainer.n_gpus_per_node={config.trainer.n_gpus_per_node}: "
            f"{folder} was saved by {saved_by[0]} processes and needs as many; set NUM_NODES and GPUS_PER_NODE to "
            "them, or start another run from its model (scripts/export_checkpoint.py, then MODEL_PATH and RUN_NAME)"
        )
    wanted = config.actor_rollout_ref.actor.checkpoint.load_contents
    names = [shard_file(rank, world, part) for rank in range(world) for kind, part in PARTS.items() if kind in wanted]
    check_files(folder, [*(f"{ACTOR}/{name}" for name in names), DATA_STATE])
    for state in (folder / STATE_FILE, folder / LABELS_FILE):
        if state.is_file():  # older runs have none
            try:
                json.loads(state.read_text(encoding="utf-8"))
            except ValueError:
                raise ValueError(f"{state}: not JSON; {_ways_out(folder)}") from None


def check_files(folder: Path, names: Iterable[str]) -> None:
    """Raise ValueError, naming the first three, if torch files of a checkpoint are missing or truncated."""
    bad = [f"{name} {fault}" for name in names if (fault := _fault(folder / name))]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise ValueError(f"{folder}: cannot be resumed from: {', '.join(bad[:3])}{more}; {_ways_out(folder)}")


def _fault(file: Path) -> str | None:
    if not file.is_file():
        return "is missing"
    if file.stat().st_size == 0:
        return "is empty"
    return None if zipfile.is_zipfile(file) else "is cut off"


def _ways_out(folder: Path) -> str:
    others = [str(step) for step in saved_steps(folder.parent) if step != step_of(folder)]
    if not others:
        return "there is no other checkpoint; choose another RUN_NAME to start afresh"
    return f"resume from another (there are {', '.join(others)}): trainer.resume_mode=resume_path and resume_from_path"
