# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II adds one thing to a training step: a slow teacher that answers the questions and labels them.

Step k (arXiv 2508.00410, Algorithm 2), additions marked *:

    student's rollouts with θ_old; * teacher ← α_k · teacher + (1 − α_k) · θ_old, * its rollouts of the same questions
    → old log-probs, log-probs of the KL term's reference: the teacher or, * in its place for this pass, the starting
    model (actor_rollout_ref.teacher.kl_anchor) → * vote of the teacher's answers → reward, advantage → update to θ

The teacher rolls out after the student or beside it (co_rewarding_ii/orders.py). Its responses are cleared after the
vote: training never sees them.

Co-rewarding-III is the same on questions in two views (data.train_aug_files): student and teacher answer both, and
the teacher's vote on one view labels the student's answers to the other. In its cheaper one-direction form a random
draw for each question and step decides which view the student answers; the teacher answers only the other one.
"""

import hashlib
import math
import uuid
from collections import Counter
from statistics import fmean
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer
from verl.workers.rollout.llm_server import LLMServerClient

from co_rewarding.algo.ema import Distance
from co_rewarding.algo.ema_schedule import DecaySchedule
from co_rewarding.algo.rollouts import VIEWS, View
from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import NUM_ROLLOUTS, SAMPLING, STOP_DECIDED
from co_rewarding.training.console import say
from co_rewarding.training.dataset import with_rephrased
from co_rewarding.training.rollout_io import Response, read_and_clear
from co_rewarding.training.stoppable import StoppableClient, serve, stoppable_server
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_ii.settings import TeacherSettings, unmoved_steps
from co_rewarding_ii.worker import TeacherWorker


class CoRewardingIITrainer(GroupRewardTrainer):
    """Overrides of verl 0.9.1, besides those of `GroupRewardTrainer`:

    | method | why |
    |---|---|
    | `__init__` | reads the teacher's settings |
    | `_fetch_one_gen_batch` | III: P questions become 2 P prompts |
    | `get_llm_client` | its requests can be stopped |
    | `_init_dataloader` | the schedule needs the run's number of steps |
    | `_init_resource_pool_mgr` | workers with a teacher in the reference slot |
    | `_submit_batch_to_rollout` | keeps the questions for the teacher |
    | `_load_checkpoint` | reports a schedule that differs from the run's so far |
    | `_compute_ref_log_prob` | the KL term's reference may be the starting model |
    | `_step_once` | adds the teacher's metrics |
    """

    role, worker = Role.ActorRolloutRef, TeacherWorker

    def __init__(self, config: DictConfig):
        self.teacher = TeacherSettings.read(config)
        super().__init__(config)
        if self.teacher.stop_decided:
            serve(stoppable_server)
        self._teachers_questions: TensorDict | None = None
        self._teachers_uids: list[str] = []
        self._teacher_batch: KVBatchMeta | None = None
        self._teacher_metrics: dict[str, float] = {}

    @property
    def prompts_per_question(self) -> int:
        return 1 if self.teacher.one_direction else super().prompts_per_question

    def get_llm_client(self) -> LLMServerClient:
        if not self.teacher.stop_decided:
            return super().get_llm_client()
        return self.llm_server_manager.get_client(StoppableClient)

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        steps = self.total_training_steps
        self.schedule = self.teacher.schedule(steps, unmoved_steps(self.config, steps))
        say(teacher_line(self.teacher, self.schedule))

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        logged = self.monitor.last_metrics.get("teacher/decay")
        if (
            self.teacher.update
            and logged is not None
            and (line := other_schedule_line(self.schedule, self.global_steps, logged))
        ):
            say(line)

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        self.role_worker_mapping[self.role] = ray.remote(self.worker)

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = super()._fetch_one_gen_batch()
        return with_rephrased(batch) if self.two_views else batch

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        self._teachers_questions = batch.copy()  # the agent loop removes columns from its input
        if self.teacher.one_direction:
            students = [
                drawn_view(question, self.global_steps) == view
                for question, view in zip(
                    rollout_io.column(batch, rollout_io.QUESTION),
                    rollout_io.column(batch, rollout_io.VIEW),
                    strict=True,
                )
            ]
            self._teachers_questions = batch[[i for i, mine in enumerate(students) if not mine]]
            batch = batch[[i for i, mine in enumerate(students) if mine]]
        return super()._submit_batch_to_rollout(batch)

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return (self._log_probs_of_start if self.teacher.keeps_start else self._log_probs_of_teacher)(batch, metrics)

    def _log_probs_of_start(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """The column ref_log_prob, by the starting model."""
        self.actor_rollout_wg.exchange_teacher_and_start()
        batch = self._log_probs_of_reference(batch, metrics)  # if this fails, so does the run
        self.actor_rollout_wg.exchange_teacher_and_start()
        return batch

    def _log_probs_of_teacher(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """The column ref_log_prob, by the teacher."""
        return self._log_probs_of_reference(batch, metrics)

    def _log_probs_of_reference(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """... by verl's own reference, which is the teacher unless an adapter is trained (orders.py)."""
        return super()._compute_ref_log_prob(batch, metrics)

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        batch = super()._step_once(metrics, timing_raw, sample_batch_size)
        metrics.update(self._teacher_metrics)
        return batch

    def _move_teacher(self) -> None:
        """teacher ← α · teacher + (1 − α) · θ_old, unless it never moves."""
        self._teacher_metrics = {}
        with marked_timer("teacher_update", self.timing_raw):
            if self.teacher.update:
                decay = self.schedule.decay(self.global_steps)
                distance = Distance.relative(self.actor_rollout_wg.update_teacher(decay))
                self._teacher_metrics = {"teacher/decay": decay, "teacher/distance": distance}

    def _submit_to_teacher(self) -> int:
        """Send the step's questions to the teacher, in the same queue under new uids; return their number."""
        self._teachers_uids = [str(uuid.uuid4()) for _ in range(len(self._teachers_questions))]
        questions = rollout_io.with_column(self._teachers_questions, "uid", self._teachers_uids.__getitem__)
        questions = rollout_io.with_column(questions, NUM_ROLLOUTS, lambda _: self.teacher.n)
        questions = rollout_io.with_column(questions, SAMPLING, lambda _: self.teachers_sampling)
        if self.teacher.stop_decided:
            group = (rollout_io.QUESTION, rollout_io.VIEW)
            asked = list(zip(*(rollout_io.column(questions, name) for name in group), strict=True))
            # the same question under two uids is one group, which no worker sees completely
            alone = [times == 1 for times in map(Counter(asked).__getitem__, asked)]
            questions = rollout_io.with_column(questions, STOP_DECIDED, alone.__getitem__)
        tu.assign_non_tensor_data(questions, "global_steps", self.global_steps)
        return super()._submit_batch_to_rollout(questions)

    @property
    def teachers_sampling(self) -> dict[str, Any]:
        """Sampling parameters of the teacher that differ from the student's."""
        # vLLM has no log-probabilities of an answer stopped before its first token, and none are needed
        return {"temperature": self.teacher.temperature, "logprobs": self.teacher.check_log_probs}

    def _check_teacher(self) -> None:
        if self.teacher.check_log_probs:
            self._teacher_metrics |= self._gap_of_teacher()

    def _responses_that_only_vote(self) -> list[Response]:
        batch, self._teacher_batch = self._teacher_batch, None
        stops = self.teacher.stop_decided
        responses = self._read(batch.keys, batch.partition_id, "teacher", read_and_clear, may_be_stopped=stops)
        if stops:
            self._teacher_metrics["teacher/stopped"] = fmean(response.rollout.stopped for response in responses)
        return responses

    def _gap_of_teacher(self) -> dict[str, float]:
        """Probabilities of the teacher's tokens: vLLM's when sampling against the reference engine's."""
        batch = self._log_probs_of_teacher(self._teacher_batch, metrics={})
        fields = ["rollout_log_probs", "ref_log_prob"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        gap_T = (data["rollout_log_probs"].values().exp() - data["ref_log_prob"].values().exp()).abs()
        return {
            "teacher/rollout_probs_diff_mean": float(gap_T.mean()),
            "teacher/rollout_probs_diff_max": float(gap_T.max()),
        }


def drawn_view(question: str, step: int) -> View:
    """The student's view in one-direction III: a fair coin for each question and step, unchanged by a restart."""
    return VIEWS[hashlib.blake2b(f"{step} {question}".encode(), digest_size=1).digest()[0] & 1]


def teacher_line(settings: TeacherSettings, schedule: DecaySchedule) -> str:
    """A summary of the schedule over the run, with a warning if the teacher hardly moves."""
    if not settings.update:
        return "teacher: the starting model, frozen (actor_rollout_ref.teacher.update=False)"
    total_steps, share = schedule.total_steps, schedule.share_of_start
    first = schedule.update_interval
    last = total_steps - total_steps % schedule.update_interval
    line = (
        f"teacher: decay {schedule.decay(first):.6g} to {schedule.decay(last):.6g} over {total_steps} steps"
        if last
        else f"teacher: no update in {total_steps} steps"
    ) + f"; at the end {share:.0%} of it is the starting model"
    if settings.keeps_start:
        line += "; the KL term is against the starting model"
    if share > 0.5:
        line += (
            f". WARNING: that is nearly a frozen teacher; for a run this short set {settings.NAME}.start_share (0.2, "
            "say) or smaller decays"
        )
    return line


def other_schedule_line(schedule: DecaySchedule, step: int, logged: float) -> str | None:
    """The message of a resuming run if its last step's decay differs from the schedule; None if it does not.

    Args:
        step: the saved one.
        logged: its decay.
    """
    if step > schedule.total_steps or math.isclose(now := schedule.decay(step), logged, rel_tol=1e-9):
        return None
    return (
        f"teacher: the decay of step {step} was {logged:.6g} and is {now:.6g} in this start's schedule, which applies "
        "from here on: the run had another number of steps, or was started by a version whose start_share counted the "
        "first update, which changes nothing; the share of the starting model at the end is not the one printed above"
    )
