# SPDX-License-Identifier: Apache-2.0
"""Whether a run fits this machine's GPUs, memory and disk, by the estimate, before Ray starts.

A run that cannot fit is refused in one line with sizes that would; a tight fit is printed. Other machines of a cluster
may differ from this one: what does not fit here is then only printed, except for the disk, which they share.
"""

import os
import shutil
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.estimate import GIB, Setting
from co_rewarding.training.fitting import KEYS, Machine, Problem, changes, problems, propose
from co_rewarding.training.model_shape import ModelShape
from co_rewarding.training.preflight.machine import cgroup_limits, starts_own_ray


def check_memory(config: DictConfig) -> None:
    """Raises: ValueError, with the key, its value, needed and available memory, and sizes that fit."""
    on_cpu = config.trainer.device == "cpu"
    is_here = starts_own_ray(config)
    visible = [] if on_cpu else memory_of_gpus()
    card = min(visible, default=0.0)
    try:
        model = shape_of(config)
        setting = setting_of(config, card)
    except ValueError as error:
        print(f"memory: not checked, {error}")
        return
    if not on_cpu and not card:
        print("memory: GPUs and host memory not checked, no GPU is visible to this process (RAY_ADDRESS is set)")
    if max(visible, default=0.0) - card > 0.1 * GIB:
        print(
            f"memory: visible GPUs have {card / GIB:.1f} to {max(visible) / GIB:.1f} GiB, the smallest counts "
            "(CUDA_VISIBLE_DEVICES chooses)"
        )
    folder = Path(config.trainer.default_local_dir).absolute()
    machine = Machine(
        host=memory_of_this_machine() if on_cpu or card else None,
        disk=free_disk(folder) if config.trainer.save_freq > 0 else None,
        checkpoints=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )
    for problem in problems(model, setting, machine):
        text = described(config, problem)
        if not problem.is_refused:
            print(f"memory: tight, {text}")
        elif is_here or problem.of == "disk":
            raise ValueError(f"{text}; {remedy(model, setting, machine, problem)}")
        else:
            where = "this machine's GPU" if problem.of == "GPU" else "this machine"
            print(f"memory: does not fit on {where}, {text}; RAY_ADDRESS is set, the cluster may have more")


def described(config: DictConfig, problem: Problem) -> str:
    text = problem.text + (f" ({problem.parts})" if problem.parts else "")
    if config.trainer.device == "cpu" and problem.of == "host":
        return text  # no key would help
    key = KEYS[problem.field][0]
    return f"{key}={OmegaConf.select(config, key)}: {text}"


def remedy(model: ModelShape, setting: Setting, machine: Machine, problem: Problem) -> str:
    """How to fix what does not fit."""
    if problem.of == "disk":
        return "free some, or set RUNS_DIR to a folder on another disk"
    if setting.on_cpu:
        return "use a smaller model"
    better = propose(model, setting, machine=machine)
    if better is None:
        return "no sizes fit: use a smaller model, more GPUs, or LoRA (LORA_RANK=32); see scripts/estimate.py --help"
    return "use " + " ".join(f"{key}={value}" for key, value in changes(setting, better).items())


def shape_of(config: DictConfig) -> ModelShape:
    from transformers import AutoConfig

    model = config.actor_rollout_ref.model
    hf_config = AutoConfig.from_pretrained(Path(model.path).expanduser() if model.path.startswith("~") else model.path)
    return ModelShape.from_config(hf_config.to_dict())


def setting_of(config: DictConfig, card: float) -> Setting:
    """The settings of a configuration that determine memory.

    Args:
        card: bytes of one GPU, 0 if not known.

    Raises:
        ValueError: a value that the estimate does not support.
    """
    actor, rollout, model = (config.actor_rollout_ref[name] for name in ("actor", "rollout", "model"))
    fsdp, attention = actor.fsdp_config, str(model.override_config.get("attn_implementation"))
    for key, value, known in (
        ("actor.optim.optimizer", actor.optim.optimizer, ("AdamW",)),
        ("actor.fsdp_config.model_dtype", fsdp.model_dtype, ("fp32", "float32")),
        ("model.override_config.attn_implementation", attention, ("sdpa", "flex_attention", "flash_attention_2")),
    ):
        if value not in known:
            raise ValueError(f"actor_rollout_ref.{key}={value}: the estimate supports only {', '.join(known)}")
    sequence = config.data.max_prompt_length + config.data.max_response_length
    teacher = config.actor_rollout_ref.get("teacher") or {}
    by_tokens, sequences = actor.ppo_max_token_len_per_gpu, actor.ppo_micro_batch_size_per_gpu
    tokens = by_tokens if actor.use_dynamic_bsz else sequences * sequence
    return Setting(
        gpus=config.trainer.n_gpus_per_node,
        nodes=config.trainer.nnodes,
        card=card,
        on_cpu=config.trainer.device == "cpu",
        is_teacher=bool(teacher.get("update")),
        keeps_start=bool(teacher.get("update")) and teacher.get("kl_anchor") == "start",
        has_reference=actor.use_kl_loss or config.algorithm.use_kl_in_reward,
        offload_weights=fsdp.param_offload and not fsdp.offload_policy,
        offload_moments=fsdp.optimizer_offload and not fsdp.offload_policy,
        offload_all=fsdp.offload_policy,
        keeps_gradients=fsdp.use_no_sync_for_gradient_accumulation,
        lora_rank=model.lora_rank,
        tokens=tokens,
        sequence=sequence,
        utilization=rollout.gpu_memory_utilization,
        tensor_parallel=rollout.tensor_model_parallel_size,
        bucket=rollout.checkpoint_engine.update_weights_bucket_megabytes * 2**20,
        shards=max(0, fsdp.fsdp_size),
        has_graphs=not rollout.enforce_eager,
        attention=attention,
        is_fused=bool((actor.optim.override_optimizer_config or {}).get("fused")),
        checkpointing=model.enable_gradient_checkpointing,
        saved=tuple(actor.checkpoint.save_contents),
        kept_checkpoints=config.trainer.max_actor_ckpt_to_keep,
    )


def memory_of_gpus() -> list[float]:
    """Bytes of each visible GPU, as torch (and vLLM, for its share) counts them."""
    import torch

    count = torch.cuda.device_count()
    return [float(torch.cuda.get_device_properties(index).total_memory) for index in range(count)]


def memory_of_this_machine() -> float:
    """Bytes of host memory that this process may use: the machine's, or less by the limit of its container or job."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits = cgroup_limits("memory", "memory.max", "memory.limit_in_bytes")  # version 2, version 1
    sizes += [int(text) for text in limits if text.isdigit()]  # "max": no limit
    return float(min(sizes))


def free_disk(folder: Path) -> float:
    """Bytes free where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)
