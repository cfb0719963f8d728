# SPDX-License-Identifier: Apache-2.0
"""GPU memory, host memory and disk space that a run needs, in bytes, from the model's shapes alone.

P weights, of which t are trained (all, or LoRA's A); D GPUs that share them (FSDP2); B = max_token_len_per_gpu, the
tokens of a micro-batch; V, H, L, I, q, k: the model's sizes (model_shape.py), ℓ = weights of a layer. Of one GPU:

while vLLM works    u · card (vLLM's share)  + [4 P + 8 t] / D, what of it is not in host memory      + 2.2 GiB
weight sync         2 P / TP (vLLM's weights) + [4 P + 8 t] / D, as above  + bucket + largest tensor in fp32  + 2.7 GiB
update              [4 P + 12 t] / D weights, gradients, moments in fp32   + pass                     + 2.7 GiB
optimizer step      [4 P + 16 t] / D, but for a fused AdamW, which makes no temporary (torch, _multi_tensor_adamw)
OFFLOAD=all         nothing of these, but the gradient: 4 t, not shared (see below)

pass, the largest of
  log-probabilities 4 B V, logits and their gradient in bf16;  4 temporaries of 2^26 numbers in fp32
                    (algo/token_statistics.py);  8 B H, the last norm
  output layer      2 B V + 4 V H, the matrix and its gradient in bf16
  a layer           B · (12 I + 16 H + 8 q [+ 6 q + 6 k with norms on queries and keys]), recomputed;  3 B², sdpa's
                    mask as booleans and as bf16;  8 ℓ + 4 ℓ / D, this layer and the next, gradient in bf16 and fp32;
                    4 V H (1 + 1 / D), the output layer's gradient on its way (tied: 2 V H, kept in bf16)
  embedding, tied   4 V H, two gradients in bf16, or 4 V H (1 + 1 / D) when the matrix itself is gone
and beside each 2 B H L, the inputs of the layers (gradient checkpointing);  2 V H where the matrix is tied

The number of rollouts does not matter: in vLLM they wait for a place in the cache, and a micro-batch is B tokens.

vLLM's share holds 2 P / TP, 2 GiB for activations and CUDA graphs (1 without graphs), keys and values in the rest:
4 L k bytes a token in bf16 (2 · L · k numbers), k / TP with tensor parallelism.

Why OFFLOAD=all keeps the gradient on the card: FSDP2 with CPUOffloadPolicy adds the gradient of every micro-batch but
the first to the one in host memory, blocking (torch, foreach_reduce). With use_no_sync_for_gradient_accumulation it is
kept until the last micro-batch, as FSDP2 keeps it: in fp32 (reduce_dtype) and of all weights on every GPU
(FSDPParam.unsharded_accumulated_grad), whatever D is.

Host memory of a machine: what is not on its cards. Pinned tensors take the next power of two each (torch,
CachingHostAllocator.h); reference, teacher and what is offloaded are pinned, the moments of OFFLOAD=all are not.

Measured: GPU.md's figures for the fixed 2.2 GiB and for the pass of a layer; allocations of transformers' own layers
and of FSDP2, counted without a GPU (tests/training/test_estimate.py); a checkpoint's bytes. By arithmetic: the rest.
docs/CLUSTER.md says which is which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from co_rewarding.training.model_shape import ModelShape

GIB = 2**30
CARDS = {12: 11.6, 16: 14.6, 24: 22.0, 40: 39.4, 48: 44.4, 80: 79.1, 141: 139.7}
"""GiB that torch reports of a card sold with so many GB; of cards of one size the smallest: RTX 3060; T4 (RTX 4080:
15.6); A10 and L4 (RTX 4090: 23.5), A100-40, L40 and L40S (RTX A6000: 47.5), H100 and A100-80 (79.1 to 79.3), H200. From
what users' errors report as "total capacity", not measured here; on the machine itself preflight/memory.py asks
torch."""
OFFLOAD = ("none", "step", "all")
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of vLLM 0.24 and 0.28 (vllm/config/lora.py)

TRAINER = 1.2 * GIB  # CUDA's context, NCCL, cuBLAS of the process that trains (measured: GPU.md)
VLLM_OUTSIDE = 1.0 * GIB  # of vLLM's process beside its share: 26.0 GiB at 0.3 of 79.2, less TRAINER (GPU.md)
VLLM_GRAPHS = 0.5 * GIB  # CUDA graphs, which sleep does not free (assumed)
VLLM_INSIDE = 1.0 * GIB  # of its share: activations of its profiling run (assumed); graphs take 1 GiB more of it
LOGITS_AT_ONCE = 2**26  # numbers; CHUNK_NUMBERS of algo/token_statistics.py, which imports torch
PROCESSES = 10 * GIB, 6 * GIB  # host memory of Ray, driver, rollout loops; of each GPU's trainer and vLLM (assumed)
PROCESSES_ON_CPU = 3 * GIB, 3 * GIB  # the same there: 6 GB in all for one logical GPU (measured with the quickstart)
TIGHT = 0.07  # share of the memory that the estimate may be wrong by


@dataclass(frozen=True)
class Setting:
    """Settings of a run and its machines that determine memory. Memory sizes in bytes."""

    gpus: int  # of a machine
    nodes: int = 1
    card: float = 0.0  # memory of one GPU; 0: not known
    on_cpu: bool = False  # platform=cpu: a logical GPU is a process, and all is in host memory
    is_teacher: bool = False  # Co-rewarding-II and III: a reference that moves; with LoRA a second adapter
    keeps_start: bool = False  # and the starting model beside it, the KL term's anchor
    has_reference: bool = True
    offload_weights: bool = False  # to host memory while vLLM works
    offload_moments: bool = False
    offload_all: bool = False  # always in host memory, layers visit the GPU one by one
    keeps_gradients: bool = False  # on the GPU between micro-batches (use_no_sync_for_gradient_accumulation)
    lora_rank: int = 0
    tokens: int = 8192  # of a micro-batch
    sequence: int = 3584  # tokens of the longest prompt and response
    utilization: float = 0.6  # vLLM's share of a GPU's memory
    tensor_parallel: int = 1
    bucket: int = 2048 * 2**20  # of the weight sync
    shards: int = 0  # GPUs that share the weights; 0: all
    has_graphs: bool = True
    attention: str = "sdpa"
    is_fused: bool = True  # AdamW
    checkpointing: bool = True
    saved: tuple[str, ...] = ("model", "optimizer", "extra")  # of a checkpoint: verl's checkpoint.save_contents
    kept_checkpoints: int | None = 2  # None: all

    @property
    def sharing(self) -> int:
        return self.shards or self.gpus * self.nodes

    @property
    def offload(self) -> str:
        if self.offload_all:
            return "all"
        return "step" if self.offload_weights or self.offload_moments else "none"

    def with_offload(self, word: str) -> Setting:
        """What OFFLOAD of the recipes sets."""
        return replace(
            self,
            offload_weights=word == "step",
            offload_moments=word == "step",
            offload_all=word == "all",
            keeps_gradients=word == "all",
        )


@dataclass(frozen=True)
class Stage:
    """Bytes by purpose, all allocated at the same time."""

    name: str
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Estimate:
    """Bytes, but for the cache."""

    gpu: tuple[Stage, ...]  # of one GPU; empty if its memory is not known
    cache_tokens: int  # tokens whose keys and values vLLM has room for; of one engine
    cache_sequences: float  # the same in sequences of full length
    host: Stage  # of one machine (of the one that loads the model)
    host_processes: float  # beside it: Ray, Python, CUDA (assumed)
    checkpoint: float  # one, on disk, of all machines


def estimate(model: ModelShape, setting: Setting) -> Estimate:
    room = setting.utilization * setting.card - sum(vllm(model, setting).values())
    once, each = PROCESSES_ON_CPU if setting.on_cpu else PROCESSES
    # keys and values of all layers, two bytes a number; an engine never splits a head
    token = 2 * 2 * model.layers * model.head_size * max(1, model.key_heads // setting.tensor_parallel)
    return Estimate(
        gpu=(rollout(model, setting), weight_sync(model, setting), *update(model, setting)) if setting.card else (),
        cache_tokens=max(0, int(room // token)),
        cache_sequences=max(0.0, room / token / setting.sequence),
        host=host(model, setting),
        host_processes=once + setting.gpus * each,
        checkpoint=checkpoint(model, setting),
    )


def trained(model: ModelShape, setting: Setting) -> int:
    """t of the formulas."""
    return model.adapter_parameters(setting.lora_rank) if setting.lora_rank else model.parameters


def adapter_slots(model: ModelShape, setting: Setting) -> float:
    """vLLM's places for the student's adapter and the teacher's, in bf16, of the next rank that it has.

    Also for embeddings and output layer, but in Qwen2. All on each GPU: with tensor parallelism about half is shared.
    """
    if not setting.lora_rank:
        return 0.0
    rank = min((rank for rank in VLLM_RANKS if rank >= setting.lora_rank), default=setting.lora_rank)
    embeddings = 2 * rank * (model.vocabulary + model.hidden) if model.family != "qwen2" else 0
    return 2 * (1 + setting.is_teacher) * (model.adapter_parameters(rank) + embeddings)


def vllm(model: ModelShape, setting: Setting) -> dict[str, float]:
    """What a GPU's part of an engine takes from its share before keys and values."""
    return {
        "vLLM's weights": 2 * model.parameters / setting.tensor_parallel + adapter_slots(model, setting),
        "vLLM's activations and graphs": VLLM_INSIDE * (2 if setting.has_graphs else 1),
    }


