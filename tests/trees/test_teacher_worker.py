# SPDX-License-Identifier: Apache-2.0
"""The teacher's worker without Ray and without verl's engines: where it has the average computed, and whose weights it
sends."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.cpu.platform import PlatformCPU
from co_rewarding_ii.worker import TeacherWorker


@pytest.mark.parametrize("update", [True, False])
def test_the_average_is_computed_on_the_device_of_verl(update: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """VERL_PLATFORM=cpu on a machine with a GPU: torch finds the card, the run has been told to leave it alone."""
    monkeypatch.setattr("verl.utils.device.get_platform", PlatformCPU)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(ActorRolloutRefWorker, "init_model", lambda self: None)
    worker = TeacherWorker.__new__(TeacherWorker)
    worker.config = SimpleNamespace(teacher=SimpleNamespace(update=update, kl_anchor="teacher"))
    worker.ref = SimpleNamespace(engine=SimpleNamespace(module=nn.Linear(2, 2)))
    worker.actor = SimpleNamespace(engine=SimpleNamespace(module=nn.Linear(2, 2)))
    worker.init_model()
    if not update:
        assert worker.average is None
        return
    worker.update_teacher(0.0)  # with the card for a device this would fail: there is none
    assert torch.equal(worker.ref.engine.module.weight, worker.actor.engine.module.weight)


@pytest.mark.parametrize(
    ("students", "replica", "sent"),
    [(0, 0, "teacher"), (1, 0, "student"), (1, 1, "teacher"), (2, 1, "student"), (2, 3, "teacher")],
)
def test_the_first_replicas_get_the_student(
    students: int, replica: int, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    async def update_weights(self: TeacherWorker, **given: object) -> None:
        weights, _ = self.actor.engine.get_per_tensor_param(layered_summon=False, base_sync_done=True)
        told.append((given, list(weights)))

    monkeypatch.setattr(ActorRolloutRefWorker, "update_weights", update_weights)
    worker = TeacherWorker.__new__(TeacherWorker)
    worker.rollout = SimpleNamespace(replica_rank=replica)
    for name, who in (("actor", "student"), ("ref", "teacher")):
        engine = SimpleNamespace(get_per_tensor_param=lambda who=who, **_: (iter([("weight", f"the {who}'s")]), None))
        setattr(worker, name, SimpleNamespace(engine=engine))
    trained = worker.actor
    asyncio.run(worker.send_weights(global_steps=3, students=students))
    assert told == [({"global_steps": 3, "mode": "naive"}, [("weight", f"the {sent}'s")])]
    assert worker.actor is trained
