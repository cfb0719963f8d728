# SPDX-License-Identifier: Apache-2.0
"""verl's synchronous PPO trainer with the reward of a response decided by its whole group.

One step, as verl runs it, with what is ours marked *:

    dataloader → * tag rows with question and view, hide the ground truth → agent loop + vLLM → responses
    → old log-probs * with token statistics, reference log-probs → * answers → vote → label → reward → GRPO advantage
    inside each (question, view) group → KL, update → * look for signs of collapse

The vote sits in front of verl's advantage and not in its reward loop, because that one sees a single response at a
time. Axes: N rows of a batch, P questions, V views, G rollouts of one question in one view, T response tokens.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transfer_queue as tq
from omegaconf import DictConfig, open_dict
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.reward import resolve_reward_manager_cls
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import response_from_nested

from co_rewarding.algo.methods import METHODS, VIEWS
from co_rewarding.algo.token_statistics import response_means
from co_rewarding.monitoring.alarms import Watch
from co_rewarding.monitoring.collapse import LabelHistory, collapse_metrics
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.training import batch_io
from co_rewarding.training.agent_loop import AGENT_LOOP, AGENT_LOOPS
from co_rewarding.training.checkpoint import newest_until, resume_dir, resume_from
from co_rewarding.training.engine import asked_for
from co_rewarding.training.rollout_io import Response, dump_rows, read_responses, write_jsonl
from co_rewarding.training.settings import Settings

STATE_FILE = "co_rewarding.json"  # in a checkpoint's folder
PROGRESS = "[co-rewarding]"  # starts every line of progress, so that a script can pick them out of Ray's output


class GroupRewardTrainer(PPOTrainerSync):
    """What it overrides of verl 0.9.1 (signatures pinned in tests/training/test_verl_seams.py):

    | method | why |
    |---|---|
    | `__init__` | `ppo_mini_batch_size` counts questions; verl's counts prompts, of which a question may have two |
    | `_build_replay_buffer` | how often it polls is a setting |
    | `_init_tokenizer` | the reward manager needs the tokenizer and is made right after it |
    | `_fetch_one_gen_batch` | rows get question, view and rollout loop; the ground truth moves out of reach |
    | `_step_once` | a batch of questions may be twice as many prompts; signs of collapse are told |
    | `_compute_old_log_prob` | that pass also says how sure the policy was of each token |
    | `_compute_advantage` | rewards of whole groups are written before the advantage is computed |
    | `_log_rollout_data` | the dump says what was rewarded and why |
    | `_validate`, `_compute_metrics` | a readable line of progress a step, beside what the loggers write |
    | `_save_checkpoint`, `_load_checkpoint` | what was seen of the run so far belongs to it; see monitoring.alarms |
    | `on_step_end` | a run may end early |
    """

    def __init__(self, config: DictConfig):
        self.settings = Settings.from_mapping(config.co_rewarding)
        self.method = METHODS[self.settings.method]
        with open_dict(config):
            config.actor_rollout_ref.actor.ppo_mini_batch_size *= self.prompts_per_question
            config.actor_rollout_ref.rollout.agent.agent_loop_config_path = str(AGENT_LOOPS)
        super().__init__(config)
        self.steps_done = 0
        self.stopped_early_after: int | None = None  # steps that were planned, of a run that ended early
        self.watch = Watch(self.settings.watch_window, self.settings.early_stop_after)
        self.label_history = LabelHistory()
        self._dump_rows: list[dict[str, Any]] = []

    @property
    def prompts_per_question(self) -> int:
        """Prompts of a question that the policy answers and is trained on: one a view."""
        return 2 if self.method.needs_both_views else 1

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        buffer.poll_interval = self.settings.poll_interval_s
        return buffer

    def _init_tokenizer(self) -> None:
        super()._init_tokenizer()
        self.reward_manager = resolve_reward_manager_cls(self.config)(self.config, self.tokenizer)

    def _fetch_one_gen_batch(self) -> TensorDict:
        batch = batch_io.hide_ground_truth(super()._fetch_one_gen_batch())
        questions = [str(index) for index in batch_io.column(batch, "index")]
        batch = batch_io.with_column(batch, batch_io.QUESTION, questions.__getitem__)
        batch = batch_io.with_column(batch, "agent_name", lambda _: AGENT_LOOP)
        return batch_io.with_column(batch, batch_io.VIEW, lambda _: VIEWS[0])

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int) -> KVBatchMeta:
        batch = super()._step_once(metrics, timing_raw, sample_batch_size * self.prompts_per_question)
        self.steps_done += 1
        for alarm in self.watch.observe(self.global_steps, metrics):
            if alarm.new:
                print(f"{PROGRESS} WARNING step {self.global_steps}: {alarm}", flush=True)
        return batch

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        with asked_for(batch.extra_info):
            return super()._compute_old_log_prob(batch, metrics)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        metrics.update(self._assign_rewards(batch))
        return super()._compute_advantage(batch, metrics)

    def _assign_rewards(self, batch: KVBatchMeta) -> dict[str, float]:
        """Vote, label and reward of every row of the step into `rm_scores`; returns the metrics of the vote."""
        # verl may pad the batch with synthetic sequences to split it evenly; they must neither vote nor be counted
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        trained = read_responses(keys, batch.partition_id, "student", self.tokenizer)
        responses = trained + self._voters_beside_the_policy()
        rollouts_N = [response.rollout for response in responses]
        truths_N = [response.ground_truth for response in responses]
        texts_N, lengths_N = [response.text for response in responses], [response.length for response in responses]
        scores = self.reward_manager.score_groups(
            rollouts_N,
            step=self.global_steps,
            texts=texts_N,
            lengths=lengths_N,
            **self._asked_by_the_method(trained, batch.partition_id, truths_N),
        )
        # a response without tokens may have no reward; it has no place for one either
        rewards_N = [0.0 if reward is None else reward for reward in scores.rewards[: len(trained)]]
        rewards = batch_io.reward_tensor(rewards_N, [response.length for response in trained])
        tq.kv_batch_put(
            keys=[response.key for response in trained],
            partition_id=batch.partition_id,
            fields=TensorDict({"rm_scores": rewards}, batch_size=len(trained)),
        )
        self._dump_rows = dump_rows(self.global_steps, responses, scores)
        same = self.reward_manager.equivalence.same
        metrics = group_metrics(rollouts_N, scores, truths_N, same)
        metrics |= collapse_metrics(
            rollouts_N,
            scores,
            texts_N,
            lengths_N,
            self.config.data.max_response_length,
            same,
            self.label_history,
        )
        return metrics | self.reward_manager.failures()

    def _asked_by_the_method(self, trained: Sequence[Response], partition_id: str, truths_N: Sequence[str]) -> dict:
        """What a method's reward may read beside the responses; ground truths only if it is supervised."""
        if self.method.needs_labels:
            return {"ground_truths": truths_N}
        if self.method.needs_logits:
            return {"statistics": self._response_statistics([response.key for response in trained], partition_id)}
        return {}

    def _response_statistics(self, keys: Sequence[str], partition_id: str) -> list[float | None]:
        """Mean of the method's token statistic over each response (co_rewarding.algo.token_statistics)."""
        column = self.method.name
        data = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=[column, "response_mask"])
        if column not in data.keys():  # noqa: SIM118 - a TensorDict iterates over rows
            raise ValueError(
                f"co_rewarding.method={column}: the engine gave no such column for trainer.device="
                f"{self.config.trainer.device}; see actor_rollout_ref.model.external_lib"
            )
        statistic_N_T = data[column]
        if column != "entropy":  # verl cuts its own column to the response; ours is still as long as the sequence
            statistic_N_T = response_from_nested(statistic_N_T, data["response_mask"])
        return response_means(statistic_N_T, data["response_mask"], column)

    def _voters_beside_the_policy(self) -> list[Response]:
        """Responses that vote and are never trained on. Here none: the policy's own rollouts are all that there is."""
        return []

    def on_step_end(self) -> None:
        super().on_step_end()
        if self.watch.should_stop:
            good_until = self.watch.good_until
            good = newest_until(self.config, good_until)
            if good is not None:
                resume_from(good)
            print(
                f"{PROGRESS} stopping early at step {self.global_steps}: signs of collapse for "
                f"{self.settings.early_stop_after} steps; step {good_until} was the last without; "
                + (f"the last good checkpoint is {good}" if good else "no checkpoint is as old as that"),
                flush=True,
            )
            self.stopped_early_after = self.total_training_steps
            self.total_training_steps = self.global_steps  # verl's loop ends with this step

    def _save_checkpoint(self) -> None:
        if not self.watch.may_save:
            print(f"{PROGRESS} step {self.global_steps}: not saved, the run shows signs of collapse", flush=True)
            return
        path = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}" / STATE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {"labels": self.label_history.state_dict(), "watch": self.watch.state_dict()}
        path.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        super()._save_checkpoint()  # last, because it ends by naming this checkpoint the one to resume from

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        folder = resume_dir(self.config)
        if self.global_steps == 0 or folder is None:
            return
        if not (folder / STATE_FILE).is_file():
            print(f"{PROGRESS} {folder} has no {STATE_FILE}: signs of collapse are looked for from here on", flush=True)
            return
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        self.label_history.load_state_dict(state["labels"])
        try:
            self.watch.load_state_dict(state["watch"])
        except ValueError as error:  # another co_rewarding.watch_window: no reason to end a run
            print(f"{PROGRESS} {error}: signs of collapse are looked for from here on", flush=True)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        print(progress_line(self.global_steps, self.total_training_steps, metrics), flush=True)
        return metrics

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, **position: int) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, **position)
        print(progress_line(self.global_steps, self.total_training_steps, metrics), flush=True)

    def _log_rollout_data(self, batch: KVBatchMeta, timing_raw: dict, rollout_data_dir: str) -> None:
        # replaces verl's dump, which knows neither view, answer nor label; same thread, same place, one file a step
        path = Path(rollout_data_dir) / f"{self.global_steps}.jsonl"
        for written in [future for future in self._dump_futures if future.done()]:
            written.result()  # a failed write stops the run at the next step, not at its end
            self._dump_futures.remove(written)
        self._dump_futures.append(self._dump_executor.submit(write_jsonl, path, self._dump_rows))


def progress_line(step: int, total: int, metrics: dict[str, Any]) -> str:
    """One line a person can follow: what is known of the step, in a fixed order, nothing for what is not."""
    shown = {
        "reward": metrics.get("reward/mean"),
        "label accuracy": metrics.get("label/accuracy"),
        "views agree": metrics.get("label/views_agree"),
        "teacher agrees": metrics.get("label/voters_agree"),
        "response tokens": metrics.get("response_length/mean"),
        "seconds": metrics.get("timing_s/step"),
    }
    parts = [f"{name} {value:.3g}" for name, value in shown.items() if value is not None]
    parts += [
        f"validation accuracy {value:.3f} ({key.split('/')[1]})"
        for key, value in metrics.items()
        if key.startswith("val-core/") and "/acc/mean@" in key
    ]
    return f"{PROGRESS} step {step}/{total}: " + ", ".join(parts)
