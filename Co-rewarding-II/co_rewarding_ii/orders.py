# SPDX-License-Identifier: Apache-2.0
"""When the teacher of Co-rewarding-II and III rolls out: after the student, or at the same time.

Algorithm 2 needs θ_old for the teacher of step k, which exists before any rollout: both orders have the same teacher,
student and questions in every step, and differ only in random draws.

After, on any number of vLLM replicas:

    student's rollouts → teacher ← α_k · teacher + (1 − α_k) · θ_old → teacher's weights into vLLM → teacher's rollouts
    → log-probs, vote, update as in co_rewarding_ii.trainer → checkpoint → student's weights into vLLM

At the same time, where both can be served at once: on two replicas or more (beside), or with LoRA on any number, since
one engine holds both adapters:

    teacher ← α_k · teacher + (1 − α_k) · θ_old → beside: the student's weights into the first replicas, the teacher's
    into the others; adapters: both into all → both roll out at once, and the step waits for the slower → log-probs,
    vote, update → checkpoint

Then vLLM sleeps after a step's rollouts until the next request, and gets weights only then: both models' at the
beginning of a step, the student's on all replicas for a validation. So a step without validation exchanges weights
once. In both orders the teacher moves within its step, after the previous checkpoint and before its own, so a
checkpoint has the student and teacher of its step.
"""

from typing import Any

import ray
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.utils.debug import marked_timer

from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import SAMPLING
from co_rewarding.training.console import say
from co_rewarding.training.stoppable import serve, stoppable_server
from co_rewarding_ii.adapter_worker import TEACHERS, AdapterTeacherWorker
from co_rewarding_ii.adapters import RECEIVER, answered_by_teacher, two_adapter_server
from co_rewarding_ii.replicas import replicas_of
from co_rewarding_ii.router import CONFIGURATION
from co_rewarding_ii.settings import trains_adapter
from co_rewarding_ii.trainer import CoRewardingIITrainer


class TeacherAfterStudent(CoRewardingIITrainer):
    """Overrides of verl 0.9.1, besides those of `CoRewardingIITrainer`:

    | method | why |
    |---|---|
    | `on_sample_end` | the student's rollouts are done and the policy has not moved yet: the teacher rolls out |
    | `_step_once` | excludes the teacher's time from verl's "gen" |
    """

    timed: tuple[str, ...] = ("teacher_update", "teacher_sync", "teacher_gen")  # all inside verl's "gen"

    def on_sample_end(self) -> None:
        super().on_sample_end()  # the replicas sleep, as they must before weights are exchanged
        self._move_teacher()
        with marked_timer("teacher_sync", self.timing_raw):
            ray.get(self.actor_rollout_wg.send_weights(global_steps=self.global_steps))
        with marked_timer("teacher_gen", self.timing_raw):
            prompts = self._submit_to_teacher()
            self._teacher_batch, _ = self.replay_buffer.sample(
                global_steps=self.global_steps, partition_id="train", batch_size=prompts
            )
        self.checkpoint_manager.sleep_replicas()
        self._check_teacher()

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        batch = super()._step_once(metrics, timing_raw, sample_batch_size)
        timing_raw["gen"] -= sum(timing_raw[name] for name in self.timed)
        return batch