def rollout(model: ModelShape, setting: Setting) -> Stage:
    parts = {"vLLM's share": setting.utilization * setting.card}
    return Stage("while vLLM works", parts | between_updates(model, setting) | {"CUDA, NCCL": TRAINER + VLLM_OUTSIDE})


def between_updates(model: ModelShape, setting: Setting) -> dict[str, float]:
    """What the trainer leaves on a GPU while vLLM works."""
    adapter = trained(model, setting) if setting.lora_rank else 0
    parts = {}
    if not (setting.offload_all or setting.offload_weights):
        parts["weights"] = 4 * (model.parameters + adapter) / setting.sharing
    if not (setting.offload_all or setting.offload_moments):
        parts["moments"] = 8 * trained(model, setting) / setting.sharing
    return parts | teacher_on_gpu(model, setting)


def teacher_on_gpu(model: ModelShape, setting: Setting) -> dict[str, float]:
    """Its adapter and what was rounded off it, where the weights are; a teacher of all weights is in host memory."""
    if not (setting.lora_rank and setting.is_teacher) or setting.offload_all or setting.offload_weights:
        return {}
    return {"teacher": 8 * trained(model, setting) / setting.sharing}


def weight_sync(model: ModelShape, setting: Setting) -> Stage:
    """vLLM's weights are back, its cache is not yet. With LoRA only the adapter is sent, from weights on the card."""
    parts = {"vLLM's weights": vllm(model, setting)["vLLM's weights"], **between_updates(model, setting)}
    parts["bucket"] = setting.bucket
    if not setting.lora_rank:
        largest = 4 * model.vocabulary * model.hidden
        in_host = setting.offload_all or setting.offload_weights
        parts["largest tensor in fp32"] = largest * (1 + (1 / setting.sharing if in_host else 0))
    elif not setting.offload_all:
        parts["weights"] = 4 * (model.parameters + trained(model, setting)) / setting.sharing
    return Stage("in the weight sync", parts | {"CUDA, NCCL": asleep(setting)})


