# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer with rewards computed from whole groups.

One step as verl runs it; our parts are marked *:

    dataloader → * tag rows with question and view, hide the ground truth → agent loop + vLLM → responses
    → * set aside those that only vote (co_rewarding.num_votes) → old log-probs * with token statistics, or none if the
    update's own suffice (training.old_log_probs), reference log-probs → * answers → vote → label → reward → GRPO
    advantage inside each (question, view) group → KL, update, * and beside it metrics of the vote → * look for signs of
    collapse (training.run_monitor)

The vote comes before verl's advantage and not in its reward loop, which sees a single response at a time. Additional
rollouts that only vote follow TTRL (arXiv 2504.16084): they get no log-probabilities, advantage or update, and replace
lost rollouts of their prompt. Axes: N rows of a batch, P questions, V views, G rollouts of one question in one view, T
response tokens.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.trainer.ppo.reward import resolve_reward_manager_cls
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from co_rewarding.algo.answer_format import recorded
from co_rewarding.algo.methods import method
from co_rewarding.algo.own_function import OwnFunctionError
from co_rewarding.algo.rollouts import VIEWS, Scores, Voter
from co_rewarding.monitoring.held_out import HeldOutResponse
from co_rewarding.storage.run_dir import RunDir, checkpoint_folder, dump_file, step_of
from co_rewarding.storage.stated_as import ANSWER_FORMAT
from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import AGENT_LOOP, NUM_ROLLOUTS
from co_rewarding.training.checkpoint import is_of_another, resume_dir, saving
from co_rewarding.training.console import say
from co_rewarding.training.decoding import TextDecoder
from co_rewarding.training.engine import requesting_token_statistics
from co_rewarding.training.label_guard import LabelGuard
from co_rewarding.training.old_log_probs import old_log_probs_of, updates_own_suffice, without_rollout_correction
from co_rewarding.training.rollout_io import (
    Response,
    dump_rows,
    read_and_clear,
    read_responses,
    read_statistics,
    write_jsonl,
    write_rewards,
)
from co_rewarding.training.run_monitor import RunMonitor, is_logged
from co_rewarding.training.settings import Settings
from co_rewarding.training.start_times import StartTimes


