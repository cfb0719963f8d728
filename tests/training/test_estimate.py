# SPDX-License-Identifier: Apache-2.0
"""The estimate against what can be counted without a GPU: the allocations of transformers, FSDP2 and AdamW, a model's
shapes, vLLM's own count of keys and values; and against the few figures of docs/GPU.md."""

import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from co_rewarding.algo.token_statistics import CHUNK_NUMBERS, token_statistics
from co_rewarding.training import estimate as module
from co_rewarding.training.estimate import (
    GIB,
    Setting,
    checkpoint,
    estimate,
    host,
    micro_batch,
    pinned_bytes,
    rollout,
    update,
    vllm,
)
from co_rewarding.training.model_shape import ModelShape

QWEN3_4B = ModelShape("qwen3", 36, 2560, 9728, 32, 8, 128, 151936, True)
QWEN3_8B = ModelShape("qwen3", 36, 4096, 12288, 32, 8, 128, 151936, False)
H100 = 79.2 * GIB


class Allocations(TorchDispatchMode):
    """Bytes of all storages that are alive, and their peak; also of fake tensors, and of those that FSDP2 resizes."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        super().__init__()
        self.alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.peak = 0
        for tensor in tensors:
            self.see(tensor)

    def see(self, tensor: torch.Tensor) -> None:
        storage = getattr(tensor, "_local_tensor", tensor).untyped_storage()
        known = self.alive.get(storage._cdata)
        if known is None or known() is None:
            self.alive[storage._cdata] = weakref.ref(storage)

    def now(self) -> int:
        storages = {key: reference() for key, reference in self.alive.items()}
        self.alive = {key: self.alive[key] for key, storage in storages.items() if storage is not None}
        return sum(storage.nbytes() for storage in storages.values() if storage is not None)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for value in tree_iter((out, args)):
            if isinstance(value, torch.Tensor):
                self.see(value)
        self.peak = max(self.peak, self.now())
        return out


@pytest.fixture
def two_ranks() -> Iterator[Any]:
    """A mesh of two processes of which only this one is there: collectives return at once."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("is_tied", "keeps_gradients", "vocabulary", "tokens"),
    [
        (True, False, 65536, 2048),  # the log-probabilities need most
        (False, True, 65536, 2048),  # the same, and gradients of all weights on each rank
        (False, False, 128, 2048),  # a layer needs most
        (True, False, 32768, 256),  # the embedding's two gradients
    ],
)
def test_a_micro_batchs_peak_is_what_transformers_and_fsdp_allocate(
    two_ranks: Any,
    monkeypatch: pytest.MonkeyPatch,
    is_tied: bool,
    keeps_gradients: bool,
    vocabulary: int,
    tokens: int,
) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from transformers import AutoModelForCausalLM, Qwen3Config

    monkeypatch.setitem(CHUNK_NUMBERS, "cpu", CHUNK_NUMBERS["cuda"])
    shape = ModelShape("qwen3", 3, 1024, 4096, 16, 4, 128, vocabulary, is_tied)
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=1024, intermediate_size=4096, num_hidden_layers=3, num_attention_heads=16,
        num_key_value_heads=4, head_dim=128, tie_word_embeddings=is_tied, attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
    with FakeTensorMode():  # shapes without numbers: nothing is computed
        # as verl's engine builds it (transformer_impl.py): fp32, gathered and computed in bf16, reduced in fp32
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=True)
        own = [] if is_tied else [model.model.embed_tokens, model.lm_head]
        for part in (*model.model.layers, *own, model):
            fully_shard(part, mesh=two_ranks, mp_policy=policy)
        ids, positions = torch.zeros(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
        allocations = Allocations(*model.parameters())
        weights = allocations.now()
        with allocations:
            for is_last in (False, True):  # the second has the first one's gradients beside it
                model.set_requires_gradient_sync(not keeps_gradients or is_last)
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = model(input_ids=ids, position_ids=positions).logits.squeeze(0)
                    columns = token_statistics(logits, names=["log_probs"], labels_T=ids[0])
                    loss = columns["log_probs"].sum()
                del logits, columns
                loss.backward()
                del loss
    setting = Setting(gpus=2, card=H100, tokens=tokens, keeps_gradients=keeps_gradients)
    parts = update(shape, setting)[0].parts
    assert parts["weights"] == pytest.approx(weights)
    expected = parts["weights"] + parts["gradients"] + sum(micro_batch(shape, setting).values())
    assert allocations.peak == pytest.approx(expected, rel=0.05)


def test_the_size_of_a_chunk() -> None:
    assert CHUNK_NUMBERS["cuda"] == module.LOGITS_AT_ONCE


@pytest.mark.parametrize(("options", "bytes_a_weight"), [({"foreach": True}, 20), ({"fused": True}, 16)])
def test_adamw(options: dict[str, bool], bytes_a_weight: int) -> None:
    weights = [torch.nn.Parameter(torch.zeros(100, 100)) for _ in range(10)]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW(weights, **options)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    with Allocations(*weights, *(weight.grad for weight in weights), *states) as allocations:
        optimizer.step()
    assert allocations.peak / 100_000 == pytest.approx(bytes_a_weight, rel=0.001)
    stage = update(QWEN3_4B, Setting(gpus=1, card=H100, is_fused="fused" in options))[1]
    fixed = stage.parts["CUDA, NCCL"]
    assert (stage.total - fixed) / QWEN3_4B.parameters == bytes_a_weight


def test_keys_and_values_as_vllm_counts_them() -> None:
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    for tensor_parallel in (1, 2):
        spec = FullAttentionSpec(
            block_size=16, num_kv_heads=8 // tensor_parallel, head_size=128, dtype=torch.bfloat16
        )  # fmt: skip
        token = QWEN3_8B.layers * spec.page_size_bytes / spec.block_size
        needs = estimate(QWEN3_8B, Setting(gpus=2, card=H100, tensor_parallel=tensor_parallel))
        # 0.6 of 79.2 GiB, less weights in bf16 and 2 GiB
        room = 0.6 * H100 - 2 * QWEN3_8B.parameters / tensor_parallel - 2 * GIB
        assert needs.cache_tokens == int(room // token)
        assert needs.cache_sequences == pytest.approx(room / token / 3584)


# --- docs/GPU.md ------------------------------------------------------------------------------------------------------


def test_memory_of_vllm_and_trainer_on_one_h100() -> None:
    toy = ModelShape("llama", 2, 128, 256, 4, 4, 32, 543, False)
    # "its memory pool is there (26.0 GiB at gpu_memory_utilization=0.3)", moments not made yet
    needs = estimate(toy, Setting(gpus=1, card=H100, is_teacher=True, utilization=0.3))
    assert needs.gpu[0].total / GIB == pytest.approx(26.0, rel=0.01)
    # "a Qwen3 of 0.6 billion random weights, had built actor and teacher (3.5 GiB)"
    small = ModelShape("qwen3", 28, 1024, 3072, 16, 8, 128, 151936, True)
    assert (4 * small.parameters + module.TRAINER) / GIB == pytest.approx(3.5, rel=0.03)


def test_memory_of_four_layers_on_one_h100() -> None:
    # "4 layers of 2,560, forward and backward, 5,684 tokens, packed": 3.8 GiB with sdpa, 3.7 with flex_attention; not
    # sharded and in bf16: weights, gradients, and a copy of the weights that the script kept, 2 bytes each
    layers = ModelShape("qwen3", 4, 2560, 9728, 32, 8, 128, 1024, False)
    for attention, measured in (("sdpa", 3.8), ("flex_attention", 3.7)):
        setting = Setting(gpus=1, card=H100, tokens=5684, attention=attention)
        parts = micro_batch(layers, setting)
        layer = 2560 * (2 * 4096 + 2 * 1024 + 3 * 9728) + 2 * 2560 + 2 * 128
        of_fsdp = 12 * layer + 8 * 1024 * 2560  # gathered copies and gradients on their way: 8 + 4 / 1, output layer
        expected = 3 * 2 * layers.parameters + sum(parts.values()) - of_fsdp
        assert expected / GIB == pytest.approx(measured, rel=0.04)


# --- host memory and disk ---------------------------------------------------------------------------------------------


def test_pinned_blocks_are_powers_of_two() -> None:
    assert pinned_bytes((1024, 1024), 1) == 2**22  # 4 MiB: itself
    assert pinned_bytes((1025, 1024), 1) == 2**23  # a row more: the next power
    assert pinned_bytes((1025, 1024), 2) == 2**22  # 513 rows of each GPU, 2.004 MiB
    assert pinned_bytes((128,), 1) == 512


@pytest.mark.parametrize(("model", "gigabytes"), [(QWEN3_4B, 22.7), (QWEN3_8B, 43.6)])
def test_the_reference_in_pinned_memory(model: ModelShape, gigabytes: float) -> None:
    # the embedding of 8B: 151,936 · 4,096 · 4 = 2.49 GB in a block of 4.29; summed over all tensors by hand
    assert host(model, Setting(gpus=1, card=H100)).parts["reference"] / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_host_memory_by_offload() -> None:
    square = ModelShape("llama", 1, 1024, 1024, 8, 8, 128, 1024, False)  # matrices of 4 MiB in fp32: nothing is rounded
    weights = 4 * square.parameters
    teacher = Setting(gpus=1, card=H100, is_teacher=True)
    for word, copies in (("none", 2), ("step", 2 + 3), ("all", 2 + 4)):
        # reference and remainder; weights and two moments; gradients too
        assert host(square, teacher.with_offload(word)).total == pytest.approx(copies * weights, rel=0.001)
        # and the starting model
        kept = dataclasses.replace(teacher, keeps_start=True).with_offload(word)
        assert host(square, kept).total == pytest.approx((copies + 1) * weights, rel=0.001)
    # LoRA: no reference; weights of base model and adapter, and the base model as it is loaded, which is more than the
    # adapter's gradients and moments and vLLM's weights in bf16
    adapter = 4 * square.adapter_parameters(8)
    lora = host(square, Setting(gpus=1, card=H100, lora_rank=8).with_offload("all"))
    assert lora.parts == pytest.approx({"weights": weights + adapter, "loading the model": weights}, rel=0.001)
    # a teacher that is an adapter lies where the weights do, with what was rounded off it: 4 + 4 bytes a weight
    setting = Setting(gpus=1, card=H100, lora_rank=8)
    with_teacher = dataclasses.replace(setting, is_teacher=True)
    large = dataclasses.replace(with_teacher, lora_rank=256)  # so that more is there in training than while loading
    for word, copies in (("none", None), ("step", 2), ("all", 2)):
        in_host = host(square, large.with_offload(word)).parts.get("teacher")
        assert in_host == (copies and pytest.approx(copies * 4 * square.adapter_parameters(256)))
    for word, on_gpu in (("none", 2 * adapter), ("step", 0), ("all", 0)):
        alone, both = (rollout(square, one.with_offload(word)).total for one in (setting, with_teacher))
        assert both - alone == pytest.approx(on_gpu)


def test_places_of_adapters_in_vllm() -> None:
    # one layer: q, k, v, o of 1,024 + 1,024, MLP of 1,024 and 1,024 thrice: 7 · 2,048 · r; embeddings and output layer
    # 2 · (1,024 + 1,024) · r, which Qwen2 lacks; two bytes each
    llama = ModelShape("llama", 1, 1024, 1024, 8, 8, 128, 1024, False)
    qwen2 = dataclasses.replace(llama, family="qwen2")
    for rank, place in ((8, 8), (9, 16), (129, 256), (300, 320)):
        one = Setting(gpus=4, card=H100, lora_rank=rank, tensor_parallel=2)
        assert vllm(llama, one)["vLLM's weights"] == llama.parameters + 2 * 9 * 2048 * place
        two = dataclasses.replace(one, is_teacher=True)
        assert vllm(qwen2, two)["vLLM's weights"] == qwen2.parameters + 2 * 2 * 7 * 2048 * place


def test_every_process_loads_a_tied_model() -> None:
    tied = host(QWEN3_4B, Setting(gpus=8, card=H100))
    assert tied.parts["loading the model"] == 8 * 4 * QWEN3_4B.parameters
    untied = host(QWEN3_8B, Setting(gpus=8, card=H100))
    assert untied.parts["loading the model"] == 4 * QWEN3_8B.parameters


def test_a_checkpoint() -> None:
    assert checkpoint(QWEN3_4B, Setting(gpus=4)) == 12 * QWEN3_4B.parameters
    assert checkpoint(QWEN3_4B, Setting(gpus=4, is_teacher=True)) == 20 * QWEN3_4B.parameters
    adapter = QWEN3_4B.adapter_parameters(32)
    assert checkpoint(QWEN3_4B, Setting(gpus=1, lora_rank=32)) == 4 * QWEN3_4B.parameters + 12 * adapter
    # 4 + 4 of the teacher's adapter
    with_teacher = Setting(gpus=1, lora_rank=32, is_teacher=True)
    assert checkpoint(QWEN3_4B, with_teacher) == 4 * QWEN3_4B.parameters + 20 * adapter
    assert checkpoint(QWEN3_4B, Setting(gpus=1, saved=("model", "hf_model"))) == 6 * QWEN3_4B.parameters


def test_what_a_gpu_holds_by_offload() -> None:
    weights = QWEN3_8B.parameters
    setting = Setting(gpus=4, card=H100)
    held = {word: estimate(QWEN3_8B, setting.with_offload(word)).gpu for word in ("none", "step", "all")}
    between = {word: stages[0].total - 0.6 * H100 - 2.2 * GIB for word, stages in held.items()}
    assert between == pytest.approx({"none": 12 * weights / 4, "step": 0, "all": 0}, abs=1)
    assert held["none"][2] == held["step"][2]  # all is back for the update
    update_of_all = held["all"][2].parts
    assert "weights" not in update_of_all and update_of_all["gradients"] == 4 * weights  # of all, on every GPU
