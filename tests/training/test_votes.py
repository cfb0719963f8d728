# SPDX-License-Identifier: Apache-2.0
"""Rollouts that vote and are not trained on (co_rewarding.num_votes), from the prompts to the dump, with a dictionary
as the queue and nothing of verl started.

One question, five votes, two trained on. Keys are verl's <prompt>_<rollout>_<turn>.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dictionary_queue import DictionaryQueue
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu

from co_rewarding.algo.methods import METHODS
from co_rewarding.algo.rollouts import Scores
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import NUM_ROLLOUTS
from co_rewarding.training.dataset import REPHRASED_PROMPT
from co_rewarding.training.decoding import TextDecoder
from co_rewarding.training.reward_manager import GroupRewardManager
from co_rewarding.training.rollout_io import first_rollouts
from co_rewarding.training.run_monitor import RunMonitor
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_i.trainer import CoRewardingITrainer

BASE = GroupRewardTrainer.__mro__[1]
ANSWERS = ["7", "7", "8", "8", "8"]  # the first two would be rewarded by their own vote; all five vote 8


def made(kind: type[GroupRewardTrainer], num_votes: int) -> GroupRewardTrainer:
    method = "co_rewarding_I" if kind is CoRewardingITrainer else "majority_voting"
    block = {"method": method, "equivalence": "string", "num_votes": num_votes}
    trainer = object.__new__(kind)
    trainer.config = OmegaConf.create(
        {"co_rewarding": block, "data": {"max_response_length": 16}, "actor_rollout_ref": {"rollout": {"n": 2}}}
    )
    trainer.settings, trainer.method, trainer.global_steps = Settings.read(trainer.config), METHODS[method], 3
    return trainer


def batch_of(keys: list[str]) -> KVBatchMeta:
    tags = [{"seq_len": len(key)} for key in keys]
    return KVBatchMeta(keys=keys, tags=tags, partition_id="train", extra_info={"temperature": 1.0})


def test_the_first_rollouts_of_each_prompt_by_their_number() -> None:
    # as verl hands them over, in no order; rollout 10 comes after 9; of b the first two failed
    keys = ["a_10_0", "b_4_0", "a_2_0", "a_0_0", "b_2_0", "a_9_0", "b_3_0", "c_1_0"]
    batch, others = first_rollouts(batch_of(keys), 2)
    assert batch.keys == ["a_2_0", "a_0_0", "b_2_0", "b_3_0", "c_1_0"]  # in the order in which they came
    assert others == ["a_9_0", "a_10_0", "b_4_0"]
    assert batch.tags == [{"seq_len": 5}] * 5 and batch.extra_info == {"temperature": 1.0}
    assert (batch.partition_id, len(batch)) == ("train", 5)
    everything, none = first_rollouts(batch_of(keys), 5)
    assert everything.keys == keys and none == []


@pytest.mark.parametrize(("kind", "prompts"), [(GroupRewardTrainer, 2), (CoRewardingITrainer, 4)])
def test_prompts_say_how_often_they_are_answered(
    kind: type[GroupRewardTrainer], prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(self: GroupRewardTrainer):
        messages = np.empty(2, dtype=object)
        messages[:] = [[{"role": "user", "content": "?"}]] * 2
        columns = {"index": np.array([1, 2], dtype=object), "uid": np.array(["a", "b"], dtype=object)}
        truths = np.array([{"ground_truth": "1"}] * 2, dtype=object)
        rows = {"raw_prompt": messages, REPHRASED_PROMPT: messages, "reward_model": truths, **columns}
        return tu.get_tensordict({"dummy_tensor": torch.zeros(2, 1, dtype=torch.uint8), **rows})

    monkeypatch.setattr(BASE, "_fetch_one_gen_batch", fetched)
    batch = made(kind, num_votes=5)._fetch_one_gen_batch()
    assert rollout_io.column(batch, NUM_ROLLOUTS) == [5] * prompts
    assert dict(batch.items())[NUM_ROLLOUTS][0].data == 5  # as verl's agent loop reads it
    assert NUM_ROLLOUTS not in [*made(kind, num_votes=0)._fetch_one_gen_batch().keys()]


def test_a_step_trains_on_the_first_and_lets_all_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, queue = build_tokenizer(), DictionaryQueue()
    monkeypatch.setattr(rollout_io, "tq", queue)
    trainer = made(GroupRewardTrainer, num_votes=5)
    trainer.decoder, trainer.monitor = TextDecoder(tokenizer), RunMonitor(trainer.settings, 16, Path())
    trainer.reward_manager = GroupRewardManager(trainer.config, tokenizer)
    for place, answer in enumerate(ANSWERS):
        queue.rows[f"uid_{place}_0"] = {
            "raw_prompt": [{"role": "user", "content": "q"}],
            "responses": torch.tensor(tokenizer(rf"\boxed{{{answer}}}")["input_ids"]),
            rollout_io.QUESTION: "q",
            rollout_io.VIEW: "original",
            rollout_io.GROUND_TRUTH: "7",
            rollout_io.STATED_AS: {"answer_format": "", "choices": []},
        }
    balanced: list[KVBatchMeta] = []
    monkeypatch.setattr(BASE, "_balance_batch", lambda self, batch, metrics: balanced.append(batch) or batch)
    batch = trainer._balance_batch(batch_of([f"uid_{place}_0" for place in (3, 1, 4, 0, 2)]), metrics={})
    assert balanced[0].keys == batch.keys == ["uid_1_0", "uid_0_0"]  # what is padded, passed and updated
    assert list(queue.rows) == ["uid_0_0", "uid_1_0"]  # the others are gone from verl's queue
    scored = trainer._assign_rewards(SimpleNamespace(keys=batch.keys, tags=batch.tags, partition_id="train"))
    metrics = trainer._metrics_of(*scored)
    assert {key: float(row["rm_scores"].sum()) for key, row in queue.rows.items()} == {"uid_0_0": 0.0, "uid_1_0": 0.0}
    assert [(row["answer"], row["label"], row["reward"], row["trained"]) for row in trainer._dump_rows] == [
        ("7", "8", 0.0, True), ("7", "8", 0.0, True), ("8", "8", None, False), ("8", "8", None, False),
        ("8", "8", None, False),
    ]  # fmt: skip
    assert (metrics["label/agreement"], metrics["answer/accuracy"], metrics["reward/mean"]) == (3 / 5, 2 / 5, 0.0)
    # the next step has votes of its own alone
    trainer._balance_batch(batch_of(["uid_0_0", "uid_1_0"]), metrics={})
    trainer._assign_rewards(SimpleNamespace(keys=batch.keys, tags=batch.tags, partition_id="train"))
    assert [(row["label"], row["reward"]) for row in trainer._dump_rows] == [("7", 1.0)] * 2
    assert "trained" not in trainer._dump_rows[0]  # nobody only voted


def test_without_more_votes_verls_batch_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BASE, "_balance_batch", lambda self, batch, metrics: batch)
    batch = batch_of(["a_1_0", "a_0_0", "a_2_0"])
    assert made(GroupRewardTrainer, num_votes=0)._balance_batch(batch, metrics={}) is batch


def test_a_stopped_rollout_is_read_and_dumped_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, queue = build_tokenizer(), DictionaryQueue()
    monkeypatch.setattr(rollout_io, "tq", queue)
    for place, (text, stopped) in enumerate([(r"\boxed{7}", False), (r"\boxed{8}", True)]):
        queue.rows[f"p_{place}_0"] = {
            "raw_prompt": [{"role": "user", "content": "3+4="}],
            "responses": torch.tensor(tokenizer(text)["input_ids"]),
            rollout_io.QUESTION: "q",
            rollout_io.VIEW: "original",
            rollout_io.GROUND_TRUTH: "7",
            rollout_io.STATED_AS: {"answer_format": "", "choices": []},
            rollout_io.STOPPED: stopped,
        }
    decoder = TextDecoder(tokenizer)
    responses = rollout_io.read_and_clear(list(queue.rows), "train", "teacher", decoder, may_be_stopped=True)
    assert [(r.rollout.answer, r.rollout.stopped) for r in responses] == [("7", False), (None, True)]
    assert not any(response.rollout.trained for response in responses) and queue.rows == {}
    rows = rollout_io.dump_rows(3, responses, Scores(row_labels=("7", "7"), rewards=(None, None)))
    assert [row.get("stopped") for row in rows] == [None, True]
    assert rows[1]["response"] == r"\boxed{8}" and rows[1]["answer"] is None
