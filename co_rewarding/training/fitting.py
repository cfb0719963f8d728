# SPDX-License-Identifier: Apache-2.0
"""Does a run fit, and which sizes would? Based on estimate.py.

A run is refused when the estimate exceeds a GPU's memory by more than the estimate's error (TIGHT), and called tight
within that error of it; also when vLLM has room for fewer than ENOUGH sequences of full length at a time.

`propose` tries sizes in order of cost: everything on the GPU, then weights and moments in host memory while vLLM works
(two copies over PCIe a step), then always (AdamW on the CPU). Before it offloads anything it makes micro-batches
smaller and varies vLLM's share around 0.6. If all sizes are tight, it takes those that need the least GPU memory: a
start does not refuse them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product

from co_rewarding.training.estimate import GIB, OFFLOAD, TIGHT, Estimate, Setting, Stage, estimate, in_words
from co_rewarding.training.model_shape import ModelShape

ENOUGH = 16  # sequences of full length in vLLM's cache; most are several times shorter
UTILIZATIONS = (0.6, 0.5, 0.4, 0.7, 0.8, 0.9)
FSDP = "actor_rollout_ref.actor.fsdp_config"
KEYS = {  # field of Setting → its key, and the variable of run scripts and recipes
    "utilization": ("actor_rollout_ref.rollout.gpu_memory_utilization", "ROLLOUT_MEMORY_UTILIZATION"),
    "tokens": ("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "MAX_TOKENS_PER_GPU"),
    "tensor_parallel": ("actor_rollout_ref.rollout.tensor_model_parallel_size", "ROLLOUT_TENSOR_PARALLEL"),
    "bucket": ("actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes", ""),
    "offload": (f"{FSDP}.offload_policy", "OFFLOAD"),
    "kept_checkpoints": ("trainer.max_actor_ckpt_to_keep", ""),
}
OFFLOAD_KEYS = {  # what OFFLOAD sets; the last one for the gradient's sake, see estimate.py
    "none": {},
    "step": {"param_offload": True, "optimizer_offload": True},
    "all": {"offload_policy": True, "use_no_sync_for_gradient_accumulation": True},
}


@dataclass(frozen=True)
class Machine:
    """Available memory and disk, in bytes; None: unknown."""

    host: float | None = None
    disk: float | None = None  # free where checkpoints go
    checkpoints: float = 0.0  # what this run's own take already


UNKNOWN = Machine()


@dataclass(frozen=True)
class Problem:
    of: str  # "GPU", "host" or "disk"
    is_refused: bool  # else tight
    field: str  # of KEYS: what to change first
    text: str
    parts: str = ""  # of what is needed


def problems(model: ModelShape, setting: Setting, machine: Machine = UNKNOWN) -> list[Problem]:
    """Problems: what does not fit, then what is tight."""
    needs = estimate(model, setting)
    found = [*_gpu(needs, setting), *_cache(needs, setting), *_host(needs, machine), *_disk(needs, setting, machine)]
    return sorted(found, key=lambda problem: not problem.is_refused)


def _gpu(needs: Estimate, setting: Setting) -> Iterator[Problem]:
    for stage, field in zip(needs.gpu, ("utilization", "bucket", "tokens", "offload"), strict=bool(needs.gpu)):
        if stage.total > (1 - TIGHT) * setting.card:
            is_refused = stage.total > (1 + TIGHT) * setting.card
            yield Problem("GPU", is_refused, field, *_of(f"{stage.name} a GPU", stage, setting.card))


def _cache(needs: Estimate, setting: Setting) -> Iterator[Problem]:
    if setting.card and needs.cache_sequences < ENOUGH:
        yield Problem(
            "GPU",
            needs.cache_sequences < 1,  # then vLLM does not start
            "utilization",
            f"vLLM's share of {setting.utilization * setting.card / GIB:.1f} GiB has room for {needs.cache_tokens:,} "
            f"tokens beside its weights, {needs.cache_sequences:.1f} sequences of {setting.sequence:,}",
        )


def _host(needs: Estimate, machine: Machine) -> Iterator[Problem]:
    if machine.host is not None and needs.host.total + needs.host_processes > machine.host:
        beside = f" and about {needs.host_processes / GIB:.0f} for processes"
        words = _of("this machine", needs.host, machine.host, beside)
        yield Problem("host", needs.host.total > machine.host, "offload", *words)


def _disk(needs: Estimate, setting: Setting, machine: Machine) -> Iterator[Problem]:
    if machine.disk is None:
        return
    kept = setting.kept_checkpoints
    # the next one is written before the oldest goes; all of them: say so while there is room for ten
    at_once = 10 if kept is None else kept + 1
    if at_once * needs.checkpoint - machine.checkpoints > machine.disk:
        yield Problem(
            "disk",
            needs.checkpoint > machine.disk,
            "kept_checkpoints",
            f"a checkpoint takes {needs.checkpoint / GIB:.1f} GiB and {machine.disk / GIB:.1f} GiB are free, while "
            + ("all are kept" if kept is None else f"{kept} are kept and the next is written"),
        )


def _of(who: str, stage: Stage, there: float, beside: str = "") -> tuple[str, str]:
    return f"{who} needs {stage.total / GIB:.1f} GiB{beside} and has {there / GIB:.1f}", in_words(stage.parts)


def propose(
    model: ModelShape, setting: Setting, fixed: Collection[str] = (), machine: Machine = UNKNOWN
) -> Setting | None:
    """Sizes that fit, the cheapest first, or else that are not refused; None: none are.

    Args:
        fixed: fields of KEYS that stay as they are.
    """
    tight: dict[str, Setting] = {}
    last: list[Setting] = []  # resort
    for candidate in _candidates(model, setting, fixed):
        found = problems(model, candidate, machine)
        if not found:
            # a step's copies cost seconds, AdamW on the CPU minutes: then rather tight
            return tight.get("none") or tight.get("step") or candidate if candidate.offload == "all" else candidate
        if not found[0].is_refused:
            last.append(candidate)
            if fullest(model, candidate) < 1 - TIGHT / 2:
                tight.setdefault(candidate.offload, candidate)
    least = min(last, key=lambda candidate: fullest(model, candidate), default=None)
    return next((tight[word] for word in OFFLOAD if word in tight), least)


def closest(model: ModelShape, setting: Setting, fixed: Collection[str] = ()) -> Setting:
    """Of the sizes that `propose` tries, those that need the least GPU memory."""
    return min(_candidates(model, setting, fixed), key=lambda candidate: fullest(model, candidate))


def fullest(model: ModelShape, setting: Setting) -> float:
    """The largest share of a GPU's memory that is needed; 0 if its memory is not known."""
    return max((stage.total / setting.card for stage in estimate(model, setting).gpu), default=0.0)