class BothAtOnce(CoRewardingIITrainer):
    """Both roll out at once; a subclass marks their requests and sends their weights to vLLM.

    Overrides of verl 0.9.1, besides those of `CoRewardingIITrainer`:

    | method | why |
    |---|---|
    | `on_init_end` | vLLM sleeps until its first request |
    | `prepare_step` | moves the teacher and exchanges weights before the rollouts |
    | `_submit_batch_to_rollout` | submits the prompts of both |
    | `_step_once` | a sample holds the prompts of both |
    | `_balance_batch` | first step after sampling: removes the teacher's rows |
    | `on_validate_begin`, `on_validate_end` | put the student on all replicas meanwhile |
    """

    @property
    def students_sampling(self) -> dict[str, Any]:
        """Sampling parameters that mark the student's requests."""
        return {}

    def _send_both(self, step: int) -> None:
        """Wake vLLM with the weights of both; `step` is the student's."""
        raise NotImplementedError

    def on_init_end(self) -> None:
        pass

    def prepare_step(self) -> dict:
        self._move_teacher()
        with marked_timer("update_weights", self.timing_raw):
            # the student of the previous step, as after verl's exchange at its end
            self._send_both(self.global_steps - 1)
        return super().prepare_step()

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        submitted = super()._submit_batch_to_rollout(
            rollout_io.with_column(batch, SAMPLING, lambda _: self.students_sampling)
        )
        return submitted + self._submit_to_teacher()

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        return super()._step_once(metrics, timing_raw, 2 * sample_batch_size)  # the teacher has as many prompts

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, **options: Any) -> KVBatchMeta:
        self._teacher_batch, students = rollout_io.split_by_prompt(batch, self._teachers_uids)
        for who, rows in (("student", students), ("teacher", self._teacher_batch)):
            if not rows.keys:  # as for the student, where verl ends the run: its replicas may be gone
                raise RuntimeError(f"step {self.global_steps}: all rollouts of the {who} failed; look for their errors")
        self._check_teacher()
        return super()._balance_batch(students, metrics, **options)

    def _send_weights(self) -> None:
        pass  # the next step or validation does it

    def on_validate_begin(self) -> None:
        super().on_validate_begin()
        self.checkpoint_manager.update_weights(self.global_steps)

    def on_validate_end(self) -> None:
        super().on_validate_end()
        self.checkpoint_manager.sleep_replicas()


class TeacherBesideStudent(BothAtOnce):
    """Overrides `__init__`, which shares the replicas."""

    def __init__(self, config: DictConfig):
        with open_dict(config):
            config.actor_rollout_ref.rollout.router_config_path = str(CONFIGURATION)
        super().__init__(config)
        self.replicas = replicas_of(config)
        count = self.replicas.students + self.replicas.teachers
        say(f"teacher: rolls out beside the student, on {self.replicas.teachers} of {count} vLLM replicas")

    @property
    def students_sampling(self) -> dict[str, Any]:
        return self.replicas.of_student

    @property
    def teachers_sampling(self) -> dict[str, Any]:
        return super().teachers_sampling | self.replicas.of_teacher

    def _send_both(self, step: int) -> None:
        ray.get(self.actor_rollout_wg.send_weights(global_steps=step, students=self.replicas.students))


class TeacherAsAdapter(BothAtOnce):
    """Overrides of verl 0.9.1, besides those of `BothAtOnce`:

    | method | why |
    |---|---|
    | `__init__` | servers and workers with room for two adapters |

    verl's reference is the model without an adapter, and needs no separate worker.
    """

    role, worker = Role.ActorRollout, AdapterTeacherWorker

    def __init__(self, config: DictConfig):
        with open_dict(config):
            config.actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls = RECEIVER
        super().__init__(config)
        serve(lambda: two_adapter_server(stoppable_server()))
        say("teacher: an adapter beside the student's, in the same vLLM engine")

    @property
    def teachers_sampling(self) -> dict[str, Any]:
        return super().teachers_sampling | answered_by_teacher

    def _send_both(self, step: int) -> None:
        ray.get(self.actor_rollout_wg.send_weights(global_steps=step))

    def _log_probs_of_start(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return self._log_probs_of_reference(batch, metrics)

    def _log_probs_of_teacher(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch.extra_info[TEACHERS] = True
        try:
            return super()._log_probs_of_teacher(batch, metrics)
        finally:
            del batch.extra_info[TEACHERS]


def make_trainer(config: DictConfig) -> CoRewardingIITrainer:
    """The trainer of Co-rewarding-II and III, with the order of rollouts that the configuration allows."""
    if trains_adapter(config):
        return TeacherAsAdapter(config)
    order = TeacherAfterStudent if replicas_of(config) is None else TeacherBesideStudent
    return order(config)
