# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a run goes on from. verl's trainer.default_local_dir holds

latest_checkpointed_iteration.txt      N, written when global_step_N is whole
global_step_N/                         actor/ (verl's), co_rewarding.json (co_rewarding.trainer), teacher/ (tree II)
"""

from pathlib import Path

from omegaconf import DictConfig

TRACKER = "latest_checkpointed_iteration.txt"  # verl's; importing it from there takes seconds


def resume_dir(config: DictConfig) -> Path | None:
    """The `global_step_N` folder that a run with this configuration goes on from, None for a fresh start."""
    if config.trainer.resume_mode == "resume_path":
        return Path(config.trainer.resume_from_path)
    tracker = Path(config.trainer.default_local_dir) / TRACKER
    if config.trainer.resume_mode != "auto" or not tracker.is_file():
        return None
    folder = tracker.parent / f"global_step_{tracker.read_text().strip()}"
    return folder if folder.is_dir() else None
