# SPDX-License-Identifier: Apache-2.0
"""What this project overrides or calls of verl 0.9.1, pinned: an upgrade that moves a seam fails here, with its name.

A signature is written as `inspect.signature` prints it without annotations.
"""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import verl
from transfer_queue.controller import TransferQueueController
from transfer_queue.storage.simple_storage import SimpleStorageUnit
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopWorker
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase
from verl.plugin import platform as verl_platform
from verl.single_controller.ray.base import ResourcePoolManager
from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos
from verl.trainer.ppo import reward as verl_reward
from verl.trainer.ppo import utils as ppo_utils
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.rollout_corr_helper import compute_rollout_corr_metrics_from_logprobs
from verl.trainer.ppo.v1 import agent_loop_tq, trainer_base
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import config as verl_config
from verl.utils import device as verl_device
from verl.utils import distributed, import_utils, tensordict_utils
from verl.utils.checkpoint import checkpoint_manager, fsdp_checkpoint_manager
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine, FSDPEngineWithLMHead
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker
from verl.workers.rollout.llm_server import LLMServerClient, LLMServerManager
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension
from verl.workers.rollout.vllm_rollout.vllm_async_server import vLLMHttpServer, vLLMReplica
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter
from verl.workers.utils import losses, padding
from vllm.v1.engine.async_llm import AsyncLLM

from co_rewarding.training import checkpoint
from co_rewarding.training.preflight.machine import RESERVED_FOR_A_GPU
from co_rewarding.training.preflight.verl_version import VERL

AgentLoopWorkerTQ = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class

