# SPDX-License-Identifier: Apache-2.0
"""Rewards of two questions in two views, with a student and a teacher, written out by hand."""

import dataclasses
import inspect
import random
from operator import eq

import pytest

from co_rewarding.algo.methods import METHODS, Consensus, Method, method, score_rollouts
from co_rewarding.algo.rewards import consensus_rewards
from co_rewarding.algo.rollouts import RewardInputs, Rollout

# Question p: what each voter answers in each view, and the vote.
#   student original  1 1 2 -   vote 1      student rephrased  2 2 1 2   vote 2
#   teacher original  3 3 1 3   vote 3      teacher rephrased  2 1 1 -   vote 1
GROUPS = {
    ("original", "student"): ["1", "1", "2", None],
    ("rephrased", "student"): ["2", "2", "1", "2"],
    ("original", "teacher"): ["3", "3", "1", "3"],
    ("rephrased", "teacher"): ["2", "1", "1", None],
}


def rows(question="p", groups=GROUPS):
    return [Rollout(question, view, voter, a) for (view, voter), answers in groups.items() for a in answers]


def by_group(rollouts, values):
    found = {}
    for row, value in zip(rollouts, values, strict=True):
        found.setdefault((row.view, row.voter), []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "original", "rephrased"),
    [
        # (label of the view, rewards of the student's four rows in it)
        ("majority_voting", ("1", [1, 1, 0, 0]), ("2", [1, 1, 0, 1])),
        ("majority_voting_both_views", ("1", [1, 1, 0, 0]), ("2", [1, 1, 0, 1])),
        ("co_rewarding_I", ("2", [0, 0, 1, 0]), ("1", [0, 0, 1, 0])),
        ("co_rewarding_I_same_wording", ("2", [0, 0, 1, 0]), ("1", [0, 0, 1, 0])),
        ("co_rewarding_II", ("3", [0, 0, 0, 0]), ("1", [0, 0, 1, 0])),
        ("co_rewarding_III", ("1", [1, 1, 0, 0]), ("3", [0, 0, 0, 0])),
    ],
)
def test_consensus_methods(name, original, rephrased):
    rollouts = rows()
    scores = score_rollouts(METHODS[name], RewardInputs(rollouts, eq))
    labels, rewards = by_group(rollouts, scores.row_labels), by_group(rollouts, scores.rewards)
    for view, (label, expected) in (("original", original), ("rephrased", rephrased)):
        assert rewards[view, "student"] == expected
        assert rewards[view, "teacher"] == [None] * 4  # never trained on
        assert labels[view, "student"] == labels[view, "teacher"] == [label] * 4
        assert scores.group_labels["p", view] == label
    assert scores.votes["p", "original", "student"].agreement == 2 / 4
    assert scores.num_missing_groups == 0


def test_rows_may_come_in_any_order():
    # Two questions mixed; no group of the student has a tie, which the order would decide.
    rollouts = rows("p") + rows("q", {**GROUPS, ("rephrased", "student"): ["1", "1", "1", None]})
    expected = consensus_rewards(rollouts, "student", "other", eq)
    # q's original rows 1 1 2 - are labelled 1 by its rephrased rows
    assert expected.rewards[16:20] == (1, 1, 0, 0)
    rng = random.Random(0)
    order = rng.sample(range(len(rollouts)), len(rollouts))
    shuffled = consensus_rewards([rollouts[i] for i in order], "student", "other", eq)
    assert shuffled.rewards == tuple(expected.rewards[i] for i in order)
    assert shuffled.group_labels == expected.group_labels


def test_group_without_label_earns_nothing():
    groups = {("original", "student"): ["1", "1"], ("rephrased", "student"): [None, None]}
    scores = consensus_rewards(rows(groups=groups), "student", "other", eq)
    assert scores.group_labels == {("p", "original"): None, ("p", "rephrased"): "1"}
    assert scores.rewards == (0, 0, 0, 0)
    assert scores.num_missing_groups == 0  # the rephrased group is there, it only said nothing