def can_share(model: ModelShape, gpus: int, tensor_parallel: int) -> bool:
    """Whether a vLLM engine can be split over this many GPUs of a machine; it repeats key heads if it must."""
    heads, keys = model.heads, model.key_heads
    splits_keys = keys % tensor_parallel == 0 or tensor_parallel % keys == 0
    return gpus % tensor_parallel == 0 and heads % tensor_parallel == 0 and splits_keys


def _candidates(model: ModelShape, setting: Setting, fixed: Collection[str]) -> Iterator[Setting]:
    smallest = max(4096, -(-setting.sequence // 1024) * 1024)
    choices = {
        "offload": OFFLOAD,
        "tokens": dict.fromkeys((max(8192, smallest), smallest)),
        "tensor_parallel": [n for n in (1, 2, 4, 8) if can_share(model, setting.gpus, n)],
        "utilization": UTILIZATIONS,
    }
    for field in fixed:
        choices.pop(field, None)
    for values in product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        offload = chosen.pop("offload", None)
        changed = replace(setting, **chosen)
        yield changed if offload is None else changed.with_offload(offload)


def changes(before: Setting, after: Setting) -> dict[str, object]:
    """Keys of the configuration by name, where `after` differs."""
    found: dict[str, object] = {
        KEYS[field][0]: getattr(after, field)
        for field in ("utilization", "tokens", "tensor_parallel")
        if getattr(before, field) != getattr(after, field)
    }
    if before.offload != after.offload:
        old, new = OFFLOAD_KEYS[before.offload], OFFLOAD_KEYS[after.offload]
        found |= {f"{FSDP}.{name}": False for name in old if name not in new}
        found |= {f"{FSDP}.{name}": value for name, value in new.items()}
    return found