# class of verl → method → (signature, file of ours that overrides it)
OVERRIDDEN: dict[type, dict[str, tuple[str, str]]] = {
    PPOTrainerSync: {
        "__init__": ("(self, config)", "co_rewarding/training/trainer.py"),
        "_build_replay_buffer": ("(self)", "co_rewarding/training/trainer.py"),
        "_init_dataloader": ("(self)", "co_rewarding_ii/trainer.py"),
        "_init_resource_pool_mgr": ("(self)", "co_rewarding_ii/trainer.py"),
        "_submit_batch_to_rollout": ("(self, batch)", "co_rewarding_ii/trainer.py and orders.py"),
        "on_init_end": ("(self)", "co_rewarding_ii/orders.py"),
        "prepare_step": ("(self)", "co_rewarding_ii/orders.py"),
        "on_validate_begin": ("(self)", "co_rewarding_ii/orders.py"),
        "on_validate_end": ("(self)", "co_rewarding_ii/orders.py"),
        "_balance_batch": (
            "(self, batch, metrics, logging_prefix='global_seqlen', keep_minibatch=False)",
            "co_rewarding/training/trainer.py, co_rewarding_ii/orders.py",
        ),
        "get_llm_client": ("(self)", "co_rewarding_ii/trainer.py"),
        "on_sample_end": ("(self)", "co_rewarding_ii/orders.py"),
        "_compute_ref_log_prob": ("(self, batch, metrics)", "co_rewarding_ii/trainer.py"),
        "_init_tokenizer": ("(self)", "co_rewarding/training/trainer.py"),
        "_fetch_one_gen_batch": ("(self)", "co_rewarding/training/trainer.py and co_rewarding_i/trainer.py"),
        "_step_once": (
            "(self, metrics, timing_raw, sample_batch_size)",
            "co_rewarding/training/trainer.py, co_rewarding_ii/trainer.py and orders.py",
        ),
        "step": ("(self, metrics, timing_raw)", "co_rewarding/training/trainer.py"),
        "on_train_begin": ("(self)", "co_rewarding/training/trainer.py"),
        "_compute_advantage": ("(self, batch, metrics)", "co_rewarding/training/trainer.py"),
        "_compute_old_log_prob": ("(self, batch, metrics)", "co_rewarding/training/trainer.py"),
        "_update_actor": ("(self, batch, metrics)", "co_rewarding/training/trainer.py"),
        "_save_checkpoint": ("(self)", "co_rewarding/training/trainer.py"),
        "_load_checkpoint": ("(self)", "co_rewarding/training/trainer.py"),
        "on_step_end": ("(self)", "co_rewarding/training/trainer.py"),
        "_validate": ("(self)", "co_rewarding/training/trainer.py"),
        "_val_metrics_update": (
            "(self, data_sources, sample_uids, reward_extra_infos_dict, sample_turns, expected_acc_counts=None)",
            "co_rewarding/training/trainer.py",
        ),
        "_compute_metrics": (
            "(self, batch, metrics, timing_raw, global_steps, epoch)",
            "co_rewarding/training/trainer.py",
        ),
        "_log_rollout_data": ("(self, batch, timing_raw, rollout_data_dir)", "co_rewarding/training/trainer.py"),
    },
    RLHFDataset: {
        "_download": ("(self, use_origin_parquet=False)", "co_rewarding/training/dataset.py"),
        "_read_files_and_tokenize": ("(self)", "co_rewarding/training/dataset.py"),
        "__getitem__": ("(self, item)", "co_rewarding/training/dataset.py"),
        "maybe_filter_out_long_prompts": ("(self, dataframe=None)", "co_rewarding/training/dataset.py"),
    },
    RewardManagerBase: {
        "__init__": ("(self, config, tokenizer, compute_score)", "co_rewarding/training/reward_manager.py"),
        "run_single": ("(self, data)", "co_rewarding/training/reward_manager.py"),
    },
    vLLMHttpServer: {
        "run_server": ("(self, args)", "co_rewarding_ii/adapters.py"),
        "run_headless": ("(self, args)", "co_rewarding_ii/adapters.py"),
    },
    vLLMColocateWorkerExtension: {
        "_update_weights": ("(self, weights, peft_config, base_sync_done)", "co_rewarding_ii/vllm_extension.py"),
    },
    ActorRolloutRefWorker: {
        "compute_log_prob": ("(self, data)", "co_rewarding_ii/adapter_worker.py"),
        "init_model": ("(self)", "co_rewarding_ii/worker.py"),
        "save_checkpoint": (
            "(self, local_path, hdfs_path=None, global_step=0, max_ckpt_to_keep=None)",
            "co_rewarding_ii/worker.py",
        ),
        "load_checkpoint": (
            "(self, local_path, hdfs_path=None, del_local_after_load=False)",
            "co_rewarding_ii/worker.py",
        ),
    },
    SingleTurnAgentLoop: {
        "run": ("(self, sampling_params, priority=0, **kwargs)", "co_rewarding/training/agent_loop.py")
    },
    AgentLoopWorkerTQ: {
        "__init__": ("(self, *args, **kwargs)", "co_rewarding/training/agent_loop_worker.py"),
        "_run_prompt": (
            "(self, prompt, sampling_params, trajectory, trace=False)",
            "co_rewarding/training/agent_loop_worker.py",
        ),
        "_run_agent_loop": (
            "(self, sampling_params, trajectory, *, agent_name, trace=True, **kwargs)",
            "co_rewarding/training/agent_loop_worker.py",
        ),
    },
    agent_loop_tq.AgentLoopManagerTQ: {
        "__init__": ("(self, *args, **kwargs)", "co_rewarding/training/agent_loop_worker.py"),
    },
    LLMServerClient: {
        "_acquire_server": ("(self, request_id, **extra)", "co_rewarding/training/stoppable.py"),
        "_release_server": ("(self, server_id, request_id=None)", "co_rewarding/training/stoppable.py"),
        "_vllm_request_id": ("(self, request_id)", "co_rewarding/training/stoppable.py"),
        "generate": (
            "(self, request_id, *, prompt_ids, sampling_params, image_data=None, video_data=None, audio_data=None, "
            "mm_processor_kwargs=None, **kwargs)",
            "co_rewarding/training/stoppable.py",
        ),
    },
    FSDPEngineWithLMHead: {
        "_build_fsdp_module": ("(self, module)", "co_rewarding/cpu/engine.py"),
        "prepare_model_outputs": (
            "(self, output, output_args, micro_batch, logits_processor_func)",
            "co_rewarding/training/engine.py",
        ),
        "load_checkpoint": (
            "(self, local_path, hdfs_path=None, del_local_after_load=True, **kwargs)",
            "co_rewarding/training/engine.py",
        ),
        "forward_backward_batch": (
            "(self, data, loss_function, forward_only=False)",
            "co_rewarding/training/engine.py",
        ),
    },
}

