# SPDX-License-Identifier: Apache-2.0
"""Sums of rewards, computed by hand: two views, a vote and others beside it."""

from pathlib import Path

import pytest

from co_rewarding.algo.methods import METHODS, consensus_of, is_method, method, score_rollouts
from co_rewarding.algo.rollouts import RewardInputs, Rollout

ANSWERS = {"original": ["7", "8", "7", None], "rephrased": ["8", "8", "7", "8"]}
ROLLOUTS = [Rollout("q", view, "student", answer) for view, answers in ANSWERS.items() for answer in answers]
LENGTHS = [1, 2, 4, 8, 1, 2, 4, 8]
INPUTS = RewardInputs(ROLLOUTS, str.__eq__, lengths=LENGTHS, ground_truths=["7"] * 8)


@pytest.fixture
def short(tmp_path: Path) -> str:
    (tmp_path / "brevity.py").write_text("def short(inputs):\n    return [1 / n for n in inputs.lengths]\n")
    return f"{tmp_path}/brevity.py:short"


def test_two_rewards_by_hand(short: str) -> None:
    # the original view is labelled 8 by the other, the rephrased one 7: votes 0 1 0 0 | 0 0 1 0
    # brevity 1/n: 1 1/2 1/4 1/8 | 1 1/2 1/4 1/8; the sum is vote + 0.5 · brevity
    scores = score_rollouts(method(f"co_rewarding_I+0.5*{short}"), INPUTS)
    assert scores.rewards == (0.5, 1.25, 0.125, 0.0625, 0.5, 0.25, 1.125, 0.0625)
    assert scores.rewards_of_term == {
        "co_rewarding_I": (0, 1, 0, 0, 0, 0, 1, 0),
        "brevity.short": (1, 0.5, 0.25, 0.125, 1, 0.5, 0.25, 0.125),
    }
    assert scores.terms_of_row(1) == {"co_rewarding_I": 1, "brevity.short": 0.5}
    # everything else is the vote's
    alone = score_rollouts(METHODS["co_rewarding_I"], INPUTS)
    for part in ("row_labels", "group_labels", "votes", "voter", "num_missing_groups"):
        assert getattr(scores, part) == getattr(alone, part)
    swapped = score_rollouts(method(f"0.5*{short}+co_rewarding_I"), INPUTS)
    assert (swapped.rewards, swapped.votes) == (scores.rewards, scores.votes)


def test_three_rewards_with_a_sign() -> None:
    # votes as above; format_only 1 1 1 0 | 1 1 1 1; the truth 7 in 1 0 1 0 | 0 0 1 0
    scores = score_rollouts(method("2*co_rewarding_I+-1*format_only+0*ground_truth"), INPUTS)
    assert scores.rewards == (-1, 1, -1, 0, -1, -1, 1, -1)
    assert scores.rewards_of_term["ground_truth"] == (1, 0, 1, 0, 0, 0, 1, 0)  # logged, of weight 0
    assert scores.group_labels == {("q", "original"): "8", ("q", "rephrased"): "7"}  # the vote's


def test_without_a_vote_the_labels_are_those_that_there_are() -> None:
    scores = score_rollouts(method("format_only+0.5*ground_truth"), INPUTS)
    assert scores.row_labels == ("7",) * 8 and scores.voter is None
    assert scores.rewards[:4] == (1.5, 1, 1.5, 0)


def test_a_row_without_one_of_the_rewards_has_none() -> None:
    rollouts = [*ROLLOUTS[:2], Rollout("q", "original", "teacher", "8")]
    statistics = {"entropy": [2.0, None, None]}  # the second response is empty
    scores = score_rollouts(
        method("co_rewarding_II+0.25*entropy"), RewardInputs(rollouts, str.__eq__, statistics=statistics)
    )
    # the teacher says 8: votes 0 1; entropy −2 and none
    assert scores.rewards == (-0.5, None, None)
    assert scores.rewards_of_term == {"co_rewarding_II": (0, 1, None), "entropy": (-2, None, None)}


def test_needs_are_those_of_all_terms(short: str) -> None:
    chosen = method(f"0.1*{short}+co_rewarding_III+entropy+self_certainty+ground_truth")
    assert chosen.needs_labels and chosen.needs_logits and chosen.needs_both_views and chosen.needs_teacher
    assert set(chosen.statistics) == {"entropy", "self_certainty"}
    assert not chosen.is_control
    chosen = method(f"0.1*{short}+random")
    assert not (chosen.needs_labels or chosen.needs_logits or chosen.is_consensus)
    with pytest.raises(ValueError, match="needs the policy's logits, for its self_certainty"):
        score_rollouts(
            method("random+self_certainty"), RewardInputs(ROLLOUTS, str.__eq__, statistics={"entropy": [1.0] * 8})
        )


def test_terms_that_do_not_go_together(short: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other/brevity.py"
    twin.write_text(Path(short.removesuffix(":short")).read_text())
    for name, said in (
        (
            "majority_voting+0.5*co_rewarding_I",
            "majority_voting and co_rewarding_I are votes; a sum may have only one",
        ),
        ("random+2*random", "two terms that are logged as random"),
        (f"{short}+{twin}:short", "two terms that are logged as brevity.short"),
        ("random+nonsense", "method 'nonsense' is unknown: use one of co_rewarding_I, "),
    ):
        with pytest.raises(ValueError, match=said):
            method(name)


def test_a_tree_takes_its_own_vote(short: str) -> None:
    """Wherever the method has one: alone, and as a term."""
    from dataclasses import replace

    def vote(inputs: RewardInputs):
        return replace(score_rollouts(METHODS["majority_voting"], inputs), rewards=(3.0,) * len(inputs.rollouts))

    assert score_rollouts(method("co_rewarding_I"), INPUTS, vote).rewards == (3.0,) * 8
    assert score_rollouts(method(f"co_rewarding_I+{short}"), INPUTS, vote).rewards[:2] == (4.0, 3.5)
    assert score_rollouts(method(short), INPUTS, vote).rewards[:2] == (1.0, 0.5)


def test_what_is_reported_without_loading_a_file() -> None:
    gone = "/nowhere/mine.py:reward"
    assert is_method(gone) and is_method(f"co_rewarding_I+0.1*{gone}") and not is_method(f"co_rewarding_IV+{gone}")
    assert consensus_of(gone) is None
    assert consensus_of(f"0.1*{gone}+co_rewarding_II") == METHODS["co_rewarding_II"].rule
