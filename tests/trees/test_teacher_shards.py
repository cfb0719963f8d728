# SPDX-License-Identifier: Apache-2.0
"""The teacher's files as a run resumes from them: shards as FSDP2 has them, and no code."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.algo.ema import TeacherAverage
from co_rewarding.storage.run_dir import shard_file
from co_rewarding_ii.checkpoint import average_file
from co_rewarding_ii.worker import TeacherWorker


class Code:
    def __reduce__(self) -> tuple:
        return os.mkdir, (os.environ["RAN"],)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherWorker]:
    """A worker whose teacher is one sharded layer, with verl's part of loading left out."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        monkeypatch.setattr(ActorRolloutRefWorker, "load_checkpoint", lambda *_: None)
        teacher = torch.nn.Linear(3, 2, bias=False)
        fully_shard(teacher, mesh=init_device_mesh("cpu", (1,)))
        worker = TeacherWorker.__new__(TeacherWorker)
        worker.__dict__.update(_rank=0, _world_size=1, ref=SimpleNamespace(engine=SimpleNamespace(module=teacher)))
        worker.average = TeacherAverage(dict(teacher.named_parameters()), device="cpu")
        yield worker
    finally:
        torch.distributed.destroy_process_group()


def save(worker: TeacherWorker, folder: Path) -> Path:
    """As `save_checkpoint` has it written; the file of the serving weights."""
    folder.mkdir()
    shard = folder / shard_file(0, 1)
    torch.save(worker.ref.engine.module.state_dict(), shard)  # verl's save, without weights_only's limits
    torch.save(worker.average.state_dict(), folder / average_file(0, 1))
    return shard


def test_shards_of_every_run_load_without_code(worker: TeacherWorker, tmp_path: Path) -> None:
    weight = worker.ref.engine.module.weight
    assert isinstance(weight, DTensor)
    saved = weight.full_tensor().clone()
    save(worker, tmp_path / "teacher")
    with torch.no_grad():
        weight.zero_()
    worker.load_checkpoint(str(tmp_path / "actor"))
    assert torch.equal(worker.ref.engine.module.weight.full_tensor(), saved)


def test_code_in_a_shard_is_not_run(worker: TeacherWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = save(worker, tmp_path / "teacher")
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    torch.save(worker.ref.engine.module.state_dict() | {"code": Code()}, shard)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        worker.load_checkpoint(str(tmp_path / "actor"))
    assert not (tmp_path / "ran").exists()
    torch.load(shard, weights_only=False)  # what is refused does run code
    assert (tmp_path / "ran").exists()