# what is called → (signature, file of ours that calls it)
CALLED: list[tuple[Callable[..., Any], str, str]] = [
    (main_ppo.run_ppo, "(config, task_runner_class)", "co_rewarding/training/launch.py"),
    (verl_config.validate_config, "(config, use_reference_policy, use_critic)", "co_rewarding/training/launch.py"),
    (ppo_utils.need_reference_policy, "(config)", "co_rewarding/training/launch.py"),
    (ppo_utils.need_critic, "(config)", "co_rewarding/training/launch.py"),
    (import_utils.load_class_from_fqn, "(fqn, description='class')", "co_rewarding/training/launch.py"),
    (verl_reward.resolve_reward_manager_cls, "(config)", "co_rewarding/training/trainer.py"),
    (tensordict_utils.assign_non_tensor_stack, "(tensor_dict, key, val)", "co_rewarding/training/rollout_io.py"),
    (tensordict_utils.concat_tensordict, "(data)", "co_rewarding_i/trainer.py"),
    (
        EngineRegistry.register,
        "(model_type, backend, device='cuda', vendor=None)",
        "co_rewarding/cpu/engine.py",
    ),
    (verl_platform.PlatformRegistry.register, "(platform)", "co_rewarding/cpu/platform.py"),
    (verl_platform.set_platform, "(platform)", "co_rewarding/cpu/platform.py"),
    (verl_platform.get_platform, "()", "co_rewarding/training/preflight/machine.py"),
    (verl_device.get_device_name, "()", "co_rewarding_ii/worker.py"),
    (
        core_algos.compute_grpo_outcome_advantage,
        "(token_level_rewards, response_mask, index, epsilon=1e-06, norm_adv_by_std_in_grpo=True, config=None)",
        "the advantage that co_rewarding/training/trainer.py writes rewards for",
    ),
    (
        ActorRolloutRefWorker.update_weights,
        "(self, global_steps=None, mode='auto')",
        "co_rewarding_ii/worker.py",
    ),
    (LLMServerManager.get_client, "(self, client_cls=None, **kwargs)", "co_rewarding_ii/trainer.py"),
    (RolloutReplicaRegistry.register, "(name, loader)", "co_rewarding/training/stoppable.py"),
    (
        vLLMHttpServer.abort_request,
        "(self, request_id, reset_prefix_cache=True)",
        "co_rewarding/training/stoppable.py",
    ),
    (AsyncLLM.abort, "(self, request_id, internal=False)", "co_rewarding/training/stoppable.py"),
    (ReplayBuffer.sample, "(self, global_steps, partition_id, batch_size)", "co_rewarding_ii/orders.py"),
    (
        ServerAdapter.__init__,
        "(self, config, model_config, device_mesh, replica_rank=-1)",
        "training/weight_sync_vllm.py",
    ),
    (
        FSDPEngine.get_per_tensor_param,
        "(self, layered_summon=False, base_sync_done=False, **kwargs)",
        "co_rewarding_ii/worker.py and adapter_worker.py",
    ),
    (vLLMColocateWorkerExtension._get_zmq_handle, "(self)", "co_rewarding/training/weight_sync_vllm.py"),
    (
        CheckpointCallback.on_save,
        "(self, trainer, global_step, checkpoint_dir, async_save=False, **kwargs)",
        "co_rewarding/training/trainer.py",
    ),
    (losses.ppo_loss, "(config, model_output, data, dp_group=None)", "training/old_log_probs.py"),
    (padding.response_from_nested, "(tensor, response_mask)", "training/old_log_probs.py, rollout_io.py"),
    (
        compute_rollout_corr_metrics_from_logprobs,
        "(log_prob, rollout_log_prob, response_mask)",
        "co_rewarding/training/rollout_io.py",
    ),
    (
        AgentLoopBase.__init__,
        "(self, trainer_config, server_manager, tokenizer, processor, dataset_cls, data_config, hf_model_type=None, "
        "**kwargs)",
        "co_rewarding/training/agent_loop_worker.py",
    ),
    (
        AgentLoopWorkerTQ._agent_loop_postprocess,
        "(self, output, validate, **kwargs)",
        "co_rewarding/training/agent_loop_worker.py",
    ),
]


