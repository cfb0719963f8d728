# SPDX-License-Identifier: Apache-2.0
"""kl_anchor=start: log-probabilities of the starting model out of the engine that holds a teacher that has moved.

verl's own FSDP2 engine, forward only, as it stands in the reference slot.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from transformers import LlamaConfig, LlamaForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, HFModelConfig
from verl.workers.engine import EngineRegistry
from verl.workers.engine_workers import ActorRolloutRefWorker

from co_rewarding.cpu.platform import PlatformCPU
from co_rewarding.storage.run_dir import ACTOR, TEACHER, shard_file
from co_rewarding_ii.checkpoint import average_file
from co_rewarding_ii.worker import TeacherWorker

VOCABULARY, LENGTHS = 40, (7, 3, 9)
WEIGHT = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def engine(path: Path) -> Any:
    model = HFModelConfig(
        path=str(path), load_tokenizer=False, external_lib="co_rewarding.cpu.engine",
        override_config={"attn_implementation": "sdpa"}, enable_gradient_checkpointing=False,
    )  # fmt: skip
    made = EngineRegistry.new(
        "language_model", "fsdp2", model,
        FSDPEngineConfig(strategy="fsdp2", forward_only=True, use_torch_compile=False,
                         mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32"}),
        None, CheckpointConfig(),
    )  # fmt: skip
    made.initialize()
    return made


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


def log_probs(made: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    rows = [torch.randint(VOCABULARY, (length,), generator=random) for length in LENGTHS]
    nested = lambda values: torch.nested.as_nested_tensor(values, layout=torch.jagged)  # noqa: E731
    data = TensorDict(
        {
            "input_ids": nested(rows),
            "position_ids": nested([torch.arange(len(row)) for row in rows]),
            "loss_mask": nested([torch.ones(len(row)) for row in rows]),
        },
        batch_size=len(rows),
    )
    tu.assign_non_tensor(
        data, calculate_entropy=False, compute_loss=False, temperature=1.0, use_remove_padding=False,
        use_dynamic_bsz=False, micro_batch_size_per_gpu=3, use_fused_kernels=False,
    )  # fmt: skip
    with made.eval_mode():
        return made.infer_batch(data)["model_output"]["log_probs"].values().clone()


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
