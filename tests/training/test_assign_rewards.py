# SPDX-License-Identifier: Apache-2.0
"""The trainer's own step, from responses to `rm_scores`, with a dictionary as the queue.

Two questions, two wordings, three rollouts, written out by hand. Answers as the toy tokenizer's text.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dictionary_queue import DictionaryQueue
from omegaconf import OmegaConf

import co_rewarding.training.trainer
from co_rewarding.algo.methods import METHODS
from co_rewarding.algo.methods import method as method_of
from co_rewarding.algo.rollouts import Rollout
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training import rollout_io
from co_rewarding.training.decoding import TextDecoder
from co_rewarding.training.reward_manager import GroupRewardManager
from co_rewarding.training.rollout_io import Response
from co_rewarding.training.run_monitor import RunMonitor
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_i.reward_manager import CrossViewRewardManager
from co_rewarding_ii.reward_manager import TeacherRewardManager

# (question, view) -> answers of its rollouts, None for a response without a box
ANSWERS = {
    ("q1", "original"): ["7", "8", "7"],
    ("q1", "rephrased"): ["8", "8", "7"],
    ("q2", "original"): [None, None, None],
    ("q2", "rephrased"): ["5", "6", "5"],
}
# the label of a wording is the other wording's majority: q1 original is judged by 8, q1 rephrased by 7,
# q2 original by 5 (but answers nothing), q2 rephrased by nothing at all
REWARDS = {
    ("q1", "original"): [0.0, 1.0, 0.0],
    ("q1", "rephrased"): [0.0, 0.0, 1.0],
    ("q2", "original"): [0.0, 0.0, 0.0],
    ("q2", "rephrased"): [0.0, 0.0, 0.0],
}
TRUTHS = {"q1": "7", "q2": "5"}
MANAGERS = {
    "co_rewarding_I": CrossViewRewardManager,
    "co_rewarding_II": TeacherRewardManager,
    "co_rewarding_III": TeacherRewardManager,
    "majority_voting_both_views": CrossViewRewardManager,
    "co_rewarding_I_same_wording": CrossViewRewardManager,
}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch, tokenizer):
    """A function that runs the trainer's `_assign_rewards` on the rows above and returns queue, metrics, trainer."""

    def run(
        truths: dict[str, str] = TRUTHS,
        without: tuple[str, ...] = (),
        padding: int = 0,
        method: str = "co_rewarding_I",
    ):
        config = OmegaConf.create(
            {"co_rewarding": {"method": method, "equivalence": "string"}, "data": {"max_response_length": 16}}
        )
        queue = DictionaryQueue()
        monkeypatch.setattr(rollout_io, "tq", queue)
        keys, tags = [], []
        for (question, view), answers in ANSWERS.items():
            for place, answer in enumerate(answers):
                key = f"{question}-{view}_{place}_0"
                if key in without:
                    continue
                text = "8+1=9; " if answer is None else rf"\boxed{{{answer}}}"
                queue.rows[key] = {
                    "raw_prompt": [{"role": "user", "content": f"{question} {view}"}],
                    "responses": torch.tensor(tokenizer(text)["input_ids"]),
                    rollout_io.QUESTION: question,
                    rollout_io.VIEW: view,
                    rollout_io.GROUND_TRUTH: truths.get(question, ""),
                    rollout_io.STATED_AS: {"answer_format": "", "choices": []},
                }
                keys.append(key)
                tags.append({})
        for place in range(padding):  # verl copies a real row's columns; its one token is an end of text
            key = f"pad_{place}_0"
            queue.rows[key] = {**queue.rows[keys[0]], "responses": torch.tensor([tokenizer.eos_token_id])}
            keys.append(key)
            tags.append({"is_padding": True})
        trainer = object.__new__(GroupRewardTrainer)  # nothing of verl is started
        trainer.decoder, trainer.global_steps, trainer.config = TextDecoder(tokenizer), 3, config
        trainer.method, trainer.monitor = method_of(method), RunMonitor(Settings("co_rewarding_I"), 16, Path())
        trainer.reward_manager = MANAGERS.get(method.split("+")[0], GroupRewardManager)(config, tokenizer)
        if trainer.method.needs_teacher:  # it answers each wording once, and 7
            trainer._responses_that_only_vote = lambda: [
                Response("", Rollout(question, view, "teacher", "7"), "", "", np.arange(4), truths.get(question, ""))
                for question, view in ANSWERS
            ]
        if trainer.method.needs_logits:
            lengths = lambda responses, *_: [float(response.length) for response in responses]  # noqa: E731
            monkeypatch.setattr(co_rewarding.training.trainer, "read_statistics", lengths)
        # verl's load balancing shuffles the rows: give them in reverse
        batch = SimpleNamespace(keys=keys[::-1], tags=tags[::-1], partition_id="train")
        trainer.batch = batch
        return queue, trainer._metrics_of(*trainer._assign_rewards(batch)), trainer

    return run


