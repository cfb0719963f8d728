# SPDX-License-Identifier: Apache-2.0
"""Rewards by the name of a method, where each may be run, what it may read; one-direction III's draw."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from omegaconf import OmegaConf

from co_rewarding.algo.methods import METHODS, Method, score_rollouts
from co_rewarding.algo.payout import PAYOUTS
from co_rewarding.algo.rewards import without_labels
from co_rewarding.algo.rollouts import VIEWS, VOTERS, RewardInputs, Rollout, Scores
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.reward_manager import GroupRewardManager
from co_rewarding.training.rollout_io import Response
from co_rewarding_i.reward_manager import CrossViewRewardManager
from co_rewarding_ii.reward_manager import TeacherRewardManager
from co_rewarding_ii.trainer import drawn_view

# one question, four rollouts; the truth is 7
ROLLOUTS = [Rollout("q", "original", "student", answer) for answer in ("8", "7", "8", None)]
RESPONSES = [
    Response(f"q_{i}_0", row, "", text, np.arange(i + 1), "7")
    for i, (row, text) in enumerate(zip(ROLLOUTS, "abcd", strict=True))
]
STATISTICS = [1.5, 0.25, None, 3.0]  # the third response is empty


def manager(method: str, cls: type[GroupRewardManager] = GroupRewardManager) -> GroupRewardManager:
    config = OmegaConf.create({"co_rewarding": {"method": method, "equivalence": "string"}})
    return cls(config, build_tokenizer())


def test_a_vote_is_taken_where_its_views_and_its_teacher_are() -> None:
    managers = (CrossViewRewardManager, TeacherRewardManager, GroupRewardManager)
    votes = [[name for name in METHODS if METHODS[name].is_consensus and allowed(cls, name)] for cls in managers]
    controls = ["majority_voting_both_views", "co_rewarding_I_same_wording"]
    assert votes == [["co_rewarding_I", *controls], ["co_rewarding_II", "co_rewarding_III"], ["majority_voting"]]
    for name in (method.name for method in METHODS.values() if not method.is_consensus):
        assert all(allowed(cls, name) for cls in managers)  # a function takes the rows that there are


def allowed(cls: type[GroupRewardManager], method: str) -> bool:
    try:
        cls.check(method)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (CrossViewRewardManager, "co_rewarding_I"),
        (CrossViewRewardManager, "majority_voting_both_views"),
        (CrossViewRewardManager, "co_rewarding_I_same_wording"),
        (TeacherRewardManager, "co_rewarding_II"),
        (TeacherRewardManager, "co_rewarding_III"),
    ],
)
def test_the_rule_in_the_tree_is_the_one_of_its_name(cls: type[GroupRewardManager], name: str) -> None:
    random = Random(name)
    groups = [(question, view, voter) for question in range(20) for view in VIEWS for voter in VOTERS]
    rollouts = [Rollout(*group, random.choice(["1", "2", "3", None])) for group in groups for _ in range(5)]
    for payout in PAYOUTS:
        inputs = RewardInputs(rollouts, str.__eq__, min_agreement=0.4, payout=payout)
        scores = manager(name, cls).rewards(inputs)
        assert scores == score_rollouts(METHODS[name], inputs)
        assert scores.payout == payout


def test_a_new_reward_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one view or two, with a teacher or without: it gets the rows that there are."""

    def short_is_good(inputs: RewardInputs) -> Scores:
        return without_labels(inputs.rollouts, [1 / length for length in inputs.lengths])

    monkeypatch.setitem(METHODS, "short", Method("short", short_is_good))
    rows = [
        Response(f"{i}", Rollout("q", view, voter, None), "", "", np.arange(length), "")
        for i, (view, voter, length) in enumerate(
            [("original", "student", 2), ("rephrased", "student", 4), ("original", "teacher", 8)]
        )
    ]
    for cls, responses, rewards in (
        (GroupRewardManager, rows[:1], (1 / 2,)),
        (CrossViewRewardManager, rows[:2], (1 / 2, 1 / 4)),
        (TeacherRewardManager, rows, (1 / 2, 1 / 4, None)),
    ):
        assert manager("short", cls).score_groups(responses, step=1).rewards == rewards


