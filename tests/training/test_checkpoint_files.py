# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that lacks a file is told before Ray, by the file's name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_checkpoints import save, zipped
from omegaconf import DictConfig

from co_rewarding.storage.run_dir import LABELS_FILE, STATE_FILE
from co_rewarding.training.checkpoint_files import check_checkpoint_files


@pytest.fixture
def checkpoints(config: DictConfig, tmp_path: Path) -> Path:
    config.trainer.default_local_dir = str(tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture
def refused(config: DictConfig) -> Callable[[], str]:
    def refuse() -> str:
        with pytest.raises(ValueError) as error:
            check_checkpoint_files(config)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refuse


def test_a_whole_checkpoint(config: DictConfig, checkpoints: Path) -> None:
    check_checkpoint_files(config)  # nothing was saved
    save(checkpoints, 20)
    check_checkpoint_files(config)


@pytest.mark.parametrize(
    "name",
    [*(f"actor/{part}_world_size_1_rank_0.pt" for part in ("model", "optim", "extra_state")), "data.pt"],
)
def test_a_file_that_is_gone_empty_or_cut_off(
    config: DictConfig, checkpoints: Path, refused: Callable[[], str], name: str
) -> None:
    file = save(checkpoints, 20) / name
    whole = file.read_bytes()
    for content, fault in ((None, "is missing"), (b"", "is empty"), (whole[:-20], "is cut off")):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        message = refused()
        assert f"global_step_20: cannot be resumed from: {name} {fault}; " in message
        assert "there is no other checkpoint; choose another RUN_NAME" in message
    (checkpoints / "global_step_10").mkdir()
    assert "resume from another (there are 10)" in refused()
    config.trainer.resume_mode = "disable"
    check_checkpoint_files(config)


def test_what_is_not_loaded_need_not_be_there(config: DictConfig, checkpoints: Path) -> None:
    (save(checkpoints, 20) / "actor/optim_world_size_1_rank_0.pt").unlink()
    config.actor_rollout_ref.actor.checkpoint.load_contents = ["model", "extra"]
    check_checkpoint_files(config)


def test_all_processes_have_theirs(config: DictConfig, checkpoints: Path, refused: Callable[[], str]) -> None:
    folder = save(checkpoints, 20, world=4)
    assert "global_step_20 was saved by 4 processes and needs as many; set NUM_NODES and" in refused()
    config.trainer.n_gpus_per_node = 4
    check_checkpoint_files(config)
    config.trainer.n_gpus_per_node, config.trainer.nnodes = 2, 2
    check_checkpoint_files(config)
    for part in ("model", "optim", "extra_state"):
        for rank in (1, 3):
            (folder / f"actor/{part}_world_size_4_rank_{rank}.pt").unlink()
    assert "actor/extra_state_world_size_4_rank_1.pt is missing and 3 more;" in refused()


def test_an_actor_without_any_file(checkpoints: Path, refused: Callable[[], str]) -> None:
    folder = save(checkpoints, 20)
    for file in (folder / "actor").iterdir():
        file.unlink()
    assert "actor/model_world_size_1_rank_0.pt is missing" in refused()


def test_what_was_seen_of_the_run_is_json(config: DictConfig, checkpoints: Path, refused: Callable[[], str]) -> None:
    folder = save(checkpoints, 20)
    (folder / STATE_FILE).write_text('{"labels": [')
    assert f"{STATE_FILE}: not JSON; " in refused()
    (folder / STATE_FILE).write_text("{}")
    check_checkpoint_files(config)
    (folder / LABELS_FILE).write_text('[["5", "original"')
    assert f"{LABELS_FILE}: not JSON; " in refused()


def test_torch_writes_what_is_taken_for_whole(config: DictConfig, checkpoints: Path) -> None:
    import torch

    folder = save(checkpoints, 20)
    zipped(folder / "data.pt")
    torch.save({"position": 7}, folder / "data.pt")
    torch.save({"weight": torch.zeros(1000)}, folder / "actor/model_world_size_1_rank_0.pt")
    check_checkpoint_files(config)