def rewards_of(queue: DictionaryQueue) -> dict[str, float]:
    return {key: float(row["rm_scores"].sum()) for key, row in queue.rows.items() if "rm_scores" in row}


EXPECTED = {
    f"{question}-{view}_{place}_0": reward
    for (question, view), rewards in REWARDS.items()
    for place, reward in enumerate(rewards)
}


def test_each_wording_is_rewarded_by_the_vote_of_the_other(step) -> None:
    queue, metrics, _ = step()
    assert rewards_of(queue) == EXPECTED
    # labels: q1 original 8 (wrong), q1 rephrased 7 (right), q2 original 5 (right), q2 rephrased none
    assert metrics["label/accuracy"] == pytest.approx(2 / 3)
    assert metrics["label/share"] == pytest.approx(3 / 4)
    assert metrics["reward/mean"] == pytest.approx(2 / 12)


def test_the_controls_of_co_rewarding_i_in_its_tree(step) -> None:
    # each view by its own majority: q1 original 7, q1 rephrased 8, q2 original nothing, q2 rephrased 5
    own = {
        ("q1", "original"): [1.0, 0.0, 1.0],
        ("q1", "rephrased"): [1.0, 1.0, 0.0],
        ("q2", "original"): [0.0, 0.0, 0.0],
        ("q2", "rephrased"): [1.0, 0.0, 1.0],
    }
    queue, metrics, _ = step(method="majority_voting_both_views")
    assert rewards_of(queue) == {
        f"{question}-{view}_{place}_0": reward
        for (question, view), rewards in own.items()
        for place, reward in enumerate(rewards)
    }
    # the same three labels as co_rewarding_I's, on the other views, so the same accuracy; the rewards are others
    exchanged = step()[1]
    assert metrics["label/accuracy"] == exchanged["label/accuracy"] == pytest.approx(2 / 3)
    assert (metrics["reward/mean"], exchanged["reward/mean"]) == (pytest.approx(6 / 12), pytest.approx(2 / 12))
    # which question is asked in the second view is the data's affair, and no rule's
    assert rewards_of(step(method="co_rewarding_I_same_wording")[0]) == EXPECTED


def test_the_reward_stands_on_the_last_token(step) -> None:
    queue, _, _ = step()
    row = queue.rows["q1-original_1_0"]
    assert row["rm_scores"].tolist() == [0.0] * (len(row["responses"]) - 1) + [1.0]


def test_no_ground_truth_or_a_wrong_one_changes_no_reward(step) -> None:
    for truths in ({}, {"q1": "8", "q2": "6"}, {"q1": "5", "q2": "7"}):
        queue, _, _ = step(truths=truths)
        assert rewards_of(queue) == EXPECTED
    assert "label/accuracy" not in step(truths={})[1]  # absent without data, not 0


@pytest.mark.parametrize("method", METHODS)
def test_ground_truths_move_the_rewards_of_supervised_methods_alone(step, method: str) -> None:
    rewards = rewards_of(step(method=method)[0])
    assert len(rewards) == 12 and len(set(rewards.values())) > 1
    others = ({"q1": "5", "q2": "7"}, {"q1": "8", "q2": "6"})  # exchanged, and wrong
    moved = [rewards_of(step(truths=truths, method=method)[0]) != rewards for truths in others]
    if METHODS[method].needs_labels:
        assert all(moved)
        assert set(rewards_of(step(truths={}, method=method)[0]).values()) == {0.0}
    else:
        assert not any(moved)
        assert rewards_of(step(truths={}, method=method)[0]) == rewards


def test_a_failed_rollout_shrinks_its_group(step) -> None:
    # without its first 8, q1 rephrased has one vote each for 8 and 7: the first that came, 8, still labels the original
    queue, _, _ = step(without=("q1-rephrased_0_0",))
    assert rewards_of(queue)["q1-original_1_0"] == 1.0
    # without both, 7 is the only vote
    queue, _, _ = step(without=("q1-rephrased_0_0", "q1-rephrased_1_0"))
    assert [rewards_of(queue)[f"q1-original_{place}_0"] for place in range(3)] == [1.0, 0.0, 1.0]