def test_minimum_agreement_reaches_the_vote():
    # rephrased votes 2 with 3/4; original votes 1 with 2/4, which is below 0.6
    scores = consensus_rewards(rows(), "student", "other", eq, min_agreement=0.6)
    assert scores.group_labels == {("p", "original"): "2", ("p", "rephrased"): None}


def test_missing_voting_group_is_counted():
    groups = {("original", "student"): ["1", "1"]}
    scores = consensus_rewards(rows(groups=groups), "student", "other", eq)
    assert scores.rewards == (0, 0)
    assert scores.num_missing_groups == 1
    assert consensus_rewards(rows(groups=groups), "teacher", "same", eq).num_missing_groups == 1
    assert consensus_rewards(rows(groups=groups), "student", "same", eq).num_missing_groups == 0


def test_more_votes_than_are_trained_on():
    # question p, original: 1 1 2 are trained on, 2 2 3 only vote: the vote moves from 1 (2 of 3) to 2 (3 of 6)
    # rephrased: 3 3 1 are trained on, 1 1 - only vote: from 3 (2 of 3) to 1 (3 of 6)
    answers = {"original": (["1", "1", "2"], ["2", "2", "3"]), "rephrased": (["3", "3", "1"], ["1", "1", None])}
    rollouts = [
        Rollout("p", view, "student", answer, trained)
        for view, parts in answers.items()
        for trained, part in zip((True, False), parts, strict=True)
        for answer in part
    ]
    fewer = [row for row in rollouts if row.trained]
    for name, original, rephrased, before in (
        # label and rewards of those that are trained on, with all votes; labels with the votes of these alone
        ("majority_voting", ("2", [0, 0, 1]), ("1", [0, 0, 1]), ("1", "3")),
        ("co_rewarding_I", ("1", [1, 1, 0]), ("2", [0, 0, 0]), ("3", "1")),
    ):
        scores = score_rollouts(METHODS[name], RewardInputs(rollouts, eq))
        assert scores.group_labels == {("p", "original"): original[0], ("p", "rephrased"): rephrased[0]}
        assert list(scores.rewards) == [*original[1], None, None, None, *rephrased[1], None, None, None]
        assert scores.votes["p", "original", "student"].agreement == 3 / 6
        alone = score_rollouts(METHODS[name], RewardInputs(fewer, eq)).group_labels
        assert tuple(alone.values()) == before


def test_a_group_in_which_all_only_vote_is_not_trained_on():
    rollouts = [Rollout("p", "original", "student", "1", trained=False), Rollout("p", "rephrased", "student", "2")]
    scores = score_rollouts(METHODS["co_rewarding_I"], RewardInputs(rollouts, eq))
    assert scores.group_labels == {("p", "rephrased"): "1"} and scores.rewards == (None, 0.0)


def test_a_teacher_is_never_trained_on():
    assert not Rollout("p", "original", "teacher", "1").trained
    assert Rollout("p", "original", "teacher", "1") == Rollout("p", "original", "teacher", "1", trained=False)
    for one in METHODS.values():
        if not (one.is_consensus or one.needs_labels or one.needs_logits):
            rows_of_both = [Rollout("p", "original", "student", "1", trained) for trained in (True, False)]
            texts = [r"\boxed{1}"] * 2
            rewards = score_rollouts(one, RewardInputs(rows_of_both, eq, texts=texts, lengths=[3, 3])).rewards
            assert rewards[0] is not None and rewards[1] is None, one.name


def test_a_consensus_method_has_no_way_to_a_ground_truth():
    known = ["question", "view", "voter", "answer", "trained", "stopped"]
    assert [f.name for f in dataclasses.fields(Rollout)] == known
    parameters = list(inspect.signature(consensus_rewards).parameters)
    assert parameters == ["rollouts", "voter", "label_view", "same", "min_agreement", "payout"]
    for name in (m.name for m in METHODS.values() if m.is_consensus):
        assert not METHODS[name].needs_labels
        with_truth = score_rollouts(METHODS[name], RewardInputs(rows(), eq, ground_truths=["9"] * 16))
        assert with_truth == score_rollouts(METHODS[name], RewardInputs(rows(), eq))


