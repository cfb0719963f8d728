# SPDX-License-Identifier: Apache-2.0
"""The baselines' rewards by name, what each of them may read, and the draw of one-direction Co-rewarding-III."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from co_rewarding.algo import baselines
from co_rewarding.algo.methods import METHODS
from co_rewarding.algo.rewards import Rollout
from co_rewarding.monitoring.alarms import Watch
from co_rewarding.monitoring.collapse import LabelHistory
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.baseline_reward_manager import BaselineRewardManager
from co_rewarding.training.checkpoint import TRACKER, resume_dir
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import STATE_FILE, GroupRewardTrainer
from co_rewarding_i.reward_manager import CrossViewRewardManager
from co_rewarding_ii.reward_manager import TeacherRewardManager
from co_rewarding_ii.trainer import drawn_view

# one question, four rollouts; the truth is 7
ROLLOUTS = [Rollout("q", "original", "student", answer) for answer in ("8", "7", "8", None)]
TRUTHS = ["7"] * 4
STATISTICS = [1.5, 0.25, None, 3.0]  # the third response is empty


def manager(method: str) -> BaselineRewardManager:
    config = OmegaConf.create({"co_rewarding": {"method": method, "equivalence": "string"}})
    return BaselineRewardManager(config, build_tokenizer())


def test_every_method_has_one_reward_manager() -> None:
    managers = (CrossViewRewardManager, TeacherRewardManager, BaselineRewardManager)
    assert sorted(name for cls in managers for name in cls.methods) == sorted(METHODS)


def test_every_baseline_is_a_file_of_its_name() -> None:
    folder = Path(baselines.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "\ndef rewards(step: Step) -> Scores:" in path.read_text()}
    assert files == {method.name for method in METHODS.values() if method.is_baseline}


def test_a_method_of_another_script_is_refused() -> None:
    with pytest.raises(ValueError, match=r"co_rewarding\.method=co_rewarding_I: must be one of ground_truth"):
        manager("co_rewarding_I")


@pytest.mark.parametrize(
    ("method", "read", "rewards"),
    [
        ("ground_truth", {"ground_truths": TRUTHS}, (0.0, 1.0, 0.0, 0.0)),
        ("incorrect", {"ground_truths": TRUTHS}, (1.0, 0.0, 1.0, 0.0)),
        ("majority_voting", {}, (1.0, 0.0, 1.0, 0.0)),  # 8 has two votes
        ("format_only", {}, (1.0, 1.0, 1.0, 0.0)),
        ("self_certainty", {"statistics": STATISTICS}, (1.5, 0.25, None, 3.0)),
        ("entropy", {"statistics": STATISTICS}, (-1.5, -0.25, None, -3.0)),
    ],
)
def test_rewards_by_name(method: str, read: dict, rewards: tuple) -> None:
    assert manager(method).score_groups(ROLLOUTS, step=1, **read).rewards == rewards


def test_random_rewards_are_coins_of_the_step() -> None:
    coins = [manager("random").score_groups(ROLLOUTS, step=step).rewards for step in (1, 2, 3, 4)]
    assert set().union(*coins) == {0.0, 1.0}
    assert coins[0] == manager("random").score_groups(ROLLOUTS, step=1).rewards
    assert len(set(coins)) > 1  # a question that comes again is rewarded anew


@pytest.mark.parametrize("name", list(METHODS))
def test_only_a_supervised_method_is_given_ground_truths(name: str) -> None:
    trainer = object.__new__(GroupRewardTrainer)
    trainer.method = METHODS[name]
    trainer._response_statistics = lambda keys, partition_id: []
    read = trainer._asked_by_the_method([], "train", TRUTHS)
    assert ("ground_truths" in read) == (name in ("ground_truth", "incorrect"))
    assert ("statistics" in read) == (name in ("self_certainty", "entropy"))


def test_the_wording_is_drawn_fairly_and_the_same_after_a_restart() -> None:
    drawn = [drawn_view(str(question), step) for question in range(200) for step in range(5)]
    # 1,000 fair coins: 500 ± 16, so four standard deviations are 64
    assert abs(drawn.count("original") - 500) < 64
    assert drawn == [drawn_view(str(question), step) for question in range(200) for step in range(5)]
    assert len({drawn_view("q", step) for step in range(20)}) == 2  # the same question is asked both ways in time


def test_what_was_seen_goes_through_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_save_checkpoint` and `_load_checkpoint` around verl's own, which need workers."""
    base = GroupRewardTrainer.__mro__[1]
    order = []
    monkeypatch.setattr(base, "_save_checkpoint", lambda self: order.append((tmp_path / "global_step_3").is_dir()))
    monkeypatch.setattr(base, "_load_checkpoint", lambda self: setattr(self, "global_steps", 3))

    def trainer() -> GroupRewardTrainer:
        made = object.__new__(GroupRewardTrainer)
        made.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_mode": "auto"}})
        made.watch, made.label_history, made.global_steps = Watch(window=2), LabelHistory(), 3
        return made

    first = trainer()
    first.label_history.flips({("5", "original"): "8"}, str.__eq__)
    first.watch.observe(3, {"collapse/length": 12.0})
    first._save_checkpoint()
    (tmp_path / TRACKER).write_text("3")  # by verl's
    assert order == [True]  # verl's comes last: it ends by naming the checkpoint
    again = trainer()
    again._load_checkpoint()
    assert again.watch.state_dict() == first.watch.state_dict()
    assert again.label_history.flips({("5", "original"): "9"}, str.__eq__) == (1, 1)
    assert json.loads((tmp_path / "global_step_3" / STATE_FILE).read_text())["labels"] == [["5", "original", "8"]]
    # with another window the watch cannot go on; the labels can
    other = trainer()
    other.watch = Watch(window=4)
    other._load_checkpoint()
    assert other.watch.state_dict() == Watch(window=4).state_dict()
    assert other.label_history.state_dict() == [["5", "original", "8"]]


def test_an_early_stop_names_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GroupRewardTrainer.__mro__[1], "on_step_end", lambda self: None)
    for step in (2, 4, 6, 8):
        (tmp_path / f"global_step_{step}").mkdir()
    (tmp_path / TRACKER).write_text("6")  # 8 was being written when an earlier run was killed
    trainer = object.__new__(GroupRewardTrainer)
    trainer.config = OmegaConf.create({"trainer": {"default_local_dir": str(tmp_path), "resume_mode": "auto"}})
    trainer.settings = Settings(watch_window=2, early_stop_after=2)
    trainer.watch, trainer.total_training_steps = Watch(window=2, stop_after=2), 50
    # repetition: the means of two are 0.1, 0.1, 0.1, 0.1, 0.3, 0.5: seen at step 7, so step 5 was the last without,
    # and the checkpoint of step 6, of which the window tells, is none to go on from
    for step, value in enumerate([0.1, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.6], 1):
        trainer.global_steps = step
        trainer.watch.observe(step, {"collapse/repetition": value})
        trainer.on_step_end()
    assert (trainer.total_training_steps, trainer.stopped_early_after) == (8, 50)
    assert (tmp_path / TRACKER).read_text() == "4"
    assert resume_dir(trainer.config) == tmp_path / "global_step_4"
    told = capsys.readouterr().out
    assert f"step 5 was the last without; the last good checkpoint is {tmp_path}/global_step_4" in told
