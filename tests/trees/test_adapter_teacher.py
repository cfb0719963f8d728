# SPDX-License-Identifier: Apache-2.0
"""The teacher as a second set of values for the student's adapter, in verl's own FSDP2 engine with LoRA."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from tiny_engine import engine, log_probs
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.algo.ema import local_shard
from co_rewarding.cpu.platform import PlatformCPU
from co_rewarding.storage.run_dir import ACTOR, ADAPTER_FACTS, TEACHER, shard_file
from co_rewarding_ii.adapter_worker import TEACHERS, AdapterTeacherWorker, TwoAdapters
from co_rewarding_ii.adapters import both, split

RANK, ALPHA = 4, 8
LAYER = "base_model.model.model.layers.0.mlp.up_proj"


@pytest.fixture
def make_worker(model_dir: Path, process_group: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker right after its start; verl's part of a checkpoint is left out, that of a pass is the engine's."""
    monkeypatch.setattr("verl.utils.device.get_platform", PlatformCPU)
    monkeypatch.setattr(ActorRolloutRefWorker, "init_model", lambda self: None)
    monkeypatch.setattr(ActorRolloutRefWorker, "load_checkpoint", lambda *_: None)

    def save(self: Any, local_path: str, *_: Any) -> None:
        folder = Path(local_path)
        (folder / "huggingface").mkdir(parents=True)
        (folder / "huggingface/config.json").write_text("{}")
        (folder / "fsdp_config.json").write_text("{}")
        (folder / ADAPTER_FACTS).write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))

    def compute(self: Any, data: TensorDict) -> torch.Tensor:
        if tu.get(data, "no_lora_adapter", default=False):
            with self.actor.engine.disable_adapter():
                return log_probs(self.actor.engine)
        return log_probs(self.actor.engine)

    monkeypatch.setattr(ActorRolloutRefWorker, "save_checkpoint", save)
    monkeypatch.setattr(ActorRolloutRefWorker, "compute_log_prob", compute)

    def make(update: bool = True) -> AdapterTeacherWorker:
        worker = AdapterTeacherWorker.__new__(AdapterTeacherWorker)
        worker.__dict__.update(_rank=0, _world_size=1, config=SimpleNamespace(teacher=SimpleNamespace(update=update)))
        worker.actor = SimpleNamespace(
            engine=engine(model_dir, lora_rank=RANK, lora_alpha=ALPHA, target_modules="all-linear")
        )
        worker.init_model()
        return worker

    return make


