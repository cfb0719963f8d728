# SPDX-License-Identifier: Apache-2.0
"""kl_anchor=start: log-probabilities of the starting model out of the engine that holds a teacher that has moved.

verl's own FSDP2 engine, forward only, as it stands in the reference slot.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_engine import engine, log_probs
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.cpu.platform import PlatformCPU
from co_rewarding.storage.run_dir import ACTOR, TEACHER, shard_file
from co_rewarding_ii.checkpoint import average_file
from co_rewarding_ii.worker import TeacherWorker

WEIGHT = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def make_worker(model_dir: Path, process_group: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker right after its start, with an engine in the reference slot and a student that stands 0.05 beside it."""
    monkeypatch.setattr("verl.utils.device.get_platform", PlatformCPU)
    monkeypatch.setattr(ActorRolloutRefWorker, "init_model", lambda self: None)
    monkeypatch.setattr(ActorRolloutRefWorker, "load_checkpoint", lambda *_: None)

    def make(kl_anchor: str, update: bool = True) -> TeacherWorker:
        worker = TeacherWorker.__new__(TeacherWorker)
        teacher = SimpleNamespace(update=update, kl_anchor=kl_anchor)
        worker.__dict__.update(_rank=0, _world_size=1, config=SimpleNamespace(teacher=teacher))
        worker.ref, worker.actor = (SimpleNamespace(engine=engine(model_dir)) for _ in range(2))
        with torch.no_grad():
            for parameter in worker.actor.engine.module.parameters():
                parameter.add_(0.05)
        worker.init_model()
        return worker

    return make


def test_the_anchor_is_the_starting_model_to_the_last_bit(make_worker: Any, model_dir: Path, tmp_path: Path) -> None:
    worker, of_start = make_worker("start"), log_probs(engine(model_dir))
    assert torch.equal(log_probs(worker.ref.engine), of_start)
    for _ in range(3):
        worker.update_teacher(0.5)
    of_teacher = log_probs(worker.ref.engine)
    assert (of_teacher - of_start).abs().max() > 0.01  # the KL term is another one
    for _ in range(2):  # two steps
        worker.exchange_teacher_and_start()
        assert torch.equal(log_probs(worker.ref.engine), of_start)
        worker.exchange_teacher_and_start()
        assert torch.equal(log_probs(worker.ref.engine), of_teacher)

    # a start that resumes: a new process, the same model; then the teacher out of the checkpoint
    (tmp_path / TEACHER).mkdir()
    torch.save(worker.ref.engine.module.state_dict(), tmp_path / TEACHER / shard_file(0, 1))
    torch.save(worker.average.state_dict(), tmp_path / TEACHER / average_file(0, 1))
    resumed = make_worker("start")
    resumed.load_checkpoint(str(tmp_path / ACTOR))
    assert torch.equal(log_probs(resumed.ref.engine), of_teacher)
    resumed.exchange_teacher_and_start()
    assert torch.equal(log_probs(resumed.ref.engine), of_start)


def test_the_average_goes_on_from_where_it_was(make_worker: Any) -> None:
    """The teacher of a run that exchanges is that of one that does not."""
    plain, exchanging = make_worker("teacher"), make_worker("start")
    for _ in range(3):
        plain.update_teacher(0.9)
        exchanging.update_teacher(0.9)
        exchanging.exchange_teacher_and_start()
        exchanging.exchange_teacher_and_start()
    ours, theirs = (worker.ref.engine.module.get_parameter(WEIGHT) for worker in (exchanging, plain))
    assert torch.equal(ours.full_tensor(), theirs.full_tensor())
    assert all(torch.equal(low, plain.average.state_dict()["low"][name])
               for name, low in exchanging.average.state_dict()["low"].items())  # fmt: skip


@pytest.mark.parametrize(("kl_anchor", "update"), [("teacher", True), ("start", False), ("teacher", False)])
def test_nothing_is_kept_where_the_reference_is_the_anchor(make_worker: Any, kl_anchor: str, update: bool) -> None:
    assert make_worker(kl_anchor, update).start is None