def test_ground_truth_and_incorrect():
    rollouts = rows()[:4] + rows()[8:10]  # student 1 1 2 -, teacher 3 3
    truths = [r"\boxed{1}", "1", "1", "1", None, ""]  # only rows that are trained on need one
    step = RewardInputs(rollouts, eq, ground_truths=truths)
    assert score_rollouts(METHODS["ground_truth"], step).rewards == (1, 1, 0, 0, None, None)
    assert score_rollouts(METHODS["incorrect"], step).rewards == (0, 0, 1, 0, None, None)
    # no label: 0 for the whole group
    unknown = RewardInputs(rollouts, eq, ground_truths=[None, "", r"\boxed{", None, "1", "1"])
    assert score_rollouts(METHODS["ground_truth"], unknown).rewards == (0, 0, 0, 0, None, None)
    assert score_rollouts(METHODS["ground_truth"], unknown).group_labels == {("p", "original"): None}
    assert score_rollouts(METHODS["incorrect"], unknown).rewards == (0, 0, 0, 0, None, None)


def test_format_only():
    assert score_rollouts(METHODS["format_only"], RewardInputs(rows()[:4], eq)).rewards == (1, 1, 1, 0)


def coins(rollouts, seed):
    return score_rollouts(METHODS["random"], RewardInputs(rollouts, eq, seed=seed)).rewards


def test_random_is_a_seeded_fair_coin():
    rollouts = [Rollout(q, view, "student", None) for q in range(500) for view in ("original", "rephrased")] * 2
    rewards = coins(rollouts, seed=0)
    # 2000 coins: mean 0.5, standard error 0.011; five of them is 0.056
    assert abs(sum(rewards) / len(rewards) - 0.5) < 0.056
    assert rewards == coins(rollouts, seed=0)
    assert rewards != coins(rollouts, seed=1)
    # neither the answers nor the order of the groups matter
    answered = [dataclasses.replace(row, answer="1") for row in reversed(rollouts)]
    first_of = {}
    for row, reward in zip(rollouts, rewards, strict=True):
        first_of.setdefault((row.question, row.view), reward)
    for row, reward in list(zip(answered, coins(answered, seed=0), strict=True))[:1000]:
        assert reward == first_of[row.question, row.view]


def test_methods_table():
    assert [m.name for m in METHODS.values() if m.needs_logits] == ["self_certainty", "entropy"]
    assert [m.name for m in METHODS.values() if m.needs_teacher] == ["co_rewarding_II", "co_rewarding_III"]
    controls = ["majority_voting_both_views", "co_rewarding_I_same_wording"]
    assert [m.name for m in METHODS.values() if m.needs_both_views] == ["co_rewarding_I", "co_rewarding_III", *controls]
    assert [m.name for m in METHODS.values() if m.repeats_original] == controls[1:]
    assert method("0.1*random+co_rewarding_I_same_wording").repeats_original
    # a vote on the other view is of a question in two views
    votes = [m.consensus for m in METHODS.values() if m.consensus]
    assert not [vote for vote in votes if vote.label_view == "other" and vote.second_view is None]
    assert [m.name for m in METHODS.values() if m.needs_labels] == ["ground_truth", "incorrect"]
    rule = Consensus(voter="student", label_view="other", second_view="rephrased")
    assert method("co_rewarding_I") == Method("co_rewarding_I", rule)
    with pytest.raises(ValueError, match="'co-rewarding' is unknown: use one of co_rewarding_I, "):
        method("co-rewarding")


def test_refusals():
    with pytest.raises(ValueError, match="view of question 'p' is 'aug': use original or rephrased"):
        Rollout("p", "aug", "student", None)
    with pytest.raises(ValueError, match="voter of question 'p' is 'ema'"):
        Rollout("p", "original", "ema", None)
    with pytest.raises(ValueError, match="'entropy' needs the policy's logits"):
        score_rollouts(METHODS["entropy"], RewardInputs(rows(), eq))
    with pytest.raises(ValueError, match="'incorrect' needs ground truths"):
        score_rollouts(METHODS["incorrect"], RewardInputs(rows(), eq))