def asleep(setting: Setting) -> float:
    """On a GPU whatever happens, with vLLM asleep."""
    return TRAINER + VLLM_OUTSIDE + (VLLM_GRAPHS if setting.has_graphs else 0)


def update(model: ModelShape, setting: Setting) -> tuple[Stage, Stage]:
    """The backward pass of a micro-batch, and the optimizer's step after the last."""
    weights, moving = model.parameters, trained(model, setting)
    adapter, shared = moving if setting.lora_rank else 0, setting.sharing
    parts = teacher_on_gpu(model, setting)
    if not setting.offload_all:
        parts["weights"] = 4 * (weights + adapter) / shared
        parts["moments"] = 8 * moving / shared
    if setting.keeps_gradients:
        parts["gradients"] = 4 * moving  # of all weights, on every GPU
    elif not setting.offload_all:
        parts["gradients"] = 4 * moving / shared
    backward = Stage(
        "in the update",
        parts | micro_batch(model, setting) | {"CUDA, NCCL": asleep(setting)},
    )
    # on the CPU AdamW goes tensor by tensor
    temporary = {} if setting.offload_all or setting.is_fused else {"AdamW's temporary": 4 * moving / shared}
    return backward, Stage("in AdamW's step", parts | temporary | {"CUDA, NCCL": asleep(setting)})


def micro_batch(model: ModelShape, setting: Setting) -> dict[str, float]:
    """`pass` of the formulas: the moment of the backward pass that needs most."""
    tokens, shared, trains_all = setting.tokens, setting.sharing, setting.lora_rank == 0
    matrix = model.vocabulary * model.hidden
    layer = sum(math.prod(shape) for shape in model.layer_tensors())
    mask = 3 * tokens**2 if setting.attention == "sdpa" else 0
    recomputed = tokens * (
        12 * model.intermediate
        + 16 * model.hidden
        + 8 * model.query_size
        + (6 * (model.query_size + model.key_size) if model.has_query_norm else 0)
    )
    on_its_way = 4 * matrix * (1 + 1 / shared)  # into and out of the reduction, fp32
    kept = {"inputs of the layers": 2 * tokens * model.hidden * model.layers}
    if not setting.checkpointing:
        kept = {"activations": recomputed * model.layers}
    if model.is_tied:
        kept["embedding"] = 2 * matrix
    log_probs = {
        "logits": 4 * tokens * model.vocabulary,
        "temporaries": 4 * 4 * min(LOGITS_AT_ONCE, tokens * model.vocabulary),
        "last norm": 8 * tokens * model.hidden,
        "mask": mask / 3,
    }
    if not trains_all:  # no gradient of a matrix
        moments = [log_probs, {"a layer": recomputed + 4 * layer, "mask": mask}]
    else:
        a_layer = {"a layer": recomputed + (8 + 4 / shared) * layer, "mask": mask}
        moments = [
            log_probs,
            {"logits": 2 * tokens * model.vocabulary, "output layer": (2 if model.is_tied else 4) * matrix},
            a_layer | {"output layer": 2 * matrix if model.is_tied else on_its_way},
        ]
        if model.is_tied:
            moments.append({"output layer": max(4 * matrix, on_its_way - 2 * matrix)})
    return kept | max(moments, key=lambda parts: sum(parts.values()))