def learn(worker: AdapterTeacherWorker, seed: int) -> None:
    """As an update would: every weight of the student's adapter becomes another."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in worker._adapter().values():
            local_shard(weight).add_(0.2 * torch.randn(weight.shape, generator=random))


def asked(worker: AdapterTeacherWorker, **entries: bool) -> torch.Tensor:
    data = TensorDict({}, batch_size=[])
    tu.assign_non_tensor(data, **entries)
    return worker.compute_log_prob(data)


def adapter_of(worker: AdapterTeacherWorker) -> dict[str, torch.Tensor]:
    return {name: weight.full_tensor().detach().clone() for name, weight in worker._adapter().items()}


def test_factors_are_averaged_and_the_student_is_left_as_it_is(make_worker: Any) -> None:
    worker = make_worker()
    start = adapter_of(worker)
    assert {name.rpartition("lora_")[2] for name in start} == {"A.default.weight", "B.default.weight"}
    learn(worker, 1)
    student = adapter_of(worker)
    worker.update_teacher(0.75)
    for name, weight in worker.teacher.beside.items():
        exact = 0.75 * start[name].double() + 0.25 * student[name].double()
        assert torch.equal(weight, exact.float())
    assert all(torch.equal(weight, student[name]) for name, weight in adapter_of(worker).items())


def test_log_probs_of_three_models_in_one(make_worker: Any) -> None:
    worker = make_worker()
    of_start = asked(worker, no_lora_adapter=True)
    assert torch.equal(asked(worker), of_start)  # B is 0 at first
    learn(worker, 1)
    worker.update_teacher(0.5)
    of_student, of_teacher = asked(worker), asked(worker, **{TEACHERS: True}, no_lora_adapter=True)
    assert torch.equal(asked(worker, no_lora_adapter=True), of_start)
    assert torch.equal(asked(worker), of_student)  # every bit is back
    for other in (of_start, of_student):
        assert (of_teacher - other).abs().max() > 0.01
    # a model of its own with the teacher's weights merged into it: W + alpha / r B A
    with torch.no_grad():
        for name, weight in worker._adapter().items():
            local_shard(weight).copy_(worker.teacher.beside[name])
    assert torch.equal(asked(worker), of_teacher)


def test_both_adapters_are_sent_and_the_base_models_weights_as_they_are(make_worker: Any) -> None:
    worker = make_worker()
    learn(worker, 1)
    worker.update_teacher(0.5)
    student, teacher = adapter_of(worker), worker.teacher.beside
    engine = TwoAdapters(worker.actor.engine, worker._teacher_in_place)
    message, facts = engine.get_per_tensor_param(layered_summon=False, base_sync_done=True)
    sent = [(name, tensor.clone()) for name, tensor in message]  # a bucket copies each as it comes
    assert facts["r"] == RANK
    for who, expected in zip(split(sent), (student, teacher), strict=True):
        assert len(who) == len(expected)
        for name, tensor in who:
            assert torch.equal(tensor, expected[name.replace(".weight", ".default.weight")])
    assert torch.equal(worker._adapter()[f"{LAYER}.lora_B.default.weight"].full_tensor(),
                       student[f"{LAYER}.lora_B.default.weight"])  # fmt: skip
    base = dict(engine.get_per_tensor_param(layered_summon=False, base_sync_done=False)[0])
    assert not [name for name in base if "lora_" in name or name.startswith("teacher:")]


def test_a_message_without_a_teacher_is_the_students() -> None:
    rows = [("a", torch.zeros(1)), ("b", torch.ones(1))]
    assert split(rows) == (rows, [])
    assert split(both(rows[:1], rows[1:])) == (rows[:1], rows[1:])


def test_a_run_that_resumes_has_the_teacher_to_the_last_bit(make_worker: Any, tmp_path: Path) -> None:
    worker = make_worker()
    for seed in range(3):
        learn(worker, seed)
        worker.update_teacher(0.9)
    worker.save_checkpoint(str(tmp_path / ACTOR))
    saved = torch.load(tmp_path / TEACHER / shard_file(0, 1), weights_only=True)
    assert all(torch.equal(saved[name].full_tensor(), weight) for name, weight in worker.teacher.beside.items())
    assert json.loads((tmp_path / TEACHER / ADAPTER_FACTS).read_text()) == {"r": RANK, "lora_alpha": ALPHA}
    assert (tmp_path / TEACHER / "huggingface/config.json").is_file()
    resumed = make_worker()
    resumed.load_checkpoint(str(tmp_path / ACTOR))
    for other in (worker, resumed):  # the student is verl's to restore
        learn_from = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for weight in other._adapter().values():
                local_shard(weight).copy_(torch.randn(weight.shape, generator=learn_from))
        other.update_teacher(0.9)
    assert all(torch.equal(resumed.teacher.beside[name], weight) for name, weight in worker.teacher.beside.items())
    low = worker.average.state_dict()["low"]
    assert all(torch.equal(resumed.average.state_dict()["low"][name], weight) for name, weight in low.items())
    (tmp_path / TEACHER / shard_file(0, 1)).unlink()
    with pytest.raises(FileNotFoundError, match="resume with the number of processes that saved it"):
        make_worker().load_checkpoint(str(tmp_path / ACTOR))


def test_a_frozen_teacher_is_the_model_without_an_adapter(make_worker: Any, tmp_path: Path) -> None:
    worker = make_worker(update=False)
    learn(worker, 1)
    of_start, of_teacher = (
        asked(worker, **{TEACHERS: of_teacher}, no_lora_adapter=True) for of_teacher in (False, True)
    )
    assert torch.equal(of_start, of_teacher)
    worker.save_checkpoint(str(tmp_path / ACTOR))
    assert not (tmp_path / TEACHER).exists()
    worker.load_checkpoint(str(tmp_path / ACTOR))