def without_annotations(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name != "_ray_trace_ctx"  # Ray's own, of an actor's method
    ]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_the_version_is_the_one_that_was_read() -> None:
    assert verl.__version__ == VERL, "another verl: read each seam below in it, then change VERL and the pins"


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, name) for cls, methods in OVERRIDDEN.items() for name in methods],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_overridden_method(cls: type, name: str) -> None:
    signature, ours = OVERRIDDEN[cls][name]
    assert hasattr(cls, name), f"verl's {cls.__name__}.{name} is gone; {ours} overrides it"
    found = without_annotations(getattr(cls, name))
    assert found == signature, f"verl's {cls.__name__}.{name}{found} changed from {signature}; {ours} overrides it"


@pytest.mark.parametrize(("function", "signature", "ours"), CALLED, ids=lambda value: getattr(value, "__name__", ""))
def test_called_function(function: Callable[..., Any], signature: str, ours: str) -> None:
    found = without_annotations(function)
    assert found == signature, f"verl's {function.__qualname__}{found} changed from {signature}; needed by {ours}"


@pytest.mark.parametrize(
    ("module", "name", "base"),
    [
        ("co_rewarding.training.trainer", "GroupRewardTrainer", PPOTrainerSync),
        ("co_rewarding_i.trainer", "CoRewardingITrainer", PPOTrainerSync),
        ("co_rewarding.training.dataset", "PairedDataset", RLHFDataset),
        ("co_rewarding.training.reward_manager", "GroupRewardManager", RewardManagerBase),
        ("co_rewarding_i.reward_manager", "CrossViewRewardManager", RewardManagerBase),
        ("co_rewarding.training.engine", "TokenStatisticsEngine", FSDPEngineWithLMHead),
        ("co_rewarding.cpu.engine", "FSDPEngineOnCPU", FSDPEngineWithLMHead),
        ("co_rewarding_ii.trainer", "CoRewardingIITrainer", PPOTrainerSync),
        ("co_rewarding_ii.orders", "TeacherAfterStudent", PPOTrainerSync),
        ("co_rewarding_ii.orders", "BothAtOnce", PPOTrainerSync),
        ("co_rewarding_ii.orders", "TeacherBesideStudent", PPOTrainerSync),
        ("co_rewarding_ii.orders", "TeacherAsAdapter", PPOTrainerSync),
        ("co_rewarding_ii.worker", "TeacherWorker", ActorRolloutRefWorker),
        ("co_rewarding_ii.adapter_worker", "AdapterTeacherWorker", ActorRolloutRefWorker),
        ("co_rewarding.training.agent_loop", "GroupRewardAgentLoop", SingleTurnAgentLoop),
        ("co_rewarding.training.agent_loop_worker", "GroupRewardAgentLoopWorker", AgentLoopWorkerTQ),
        ("co_rewarding.training.stoppable", "StoppableClient", LLMServerClient),
        ("co_rewarding.training.agent_loop_worker", "GroupRewardAgentLoopManager", agent_loop_tq.AgentLoopManagerTQ),
        ("co_rewarding_ii.reward_manager", "TeacherRewardManager", RewardManagerBase),
    ],
)
def test_no_override_is_missing_from_the_table(module: str, name: str, base: type) -> None:
    """Every method that a class of ours shares with verl's is pinned above, and keeps verl's parameters."""
    ours = getattr(importlib.import_module(module), name)
    assert issubclass(ours, base)
    shared = {
        method
        for method, value in vars(ours).items()
        if inspect.isfunction(value)
        and hasattr(base, method)
        and getattr(object, method, None) is not getattr(base, method)
    }
    assert shared <= OVERRIDDEN[base].keys(), (
        f"pin {shared - OVERRIDDEN[base].keys()} in tests/training/test_verl_seams.py"
    )
    for method in shared - {"__init__"}:
        theirs = [name for name in inspect.signature(getattr(base, method)).parameters if name != "_ray_trace_ctx"]
        mine = list(inspect.signature(vars(ours)[method]).parameters.values())
        named = [parameter.name for parameter in mine if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        # with **rest, what follows the named ones is passed on; verl's callers give that by keyword (see below)
        expected = theirs if len(named) == len(mine) else theirs[: len(named)]
        assert named == expected, f"{name}.{method} takes {named}, verl calls it with {theirs}"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("co_rewarding.training.trainer", "GroupRewardTrainer"),
        ("co_rewarding_i.trainer", "CoRewardingITrainer"),
        ("co_rewarding_ii.trainer", "CoRewardingIITrainer"),
        ("co_rewarding_ii.orders", "TeacherAfterStudent"),
        ("co_rewarding_ii.orders", "BothAtOnce"),
        ("co_rewarding_ii.orders", "TeacherBesideStudent"),
        ("co_rewarding_ii.orders", "TeacherAsAdapter"),
    ],
)
def test_the_trainers_docstring_lists_its_overrides(module: str, name: str) -> None:
    cls = getattr(importlib.import_module(module), name)
    overrides = {method for method in OVERRIDDEN[PPOTrainerSync] if method in vars(cls)}
    missing = {method for method in overrides if f"`{method}`" not in (cls.__doc__ or "")}
    assert not missing, f"{name}'s docstring says what it overrides, but not {missing}"


