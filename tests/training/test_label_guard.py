# SPDX-License-Identifier: Apache-2.0
"""Labels of the last visits through three visits, a checkpoint, a kill and a run from another run's checkpoint."""

from operator import eq
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from co_rewarding.algo.answers import TextAnswer
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import Rollout, Scores
from co_rewarding.monitoring.collapse import LabelHistory, collapse_metrics
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.storage.run_dir import LABELS_FILE
from co_rewarding.training.label_guard import LabelGuard
from co_rewarding.training.run_monitor import RunMonitor
from co_rewarding.training.settings import Settings
from co_rewarding.training.trainer import GroupRewardTrainer


def visit(guard: LabelGuard, answers: dict[str, str]) -> tuple[list[Rollout], Scores]:
    """A step of majority voting in which each question's rollouts give these answers."""
    rollouts = [
        Rollout(question, "original", "student", answer) for question, said in answers.items() for answer in said
    ]
    return rollouts, guard.guarded(rollouts, consensus_rewards(rollouts, "student", "same", eq), eq)


def rewards(guard: LabelGuard, answers: dict[str, str]) -> tuple:
    return visit(guard, answers)[1].rewards


def test_three_visits() -> None:
    """a keeps its label, b changes it once, c every time; by how many flips are allowed."""
    steps = [
        {"a": "112", "b": "334", "c": "556"},
        {"a": "112", "b": "344", "c": "566"},
        {"a": "112", "b": "344", "c": "577"},
    ]
    a, b, c, out = (1, 1, 0), (0, 1, 1), (0, 1, 1), (0, 0, 0)
    first = (1, 1, 0, 1, 1, 0, 1, 1, 0)  # nothing is known yet
    for max_flips, expected in {
        0: [first, a + out + out, a + b + out],  # b is confirmed at the third visit
        1: [first, a + b + c, a + b + out],  # c changed twice in a row
        2: [first, a + b + c, a + b + c],
    }.items():
        guard = LabelGuard(max_flips)
        assert [rewards(guard, step) for step in steps] == expected, max_flips


def test_metrics_of_withheld_labels() -> None:
    guard, history = LabelGuard(0), LabelHistory()

    def metrics(answers: dict[str, str]) -> dict[str, float]:
        rollouts, scores = visit(guard, answers)
        found = group_metrics(rollouts, scores, ["1"] * len(rollouts), eq)
        return found | collapse_metrics(rollouts, scores, [np.arange(1)] * len(rollouts), 9, eq, history)

    first = metrics({"a": "11", "b": "33", "c": "5-"})
    assert (first["label/withheld"], first["label/share"]) == (0, 1)
    # b flips and is withheld: of three labels one; the two that are left are 1, which is right, and 5
    second = metrics({"a": "11", "b": "44", "c": "5-"})
    assert second["label/withheld"] == pytest.approx(1 / 3)
    assert second["label/share"] == pytest.approx(2 / 3)
    assert second["label/accuracy"] == pytest.approx(1 / 2)
    assert second["collapse/label_flips"] == pytest.approx(1 / 3)  # seen as a flip although it was withheld
    # without a guard there is no such number
    rollouts = [Rollout("a", "original", "student", "1")]
    assert "label/withheld" not in group_metrics(rollouts, consensus_rewards(rollouts, "student", "same", eq), None, eq)


def test_a_resumed_run_goes_on_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    steps = [
        {"a": said, "b": other}
        for said, other in [("11", "33"), ("22", "33"), ("22", "44"), ("33", "55"), ("33", "55")]
    ]
    whole = LabelGuard(0)
    expected = [rewards(whole, step) for step in steps]
    # a: 1 2 2 3 3, b: 3 3 4 5 5
    assert expected == [(1, 1, 1, 1), (0, 0, 1, 1), (1, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)]
    killed = LabelGuard(0)
    for step in steps[:2]:
        rewards(killed, step)
    killed.save(tmp_path)
    rewards(killed, steps[2])  # done, and lost with the process
    resumed = LabelGuard(0)
    resumed.load(tmp_path)
    assert [rewards(resumed, step) for step in steps[2:]] == expected[2:]
    assert resumed.last == whole.last


def test_labels_that_are_compared_as_text_stay_so_through_a_checkpoint(tmp_path: Path) -> None:
    """As mathematics ba is ab, and "New York" is not "new york"."""
    same = Equivalence(mode="math").same

    def visit(guard: LabelGuard, label: str) -> int:
        rollouts = [Rollout("a", "original", "student", TextAnswer(label))]
        guard.guarded(rollouts, consensus_rewards(rollouts, "student", "same", same), same)
        return guard.last["a", "original"].flips

    for first, second, flips in (("New York", "new york", 0), ("ab", "ba", 1)):
        killed, resumed = LabelGuard(0), LabelGuard(0)
        visit(killed, first)
        killed.save(tmp_path)
        resumed.load(tmp_path)
        assert visit(resumed, second) == flips


def test_the_trainer_keeps_the_visits_in_its_checkpoint(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`_save_checkpoint` and `_load_checkpoint` around verl's own, which need workers."""
    config.trainer.default_local_dir = str(tmp_path / "checkpoints")
    base = GroupRewardTrainer.__mro__[1]
    monkeypatch.setattr(base, "_save_checkpoint", lambda self: None)
    monkeypatch.setattr(base, "_load_checkpoint", lambda self: setattr(self, "global_steps", 3))

    def trainer(guard: LabelGuard | None, config: DictConfig = config) -> GroupRewardTrainer:
        made = object.__new__(GroupRewardTrainer)
        made.config, made.checkpoint_callback, made.steps_per_epoch = config, CheckpointCallback(), 58
        checkpoints = Path(config.trainer.default_local_dir)
        made.monitor, made.global_steps = RunMonitor(Settings("co_rewarding_I"), 16, checkpoints), 3
        made.label_guard = guard
        return made

    folder = tmp_path / "checkpoints" / "global_step_3"
    trainer(None)._save_checkpoint()
    assert not (folder / LABELS_FILE).exists()  # a run without the guard leaves nothing new
    guard = LabelGuard(0)
    trainer(guard)._load_checkpoint()  # one from before the guard still loads
    assert (
        guard.last == {}
        and f"has no {LABELS_FILE}: label flips are counted from this step on" in capsys.readouterr().out
    )
    rewards(guard, {"a": "11"})
    rewards(guard, {"a": "22"})
    trainer(guard)._save_checkpoint()
    again = LabelGuard(0)
    trainer(again)._load_checkpoint()
    assert again.last == guard.last
    assert rewards(again, {"a": "33"}) == (0, 0) and rewards(again, {"a": "33"}) == (1, 1)
    # a new run from this checkpoint may ask other questions under the same ids
    other = OmegaConf.merge(
        config,
        {
            "trainer": {
                "default_local_dir": str(tmp_path / "other"),
                "resume_mode": "resume_path",
                "resume_from_path": str(folder),
            }
        },
    )
    fresh = LabelGuard(0)
    trainer(fresh, other)._load_checkpoint()
    assert fresh.last == {}
