# SPDX-License-Identifier: Apache-2.0
"""Checks of the teacher's settings before Ray starts; errors are one line."""

from omegaconf import DictConfig

from co_rewarding.algo.methods import METHODS, method
from co_rewarding.training.preflight.machine import world_size
from co_rewarding_ii.checkpoint import check_resumable
from co_rewarding_ii.replicas import replicas_of
from co_rewarding_ii.settings import AUTO, TeacherSettings, trains_adapter, unmoved_steps

MANAGER = "co_rewarding.training.agent_loop_worker.GroupRewardAgentLoopManager"


def check_teacher(config: DictConfig) -> None:
    """Raises: ValueError that names the key, the value and the fix."""
    actor, ref = config.actor_rollout_ref.actor, config.actor_rollout_ref.ref
    settings = TeacherSettings.read(config)
    steps = config.trainer.total_training_steps
    if steps is not None:  # else the trainer, which knows the number of steps
        settings.schedule(steps, unmoved_steps(config, steps))
    if settings.one_direction and not method(config.co_rewarding.method).needs_both_views:
        raise ValueError(
            f"{settings.NAME}.one_direction=True: is a variant of co_rewarding_III, which needs two views; set "
            f"co_rewarding.method=co_rewarding_III instead of {config.co_rewarding.method}, or leave it False"
        )
    if not (actor.use_kl_loss or trains_adapter(config)):
        raise ValueError(
            "actor_rollout_ref.actor.use_kl_loss=False: the teacher uses the reference that this term needs; keep "
            "it True, with kl_loss_coef=0 for a loss without the term"
        )
    check_adapter(config, settings)
    if not trains_adapter(config) and ref.fsdp_config.fsdp_size != actor.fsdp_config.fsdp_size:
        raise ValueError(
            f"actor_rollout_ref.ref.fsdp_config.fsdp_size={ref.fsdp_config.fsdp_size}: must be the actor's "
            f"({actor.fsdp_config.fsdp_size}), so that teacher and student are sharded alike"
        )
    if (steps := config.trainer.v1.sync.get("parameter_sync_step", 1)) != 1:
        raise ValueError(
            f"trainer.v1.sync.parameter_sync_step={steps}: must be 1, because the teacher answers all "
            "questions of a step at once"
        )
    sampler = config.trainer.v1.sampler
    if sampler.get("sync_refill_failed_groups", False):
        raise ValueError(
            "trainer.v1.sampler.sync_refill_failed_groups=True: the teacher answers the questions of a step as they "
            "were drawn; set it to False"
        )
    if not trains_adapter(config):
        replicas_of(config)
    if settings.check_log_probs and not actor.use_dynamic_bsz:
        devices = world_size(config)
        key = "rollout" if trains_adapter(config) else "ref"  # the engine that computes them
        micro = config.actor_rollout_ref[key].log_prob_micro_batch_size_per_gpu
        sequences = config.data.train_batch_size * settings.n
        if sequences % (devices * micro):
            raise ValueError(
                f"{settings.NAME}.check_log_probs=True: the teacher's {sequences} sequences a step do not divide into "
                f"micro-batches of {micro} on {devices} devices "
                f"(actor_rollout_ref.{key}.log_prob_micro_batch_size_per_gpu)"
            )
    if settings.stop_decided:
        check_stop_decided(config, settings)
    check_resumable(config, settings)


def check_adapter(config: DictConfig, settings: TeacherSettings) -> None:
    """Settings that an adapter teacher does not support.

    Raises: ValueError, one line.
    """
    model, rollout = config.actor_rollout_ref.model, config.actor_rollout_ref.rollout
    if model.lora_adapter_path is not None:
        raise ValueError(
            f"actor_rollout_ref.model.lora_adapter_path={model.lora_adapter_path}: student and teacher start as the "
            "model without an adapter; merge this one into the model, or leave it null"
        )
    if model.lora.get("rank", 0) > 0:
        raise ValueError(
            f"actor_rollout_ref.model.lora.rank={model.lora.rank}: is Megatron's key; set lora_rank (LORA_RANK) instead"
        )
    if not trains_adapter(config):
        return
    if model.lora.get("merge", False):
        raise ValueError(
            "actor_rollout_ref.model.lora.merge=True: vLLM gets both adapters, not a merged model; set it to False"
        )
    if settings.rollout != AUTO:
        raise ValueError(
            f"{settings.NAME}.rollout={settings.rollout}: with LoRA one vLLM engine answers for student and teacher at "
            f"once; leave it {AUTO}, or train all weights (actor_rollout_ref.model.lora_rank=0)"
        )
    if rollout.disaggregation.enabled:
        raise ValueError(
            "actor_rollout_ref.rollout.disaggregation.enabled=True: its vLLM takes no second adapter, so the base "
            "model would answer for the teacher; set it to False"
        )
    if "dummy" in rollout.load_format:
        raise ValueError(
            f"actor_rollout_ref.rollout.load_format={rollout.load_format}: vLLM is sent only the adapters and must "
            "read the model itself; set it to safetensors"
        )


def check_stop_decided(config: DictConfig, settings: TeacherSettings) -> None:
    """Settings that need the full vote, or all of the teacher's text.

    Raises: ValueError, one line.
    """
    rollout, chosen = config.actor_rollout_ref.rollout, config.co_rewarding.method
    needs = {
        f"co_rewarding.payout={config.co_rewarding.payout}": (
            config.co_rewarding.payout != "hard",
            "pays by the shares of a full vote (use PAYOUT=hard)",
        ),
        f"co_rewarding.method={chosen}": (
            chosen not in METHODS or not METHODS[chosen].needs_teacher,
            "may read all of the teacher's text; only co_rewarding_II and co_rewarding_III do not",
        ),
        f"{settings.NAME}.check_log_probs=True": (
            settings.check_log_probs,
            "compares log-probabilities of full responses",
        ),
        "actor_rollout_ref.rollout.full_determinism=True": (
            bool(rollout.get("full_determinism")),
            "gives all requests one name, so none can be stopped by name",
        ),
        f"actor_rollout_ref.rollout.agent.agent_loop_manager_class={rollout.agent.agent_loop_manager_class}": (
            rollout.agent.agent_loop_manager_class != MANAGER,
            f"does not count votes; keep {MANAGER}",
        ),
    }
    for given, (stands_in_the_way, why) in needs.items():
        if stands_in_the_way:
            raise ValueError(f"{settings.NAME}.stop_decided=True: {given} {why}; set STOP_DECIDED=False or change that")