class GroupRewardTrainer(PPOTrainerSync):
    """Overrides of verl 0.9.1 (signatures pinned in tests/training/test_verl_seams.py):

    | method | why |
    |---|---|
    | `__init__` | `ppo_mini_batch_size` counts questions; verl's counts prompts, of which a question may have two |
    | `_build_replay_buffer` | its polling interval is a setting |
    | `_init_tokenizer` | reward manager and decoder need the tokenizer |
    | `_fetch_one_gen_batch` | rows get question, view, rollout loop and votes; the ground truth is hidden |
    | `step` | keeps a step's results until they are saved |
    | `_step_once` | one question may be two prompts; metrics of the vote are added, alarms are printed |
    | `_balance_batch` | first step after sampling: removes rollouts that only vote |
    | `_compute_old_log_prob` | the pass also computes token statistics, or is skipped |
    | `_compute_advantage` | writes the group rewards before, computes their metrics after it |
    | `_update_actor` | supplies the numbers of a skipped pass of the old log-probabilities |
    | `_log_rollout_data` | the dump shows labels and rewards |
    | `_validate`, `_compute_metrics` | one readable progress line a step, besides the loggers |
    | `_val_metrics_update` | accuracy covers questions with a ground truth; label-free numbers cover all |
    | `_save_checkpoint`, `_load_checkpoint` | include monitor and label guard; a kill never loses the previous
    checkpoint |
    | `on_train_begin` | logs the step that a kill between saving and logging left out |
    | `on_step_end` | early stopping; after the first step, prints the start's times |
    """

    has_own_old_log_probs: bool = False  # whether a step's only update supplies them (training.old_log_probs)
    start_times: StartTimes | None = None  # until the first step of a start is done; set by launch.py
    label_guard: LabelGuard | None = None  # of co_rewarding.max_label_flips
    _trained: tuple[KVBatchMeta, dict[str, Any], float] | None = None  # batch, metrics and seconds of the last step
    _votes_only: Sequence[Response] = ()  # of this step, between sampling and the vote

    def __init__(self, config: DictConfig):
        self.settings = Settings.read(config)
        self.method = method(self.settings.method)
        self.two_views = bool(config.data.get("train_aug_files"))  # whether both are used
        self.has_own_old_log_probs = updates_own_suffice(config)
        with open_dict(config):
            config.actor_rollout_ref.actor.ppo_mini_batch_size *= self.prompts_per_question
        super().__init__(config)
        checkpoints = Path(config.trainer.default_local_dir)
        self.monitor = RunMonitor(self.settings, config.data.max_response_length, checkpoints)
        if self.settings.max_label_flips >= 0:
            self.label_guard = LabelGuard(self.settings.max_label_flips)
        self.steps_done = 0
        self.stopped_early_after: int | None = None  # planned steps of a run that ended early
        self._dump_rows: list[dict[str, Any]] = []
        self._beside_the_update = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics-of-the-vote")
        self._vote_metrics: Future[dict[str, float]]

    @property
    def prompts_per_question(self) -> int:
        """Prompts of a question that the policy is trained on: one a view."""
        return 2 if self.two_views else 1

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = self.settings.poll_interval_s
        return buffer

    def _init_tokenizer(self) -> None:
        self._started("queue")
        super()._init_tokenizer()
        self.decoder = TextDecoder(self.tokenizer)
        self.reward_manager = resolve_reward_manager_cls(self.config)(self.config, self.tokenizer)
        self.reward_manager.equivalence.start()  # its imports take seconds, while models load

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = rollout_io.hide_ground_truth(super()._fetch_one_gen_batch())
        questions = [str(index) for index in rollout_io.column(batch, "index")]
        batch = rollout_io.with_column(batch, rollout_io.QUESTION, questions.__getitem__)
        batch = rollout_io.with_column(batch, "agent_name", lambda _: AGENT_LOOP)
        if self.settings.num_votes:
            batch = rollout_io.with_column(batch, NUM_ROLLOUTS, lambda _: self.settings.num_votes)
        return rollout_io.with_column(batch, rollout_io.VIEW, lambda _: VIEWS[0])

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        begun = perf_counter()
        batch = super().step(metrics, timing_raw)
        self._trained = batch, metrics, perf_counter() - begun
        return batch

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        batch = super()._step_once(metrics, timing_raw, sample_batch_size * self.prompts_per_question)
        metrics.update(self._vote_metrics.result())  # raises its errors
        self.steps_done += 1
        self.monitor.observe(self.global_steps, metrics)
        return batch

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict, **options: Any) -> KVBatchMeta:
        if self.settings.num_votes:
            batch, others = rollout_io.first_rollouts(batch, self.config.actor_rollout_ref.rollout.n)
            self._votes_only = self._read(others, batch.partition_id, "student", read_and_clear)
        return super()._balance_batch(batch, metrics, **options)

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        if self.has_own_old_log_probs:
            return batch
        names = {"entropy", *self.method.statistics}  # verl logs the entropy
        with requesting_token_statistics(batch.extra_info, names):
            return super()._compute_old_log_prob(batch, metrics)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        responses, scores = self._assign_rewards(batch)
        with without_rollout_correction(self.config) if self.has_own_old_log_probs else nullcontext():
            batch = super()._compute_advantage(batch, metrics)
        # from here on this process only waits for the workers; no other thread compares answers meanwhile
        self._vote_metrics = self._beside_the_update.submit(self._metrics_of, responses, scores)
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        if not self.has_own_old_log_probs:
            return super()._update_actor(batch, metrics)
        with old_log_probs_of(batch.extra_info, "this_update"):
            updated = super()._update_actor(batch, metrics)
        with old_log_probs_of(batch.extra_info, "last_update"):
            super()._compute_old_log_prob(batch, metrics)  # logs the entropy and the gap of the engines
        metrics.update(rollout_io.engine_gap(batch))
        return updated

    def _assign_rewards(self, batch: KVBatchMeta) -> tuple[list[Response], Scores]:
        """Vote, label and reward every row of the step, write `rm_scores`; return all responses and scores."""
        # verl may pad the batch with synthetic sequences to split it evenly; they neither vote nor count
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        trained = self._read(keys, batch.partition_id, "student")
        voters = self._responses_that_only_vote()
        statistics = {
            name: read_statistics(trained, batch.partition_id, name) + [None] * len(voters)
            for name in self.method.statistics
        }
        responses = trained + voters
        scores = self.reward_manager.score_groups(responses, self.global_steps, statistics)
        if self.label_guard is not None:
            rollouts = [response.rollout for response in responses]
            scores = self.label_guard.guarded(rollouts, scores, self.reward_manager.equivalence.same)
        write_rewards(trained, scores.rewards[: len(trained)], batch.partition_id)
        self._dump_rows = dump_rows(self.global_steps, responses, scores)
        return responses, scores

    def _metrics_of(self, responses: Sequence[Response], scores: Scores) -> dict[str, float]:
        metrics = self.monitor.step_metrics(responses, scores, self.reward_manager.equivalence.same)
        return metrics | self.reward_manager.failures()

    def _read(
        self, keys: Sequence[str], partition_id: str, voter: Voter, read: Any = read_responses, **options: Any
    ) -> list[Response]:
        return read(keys, partition_id, voter, self.decoder, self.reward_manager.settings.answer_format, **options)

    def _responses_that_only_vote(self) -> list[Response]:
        """Responses that may vote and are never trained on: here the policy's surplus rollouts."""
        votes, self._votes_only = self._votes_only, ()
        return list(votes)

    def _send_weights(self) -> None:
        """Send the policy's weights to vLLM, which is awake afterwards."""
        super().on_step_end()

    def on_step_end(self) -> None:
        self._send_weights()
        if self.start_times is not None:
            self._started("first step")
            say(str(self.start_times))
            self.start_times = None
        if self.monitor.stop_if_collapsed(self.global_steps):
            self.stopped_early_after = self.total_training_steps
            self.total_training_steps = self.global_steps  # verl's loop ends with this step

    def _started(self, part: str) -> None:
        if self.start_times is not None:
            self.start_times.done(part)

    def _save_checkpoint(self) -> None:
        if not self.monitor.may_save(self.global_steps):
            return
        trainer = self.config.trainer
        folder = checkpoint_folder(Path(trainer.default_local_dir), self.global_steps)
        started_from = Path(trainer.resume_from_path) if trainer.resume_from_path else None  # may be requested again
        with saving(folder, trainer.max_actor_ckpt_to_keep, spare=started_from):
            self.monitor.save(self.global_steps, self.steps_per_epoch, self._settled())
            if self.label_guard is not None:
                self.label_guard.save(folder)
            with self._neither_pointer_nor_pruning():
                super()._save_checkpoint()
        self.checkpoint_callback.on_save(
            trainer=self, global_step=self.global_steps, checkpoint_dir=str(folder), async_save=False
        )

    def _settled(self) -> dict[str, Any]:
        """Dump the finished step, and return its metrics for the log, without validation and the time to save it.

        A start that resumes from here does not repeat the step.
        """
        if self._trained is None:
            return {}
        self._dump_rollouts()
        for written in self._dump_futures:
            written.result()
        batch, metrics, seconds = self._trained
        metrics, timing = dict(metrics), {**self.timing_raw, "step": seconds}
        epoch = (self.global_steps - 1) // self.steps_per_epoch
        super()._compute_metrics(batch, metrics, timing, global_steps=self.global_steps, epoch=epoch)
        return metrics

    @contextmanager
    def _neither_pointer_nor_pruning(self) -> Iterator[None]:
        """`saving` does both in a safe order and notifies the callback.

        verl skips the pointer if saving continues in the background (`async_save`), which no FSDP engine supports.
        """
        keep, callback = self.config.trainer.max_actor_ckpt_to_keep, self.checkpoint_callback
        how = self.config.actor_rollout_ref.actor.checkpoint
        self.config.trainer.max_actor_ckpt_to_keep, how.async_save = None, True
        self.checkpoint_callback = CheckpointCallback()
        try:
            yield
        finally:
            self.config.trainer.max_actor_ckpt_to_keep, how.async_save = keep, False
            self.checkpoint_callback = callback

    def _load_checkpoint(self) -> None:
        self._started("data, models and vLLM")
        super()._load_checkpoint()
        folder = resume_dir(self.config)
        if self.global_steps > 0 and folder is not None:
            self.monitor.load(folder)
            if self.label_guard is not None and not is_of_another(
                self.config, folder
            ):  # which may have other questions
                self.label_guard.load(folder)

    def on_train_begin(self) -> None:
        self._started(
            "checkpoint, rollout workers" + (", validation" if self.config.trainer.get("val_before_train") else "")
        )
        super().on_train_begin()
        folder = resume_dir(self.config)
        if folder is not None and not is_of_another(self.config, folder):
            step, run = step_of(folder), RunDir(self.config.co_rewarding_run_dir)
            if self.monitor.last_metrics and not is_logged(run, step):
                self.logger.log(data=self.monitor.last_metrics, step=step)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        self.monitor.progress(self.global_steps, self.total_training_steps, metrics)
        return metrics

    def _val_metrics_update(
        self,
        data_sources: list[str],
        sample_uids: list[str],
        reward_extra_infos_dict: dict[str, list[Any]],
        sample_turns: list[int],
        expected_acc_counts: dict[tuple[str, str], int] | None = None,
    ) -> dict[str, float]:
        # verl counts a response without `acc` as wrong; without a ground truth it is neither right nor wrong
        infos = reward_extra_infos_dict
        if failure := next(filter(None, infos["failure"]), None):
            raise OwnFunctionError(failure)
        labelled = [i for i, acc in enumerate(infos["acc"]) if acc is not None]
        unlabelled = set(sample_uids) - {sample_uids[i] for i in labelled}
        metrics = super()._val_metrics_update(
            [data_sources[i] for i in labelled],
            [sample_uids[i] for i in labelled],
            {name: [infos[name][i] for i in labelled] for name in ("reward", "acc", "pred")},
            sample_turns,
            {key: count for key, count in (expected_acc_counts or {}).items() if key[1] not in unlabelled},
        )
        responses = [
            HeldOutResponse(source, question, prompt, uid, recorded(pred or None, spec), length)
            for source, uid, question, prompt, pred, length, spec in zip(
                data_sources,
                sample_uids,
                *(infos[name] for name in ("question", "prompt_id", "pred", "length", ANSWER_FORMAT)),
                strict=True,
            )
        ]
        return metrics | self.monitor.held_out_metrics(responses, self.reward_manager.equivalence)

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, **position: int) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, **position)
        self.monitor.progress(self.global_steps, self.total_training_steps, metrics)

    def _log_rollout_data(self, batch: KVBatchMeta, timing_raw: dict, rollout_data_dir: str) -> None:
        # replaces verl's dump, which lacks view, answer and label; same thread, same place, one file a step
        for written in [future for future in self._dump_futures if future.done()]:
            written.result()  # a failed write stops the run at the next step, not at its end
            self._dump_futures.remove(written)
        self._dump_rollouts()

    def _dump_rollouts(self) -> None:
        """Pass the step's dump to the writing thread, once."""
        folder, rows = self.config.trainer.get("rollout_data_dir"), self._dump_rows
        if folder and rows:
            self._dump_rows = []
            path = dump_file(Path(folder), self.global_steps)
            self._dump_futures.append(self._dump_executor.submit(write_jsonl, path, rows))