def host(model: ModelShape, setting: Setting) -> Stage:
    """Host memory of the machine that loads the model; the others load it too if its embeddings are tied."""
    ranks, weights, moving = setting.gpus, model.parameters, trained(model, setting)
    if setting.on_cpu:  # all that FSDP2 and vLLM have is here
        copies = ranks / setting.sharing
        parts = {
            "weights, gradients, moments": (4 * weights + 12 * moving) * copies,
            "reference": 4 * weights * copies if has_own_reference(setting) else 0,
            "teacher's remainder": 4 * moving * copies if setting.is_teacher else 0,
            "teacher's adapter": 4 * moving * copies if setting.is_teacher and setting.lora_rank else 0,
            "starting model": 4 * weights * copies if has_own_start(setting) else 0,
            "vLLM's weights": 4 * weights * ranks / setting.tensor_parallel,
        }
        return Stage("host memory", {name: size for name, size in parts.items() if size})
    pinned = ranks * sum(count * pinned_bytes(shape, setting.sharing) for shape, count in model.shapes.items())
    adapter = ranks * 4 * moving / setting.sharing if setting.lora_rank else 0
    trains_all = setting.lora_rank == 0
    parts = {}
    if has_own_reference(setting):
        parts["reference"] = pinned
    if setting.is_teacher and trains_all:
        parts["teacher's remainder"] = pinned
    if has_own_start(setting):  # no accelerator copies it, so it is not pinned
        parts["starting model"] = 4 * weights * ranks / setting.sharing
    if setting.offload_all or setting.offload_weights:
        parts["weights"] = pinned + adapter
        if setting.is_teacher and not trains_all:
            parts["teacher"] = 2 * adapter
    if setting.offload_all:
        parts["gradients"] = pinned if trains_all else adapter
        parts["moments"] = 8 * moving * ranks / setting.sharing
    elif setting.offload_moments:
        parts["moments"] = 2 * pinned if trains_all else 2 * adapter
    if not trains_all:  # vLLM keeps its weights where only the adapter changes
        parts["vLLM asleep"] = 2 * weights * ranks / setting.tensor_parallel
    # before any of these but the weights: from_pretrained in fp32, the actor's after the reference's
    loading = {name: parts[name] for name in ("reference", "weights") if name in parts}
    loading["loading the model"] = 4 * weights * (ranks if model.is_tied else 1)
    return Stage("host memory", max(parts, loading, key=lambda parts: sum(parts.values())))


def has_own_reference(setting: Setting) -> bool:
    """With LoRA verl takes the model without its adapter for the reference."""
    return setting.has_reference and setting.lora_rank == 0


def has_own_start(setting: Setting) -> bool:
    """With LoRA the starting model is the one without its adapter."""
    return setting.keeps_start and setting.lora_rank == 0


def pinned_bytes(shape: tuple[int, ...], shared: int) -> int:
    """One GPU's rows of an fp32 tensor, padded to a whole number of rows, in a pinned block."""
    rows, *rest = shape
    size = 4 * -(-rows // shared) * math.prod(rest)
    return 1 << (size - 1).bit_length()


def checkpoint(model: ModelShape, setting: Setting) -> float:
    """fp32 weights and moments as far as they are saved; in II and III the teacher and its remainder too."""
    moving = trained(model, setting)
    sizes = {
        "model": 4 * (model.parameters + (moving if setting.lora_rank else 0)),
        "optimizer": 8 * moving,
        "hf_model": 2 * model.parameters,
    }
    own = sum(size for name, size in sizes.items() if name in setting.saved)
    return own + (8 * moving if setting.is_teacher else 0)


def in_words(parts: Mapping[str, float], least: float = 0.05 * GIB) -> str:
    """ "vLLM's share 47.5, weights 4.0" in GiB, the largest first."""
    ordered: Iterable[tuple[str, float]] = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {size / GIB:.1f}" for name, size in ordered if size >= least) or "next to nothing"