def test_the_document_lists_the_seams(repo: Path) -> None:
    table = (repo / "docs/CODE.md").read_text().partition("## Seams of verl")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", table))
    wanted = {name for cls, methods in OVERRIDDEN.items() for name in (cls.__name__, *methods)}
    assert not wanted - named, f"docs/CODE.md, Seams of verl: {wanted - named} is missing"


def test_the_platform_has_every_abstract_method() -> None:
    from co_rewarding.cpu.platform import PlatformCPU

    missing = PlatformCPU.__abstractmethods__
    assert not missing, f"verl's PlatformBase wants {missing}: add them in co_rewarding/cpu/platform.py"
    for method, theirs in vars(verl_platform.PlatformBase).items():
        if inspect.isfunction(theirs) and method in vars(PlatformCPU):
            mine = inspect.unwrap(vars(PlatformCPU)[method])
            assert list(inspect.signature(mine).parameters) == list(inspect.signature(theirs).parameters), (
                f"verl's PlatformBase.{method} takes other arguments than co_rewarding/cpu/platform.py's"
            )


def test_the_task_runner_can_be_unwrapped() -> None:
    # co_rewarding/training/launch.py subclasses the plain class inside verl's Ray actor class
    plain = main_ppo.TaskRunnerV1.__ray_metadata__.modified_class
    parameters = [name for name in inspect.signature(plain.run).parameters if name != "_ray_trace_ctx"]
    assert parameters == ["self", "config"], "co_rewarding/training/launch.py overrides TaskRunnerV1.run(config)"
    source = inspect.getsource(main_ppo)
    for needed in ("self.trainer = trainer_cls(config=config)", "get_trainer_cls(config.trainer.v1.trainer_mode)"):
        assert needed in source, (
            f"TaskRunnerV1.run no longer does `{needed}`, which co_rewarding/training/launch.py relies on"
        )


def test_the_trainer_registry_is_a_dictionary_by_mode() -> None:
    # co_rewarding/training/launch.py puts our class under "sync", since verl compares the mode with that string
    assert trainer_base.TRAINER_REGISTRY["sync"] is PPOTrainerSync
    assert trainer_base.get_trainer_cls("sync") is PPOTrainerSync


def test_names_that_the_trainer_reads() -> None:
    base = inspect.getsource(trainer_base)
    for name in (
        "_dump_executor",
        "_dump_futures",
        "total_training_steps",
        "global_steps",
        "tokenizer",
        "replay_buffer",
    ):
        assert f"self.{name} = " in base, (
            f"verl's trainer no longer sets {name}; co_rewarding/training/trainer.py reads it"
        )
    # co_rewarding/training/launch.py: done = global_steps - 1 after the loop, which adds 1 after every step
    assert "self.global_steps += 1" in base
    assert '"rm_scores"' in inspect.getsource(PPOTrainerSync._compute_advantage), "rewards are written to rm_scores"
    assert 'get("is_padding", False)' in base, "co_rewarding/training/trainer.py skips rows with this tag"
    assert "_compute_metrics(batch, metrics, self.timing_raw, global_steps=self.global_steps, epoch=" in base
    assert '"raw_prompt"' in inspect.getsource(PPOTrainerSync._fetch_one_gen_batch)
    assert 'batch_dict["uid"]' in inspect.getsource(PPOTrainerSync._fetch_one_gen_batch)


