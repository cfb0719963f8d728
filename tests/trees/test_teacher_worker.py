# SPDX-License-Identifier: Apache-2.0
"""The teacher's worker without Ray and without verl's engines: where it has the average computed."""

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