def test_padding_neither_votes_nor_counts(step) -> None:
    queue, metrics, _ = step(padding=5)
    assert rewards_of(queue) == EXPECTED  # and no rm_scores were written for padding
    assert metrics == step()[1]


def test_a_sum_is_written_dumped_and_logged_by_its_terms(step, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def asked(inputs):\n    return ['q1' in prompt for prompt in inputs.prompts]\n")
    queue, metrics, trainer = step(method=f"co_rewarding_I+0.5*{tmp_path}/own.py:asked+entropy")
    # the queue's statistic is the length: entropy rewards its negative
    for key, reward in rewards_of(queue).items():
        expected = EXPECTED[key] + 0.5 * key.startswith("q1") - len(queue.rows[key]["responses"])
        assert reward == pytest.approx(expected)
    assert metrics["reward/co_rewarding_I/mean"] == pytest.approx(2 / 12)
    assert metrics["reward/own.asked/mean"] == pytest.approx(6 / 12)
    lengths = [len(row["responses"]) for row in queue.rows.values()]
    assert metrics["reward/entropy/mean"] == pytest.approx(-sum(lengths) / 12)
    assert metrics["label/accuracy"] == pytest.approx(2 / 3)  # the vote's, as without the others
    for row in trainer._dump_rows:
        assert row["reward"] == pytest.approx(
            row["rewards"]["co_rewarding_I"] + 0.5 * row["rewards"]["own.asked"] + row["rewards"]["entropy"]
        )


def test_no_ground_truth_moves_a_sum_without_a_supervised_term(step, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def blind(inputs):\n    assert inputs.ground_truths is None\n    return [0.5] * len(inputs.rollouts)\n"
    )
    name = f"co_rewarding_I+0.1*{tmp_path}/own.py:blind"
    rewards = rewards_of(step(method=name)[0])
    assert rewards_of(step(truths={"q1": "5", "q2": "7"}, method=name)[0]) == rewards
    supervised = rewards_of(step(method=f"{name}+ground_truth")[0])  # the function is as blind beside it
    assert supervised != rewards


def test_the_dump_says_what_was_rewarded(step) -> None:
    _, _, trainer = step()
    row = next(
        row for row in trainer._dump_rows if (row["question"], row["view"], row["answer"]) == ("q1", "original", "8")
    )
    assert row == {
        "step": 3, "question": "q1", "view": "original", "voter": "student", "prompt": "q1 original",
        "response": r"\boxed{8}", "answer": "8", "label": "8", "reward": 1.0, "ground_truth": "7",
        "tokens": 3,
    }  # fmt: skip


def test_metrics_of_the_vote_are_taken_beside_the_update_and_join_the_step(step, monkeypatch) -> None:
    queue, expected, trainer = step()
    trainer.two_views, trainer.steps_done = True, 0
    trainer._beside_the_update = ThreadPoolExecutor(max_workers=1)
    at_once = GroupRewardTrainer._metrics_of
    updating, has_begun = threading.Event(), threading.Event()
    order: list[str] = []

    def advantage(self, batch, metrics):
        assert rewards_of(queue) == EXPECTED  # written before
        order.append("advantage")
        return batch

    def one_step(self, metrics: dict, timing_raw: dict, sample_batch_size: int):
        batch = self._compute_advantage(trainer.batch, metrics)
        assert has_begun.wait(60)  # beside what follows, which it does not hold up
        assert "label/accuracy" not in metrics
        order.append("update")
        updating.set()
        return batch

    def metrics_of(self, responses, scores):
        has_begun.set()
        assert updating.wait(60)
        order.append("metrics")
        return at_once(self, responses, scores)

    base = GroupRewardTrainer.__mro__[1]
    monkeypatch.setattr(base, "_compute_advantage", advantage)
    monkeypatch.setattr(base, "_step_once", one_step)
    monkeypatch.setattr(GroupRewardTrainer, "_metrics_of", metrics_of)
    metrics: dict[str, float] = {}
    trainer._step_once(metrics, {}, 2)
    assert order == ["advantage", "update", "metrics"]
    # as at once, but for labels that the first call has seen as well
    assert metrics == {**expected, "collapse/label_flips": 0.0}

    def broken(self, responses, scores):
        has_begun.set()
        raise ZeroDivisionError("in a metric")

    monkeypatch.setattr(GroupRewardTrainer, "_metrics_of", broken)
    with pytest.raises(ZeroDivisionError, match="in a metric"):  # at this very step
        trainer._step_once({}, {}, 2)
    assert trainer.steps_done == 1