def test_what_an_update_with_its_own_old_log_probs_relies_on() -> None:
    """Read from the source by co_rewarding/training/old_log_probs.py, trainer.py and engine.py."""
    # what the update computed of each token is there if it is asked for, and the worker drops it
    assert 'key="return_model_output"' in inspect.getsource(FSDPEngine.forward_backward_batch)
    assert 'output.pop("model_output")' in inspect.getsource(TrainingWorker.train_batch)
    # a request for log-probabilities ends in the engine's forward_backward_batch, without loading weights
    assert 'key="disable_auto_offload"' in inspect.getsource(TrainingWorker.infer_batch)
    # the advantage's rollout correction may be None; what it logs where it corrects nothing is the gap alone
    assert "rollout_corr_config is not None" in inspect.getsource(PPOTrainerSync._compute_advantage)
    old = inspect.getsource(PPOTrainerSync._compute_old_log_prob)
    assert old.index("actor_rollout_wg.compute_log_prob(batch)") < old.index("calculate_debug_metrics(data)")


def test_what_stopping_a_rollout_relies_on() -> None:
    """Read from the source by co_rewarding/training/stoppable.py and agent_loop_worker.py."""
    assert "self.server_class = ray.remote(vLLMHttpServer)" in inspect.getsource(vLLMReplica.__init__)
    # a request that is aborted ends like another one, with the tokens that are there
    assert 'stop_reason = "aborted"' in inspect.getsource(vLLMHttpServer.generate)
    asked = inspect.getsource(LLMServerClient.generate)
    assert "request_id=self._vllm_request_id(request_id)" in asked and "self._release_server(" in asked
    # a prompt's rollouts are tasks of one worker, and a rollout's columns are its keyword arguments
    assert "self._run_agent_loop(" in inspect.getsource(AgentLoopWorkerTQ._run_prompt)
    assert "field.update(kwargs)" in inspect.getsource(AgentLoopWorkerTQ._agent_loop_postprocess)


def test_where_the_teacher_comes_in() -> None:
    """What co_rewarding_ii relies on in verl's step, worker and rollout, read from the source."""
    step = inspect.getsource(PPOTrainerSync._step_once)
    order = [
        "replay_buffer.sample(",
        "on_sample_end()",
        "_compute_old_log_prob(",
        "_compute_advantage(",
        "_update_actor(",
    ]
    places = [step.index(name) for name in order]
    assert places == sorted(places), "the teacher moves and answers in on_sample_end, before anything else of the step"
    # before that hook the replicas are put to sleep, after the step the student's weights go back
    assert "sleep_replicas()" in inspect.getsource(PPOTrainerSync.on_sample_end)
    assert "update_weights(" in inspect.getsource(PPOTrainerSync.on_step_end)
    fit = inspect.getsource(PPOTrainerSync.fit)
    assert fit.index("self.on_step_end()") < fit.rindex("self._validate()"), "validation is the student's"
    # a step is logged after it is saved, and what on_train_begin logs comes after the first validation
    assert fit.index("self._save_checkpoint()") < fit.index("self._log_rollout_data(") < fit.rindex("self.logger.log(")
    assert fit.index("self._validate()") < fit.index("self.on_train_begin()") < fit.index("self.step(")
    # a run ends after the step in whose on_step_end the trainer says so (co_rewarding/training/trainer.py, early stop)
    assert "self.global_steps <= self.total_training_steps" in fit
    # the worker sends what self.actor is
    sent = inspect.getsource(ActorRolloutRefWorker.update_weights)
    assert "self.actor.engine.get_per_tensor_param(" in sent
    assert "self.ref." not in sent
    assert "self.ref: TrainingWorker" in inspect.getsource(ActorRolloutRefWorker.__init__)
    # a row says how often and by which loop it is rolled out
    worker = inspect.getsource(agent_loop_tq)
    assert 'prompt.pop("__rollout_n__"' in worker
    assert '"agent_name" not in batch' in worker
    # a response that has its reward is not sent to the reward loop
    assert "final_output.reward_score is None and enable_async_reward" in inspect.getsource(
        AgentLoopWorker._compute_score
    )


def test_the_file_that_names_the_last_checkpoint() -> None:
    assert Path(checkpoint_manager.get_checkpoint_tracker_filename("folder")).name == checkpoint.TRACKER


def test_verl_leaves_the_pointer_out_when_asked() -> None:
    # co_rewarding/training/trainer.py; FSDP has no saving in the background, which the key is for
    source = inspect.getsource(trainer_base.PPOTrainer._save_checkpoint)
    assert 'actor_ckpt_cfg.get("async_save", False)' in source
    assert "async_save" not in inspect.getsource(fsdp_checkpoint_manager)