def test_a_sum_with_the_vote_that_a_tree_is_for(tmp_path: Path) -> None:
    """The tree's own rule is a term; rewards are vote + length / 10, by hand."""
    (tmp_path / "own.py").write_text("def long(inputs):\n    return [n / 10 for n in inputs.lengths]\n")
    answers = {
        ("original", "student"): ["1", "1", "2"],
        ("rephrased", "student"): ["2", "2", "1"],
        ("original", "teacher"): ["1"],
        ("rephrased", "teacher"): ["2"],
    }
    rows = [
        Response("", Rollout("q", view, voter, answer), "", "", np.arange(1 + place), "")
        for (view, voter), given in answers.items()
        for place, answer in enumerate(given)
    ]
    for cls, name, responses, votes in (
        (CrossViewRewardManager, "co_rewarding_I", rows[:6], (0, 0, 1, 0, 0, 1)),
        (TeacherRewardManager, "co_rewarding_II", rows, (1, 1, 0, 1, 1, 0)),
        (TeacherRewardManager, "co_rewarding_III", rows, (0, 0, 1, 0, 0, 1)),
        (GroupRewardManager, "majority_voting", rows[:3], (1, 1, 0)),
    ):
        scores = manager(f"{name}+{tmp_path}/own.py:long", cls).score_groups(responses, step=1)
        lengths = (0.1, 0.2, 0.3) * 2
        assert scores.rewards[:6] == tuple(vote + length for vote, length in zip(votes, lengths, strict=False))
        assert scores.rewards[6:] == (None,) * len(responses[6:])
        assert scores.rewards_of_term[name][:6] == votes
        for other in METHODS.values():  # a sum is taken where its vote is
            assert allowed(cls, f"0.1*{tmp_path}/own.py:long+{other.name}") == allowed(cls, other.name)


def test_a_method_of_another_script_is_refused() -> None:
    with pytest.raises(ValueError, match=r"co_rewarding\.method=co_rewarding_I: must be one of ground_truth"):
        manager("co_rewarding_I")


@pytest.mark.parametrize(
    ("method", "read", "rewards"),
    [
        ("ground_truth", {}, (0.0, 1.0, 0.0, 0.0)),
        ("incorrect", {}, (1.0, 0.0, 1.0, 0.0)),
        ("majority_voting", {}, (1.0, 0.0, 1.0, 0.0)),  # 8 has two votes
        ("format_only", {}, (1.0, 1.0, 1.0, 0.0)),
        ("self_certainty", {"statistics": {"self_certainty": STATISTICS}}, (1.5, 0.25, None, 3.0)),
        ("entropy", {"statistics": {"entropy": STATISTICS}}, (-1.5, -0.25, None, -3.0)),
    ],
)
def test_rewards_by_name(method: str, read: dict, rewards: tuple) -> None:
    assert manager(method).score_groups(RESPONSES, step=1, **read).rewards == rewards


def test_the_setting_is_what_a_vote_pays() -> None:
    # 8 7 8 and no answer: shares 2/4, 1/4, 2/4 and 0
    config = OmegaConf.create(
        {"co_rewarding": {"method": "majority_voting", "equivalence": "string", "payout": "soft"}}
    )
    scores = GroupRewardManager(config, build_tokenizer()).score_groups(RESPONSES, step=1)
    assert scores.rewards == (0.5, 0.25, 0.5, 0.0)


def test_random_rewards_are_coins_of_the_step() -> None:
    coins = [manager("random").score_groups(RESPONSES, step=step).rewards for step in (1, 2, 3, 4)]
    assert set().union(*coins) == {0.0, 1.0}
    assert coins[0] == manager("random").score_groups(RESPONSES, step=1).rewards
    assert len(set(coins)) > 1  # a question that comes again is rewarded anew


def test_only_a_supervised_method_is_given_ground_truths() -> None:
    for name in (method.name for method in METHODS.values() if not method.is_consensus):
        asked = []
        made = manager(name)
        made.rewards = asked.append
        made.score_groups(RESPONSES, step=1)
        assert (asked[0].ground_truths is not None) == (name in ("ground_truth", "incorrect"))
        assert [row.answer for row in asked[0].rollouts] == ["8", "7", "8", None]
        assert (asked[0].texts, asked[0].lengths) == (["a", "b", "c", "d"], [1, 2, 3, 4])


def test_the_wording_is_drawn_fairly_and_the_same_after_a_restart() -> None:
    drawn = [drawn_view(str(question), step) for question in range(200) for step in range(5)]
    # 1,000 fair coins: 500 ± 16, so four standard deviations are 64
    assert abs(drawn.count("original") - 500) < 64
    assert drawn == [drawn_view(str(question), step) for question in range(200) for step in range(5)]
    assert len({drawn_view("q", step) for step in range(20)}) == 2  # the same question is asked both ways in time
