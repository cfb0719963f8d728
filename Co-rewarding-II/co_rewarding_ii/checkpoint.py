# SPDX-License-Identifier: Apache-2.0
"""Where a checkpoint keeps the teacher.

global_step_N/actor/      verl's
global_step_N/teacher/    model_world_size_W_rank_R.pt, huggingface/   the serving weights, in verl's format
                          average_world_size_W_rank_R.pt               what was rounded off them (co_rewarding.algo.ema)

With LoRA the serving weights are only the teacher's adapter: the base model is in actor/. verl's file with the
adapter's scale, lora_train_meta.json, is in the same folder.
"""

from pathlib import Path

from omegaconf import DictConfig

from co_rewarding.storage.run_dir import ACTOR, TEACHER, shard_file
from co_rewarding.training.checkpoint import resume_dir
from co_rewarding.training.checkpoint_files import check_files
from co_rewarding.training.preflight.machine import world_size
from co_rewarding_ii.settings import TeacherSettings


def teacher_dir(actor_dir: str | Path) -> Path:
    return Path(actor_dir).parent / TEACHER


def existing(path: Path) -> Path:
    """Raises: FileNotFoundError, listing the files found."""
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in path.parent.glob("*.pt")))
        raise FileNotFoundError(f"{path}: no such file; resume with the number of processes that saved it ({found})")
    return path


def average_file(rank: int, world_size: int) -> str:
    return f"average_world_size_{world_size}_rank_{rank}.pt"


def check_resumable(config: DictConfig, settings: TeacherSettings) -> None:
    """Refuse to resume without the teacher's state: the run would silently use the starting model instead.

    Raises:
        ValueError: the checkpoint to resume from has no complete teacher.
    """
    folder = resume_dir(config)
    if folder is None or not settings.update:
        return
    if not teacher_dir(folder / ACTOR).is_dir():
        raise ValueError(
            f"trainer.default_local_dir={config.trainer.default_local_dir}: {folder.name} has no teacher (was the "
            "run started with another method?); choose another RUN_NAME to start afresh, or export its model and start "
            "from that (MODEL_PATH)"
        )
    world = world_size(config)
    files = [name(rank, world) for rank in range(world) for name in (shard_file, average_file)]
    check_files(folder, [f"{TEACHER}/{file}" for file in files])