def test_the_cpus_that_are_reserved() -> None:
    # co_rewarding/training/preflight/machine.py
    assert ResourcePoolManager.max_colocate_count == RESERVED_FOR_A_GPU
    for actor in (TransferQueueController, SimpleStorageUnit):
        assert actor._default_options["num_cpus"] == 1


def test_balancing_is_the_first_thing_that_is_done_with_a_sampled_batch() -> None:
    # co_rewarding/training/trainer.py takes the rollouts that only vote out of it there, before it is padded
    step = inspect.getsource(PPOTrainerSync._step_once)
    calls = [
        step.index(call) for call in ("self.on_sample_end(", "self._balance_batch(", "self._compute_old_log_prob(")
    ]
    assert calls == sorted(calls)
    assert "upsample_batch_to_divisible_size" in inspect.getsource(PPOTrainerSync._balance_batch)


def test_the_replay_buffer_has_a_poll_interval() -> None:
    # set by co_rewarding/training/trainer.py after construction
    assert inspect.signature(ReplayBuffer.__init__).parameters["poll_interval"].default == 2.0
    assert "time.sleep(self.poll_interval)" in inspect.getsource(ReplayBuffer)


def test_the_process_group_takes_its_backend_last() -> None:
    # co_rewarding/cpu/platform.py replaces __defaults__, which belong to the last parameters in order
    function = distributed.initialize_global_process_group_ray
    assert list(inspect.signature(function).parameters) == ["timeout_second", "backend"]
    assert len(function.__defaults__) == 2
    assert function.__defaults__[0] is None
    assert function.__defaults__[1] in (None, "gloo")  # verl's, or ours where the CPU platform is active
    assert "backend or " in inspect.getsource(function), "verl no longer takes a given backend as it is"


def test_the_dataset_attributes_that_ours_reads() -> None:
    source = inspect.getsource(RLHFDataset)
    for name in ("original_data_files", "prompt_key", "config"):
        assert f"self.{name} = " in source, f"co_rewarding/training/dataset.py reads {name}"
    assert "doc[prompt_key]" in source, "co_rewarding/training/dataset.py filters by changing prompt_key"
    # sampling happens before the filter, which is why the filter joins by question
    read = inspect.getsource(RLHFDataset._read_files_and_tokenize)
    assert read.index("self.max_samples") < read.index("self.maybe_filter_out_long_prompts")


def test_the_engine_slot_of_the_cpu_is_free_in_verl() -> None:
    # co_rewarding/cpu/engine.py registers it; verl asserts that a key is registered once
    assert issubclass(FSDPEngineWithLMHead, FSDPEngine)
    registered = EngineRegistry._engines["language_model"]["fsdp2"]
    assert all(key != "cpu" or cls.__module__.startswith("co_rewarding") for key, cls in registered.items())
    assert "forward_only" in inspect.getsource(FSDPEngine._build_fsdp_module), "what the CPU engine switches off"


def test_transfer_queue() -> None:
    import transfer_queue as tq

    ours = "co_rewarding/training/trainer.py"
    assert without_annotations(tq.kv_batch_get) == "(keys, partition_id, select_fields=None)", ours
    assert without_annotations(tq.kv_batch_put) == "(keys, partition_id, fields=None, tags=None, data_parser=None)", (
        ours
    )
    assert {"keys", "tags", "partition_id", "extra_info"} <= tq.KVBatchMeta.__dataclass_fields__.keys(), ours


def test_vllm_packs_through_one_function() -> None:
    """Read from the source: importing vLLM takes long. co_rewarding/cpu/vllm_weights.py wraps this function."""
    spec = importlib.util.find_spec("vllm")
    if spec is None:
        pytest.skip("vLLM is not installed")
    layers = Path(spec.origin).parent / "model_executor" / "layers"
    utils = (layers / "utils.py").read_text()
    assert "def dispatch_cpu_unquantized_gemm(\n    layer: torch.nn.Module,\n    remove_weight: bool,\n)" in utils
    # the caller imports it when called, so that our replacement of the module's attribute is the one it gets
    linear = (layers / "linear.py").read_text()
    assert "\n            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm\n" in linear
    assert "dispatch_cpu_unquantized_gemm(layer, remove_weight=True)" in linear
