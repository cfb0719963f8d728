# SPDX-License-Identifier: Apache-2.0
"""Rewards of whole groups (arXiv 2508.00410, Eq. 6-11 and Appendix C.1).

    is_match(a, y) = 1 if ans(y) is equivalent to the label a, else 0
    pseudo-label of (question, view) = majority vote of (question, view or the other view, voter)

All consensus methods are this rule with two switches, who votes and on which view (a third, what a vote pays, is in
co_rewarding.algo.payout; by default is_match):

                     label from the same view     label from the other view
    student votes    majority_voting              co_rewarding_I      (Eq. 6-8)
    teacher votes    co_rewarding_II (Eq. 9-11)   co_rewarding_III

Majority-Voting (TTRL, arXiv 2504.16084) is the cell in which an answer votes for its own reward, so agreeing on any
answer, right or wrong, surely raises the reward. The other three give the vote to another group. Two controls are cells
of the upper row on other prompts: majority_voting_both_views is majority_voting on those of co_rewarding_I, and
co_rewarding_I_same_wording is co_rewarding_I with the original question in both views.

Degenerate cases:
- a group without a label, because no rollout answered or too few agreed: every reward is 0 (but see the payout
negative), and `group_labels` has None;
- no rollouts in the voting group (all failed): no label either, counted in num_missing_groups;
- a response without an answer earns 0 (likewise);
- a row that only votes (a teacher's; a student's surplus rollouts, as in TTRL) has the reward None.

Deliberately absent: a place for a ground truth (consensus_rewards takes none, and Rollout holds none); advantages,
which verl computes; the other rewards, one file each (co_rewarding/algo/baselines).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.algo.payout import Payout, pay
from co_rewarding.algo.rollouts import RewardInputs, Rollout, Same, Scores, View, Voter, other_view
from co_rewarding.algo.voting import Vote, majority_vote

LabelView = Literal["same", "other"]


def is_match(label: str | None, answer: str | None, same: Same) -> float:
    """1.0 if there are a label and an answer and they are equivalent, else 0.0."""
    return float(label is not None and answer is not None and same(label, answer))


def consensus_rewards(
    rollouts: Sequence[Rollout],
    voter: Voter,
    label_view: LabelView,
    same: Same,
    min_agreement: float = 0.0,
    payout: Payout = "hard",
) -> Scores:
    """Rewards by agreement with a vote.

    Args:
        rollouts: N rows of whole groups.
        voter: whose answers vote.
        label_view: whether the vote on a view rewards the student's rollouts on the "same" view or on the "other".
        same: the equivalence of answers.
        min_agreement: 0-1, see majority_vote.
        payout: what the vote pays.

    Raises:
        ValueError: min_agreement is outside 0-1, or there is no such payout.
    """
    answers_of_group: dict[tuple[Hashable, View, Voter], list[str | None]] = defaultdict(list)
    for row in rollouts:
        answers_of_group[row.question, row.view, row.voter].append(row.answer)
    votes = {group: majority_vote(answers_G, same, min_agreement) for group, answers_G in answers_of_group.items()}

    def vote_for(question: Hashable, view: View) -> Vote | None:
        return votes.get((question, view if label_view == "same" else other_view(view), voter))

    def label_for(question: Hashable, view: View) -> str | None:
        vote = vote_for(question, view)
        return vote.pseudo_label if vote is not None else None

    trained_groups = dict.fromkeys((row.question, row.view) for row in rollouts if row.trained)
    return Scores(
        row_labels=tuple(label_for(row.question, row.view) for row in rollouts),
        rewards=trained_rows(
            rollouts, [pay(payout, vote_for(row.question, row.view), row.answer, same) for row in rollouts]
        ),
        group_labels={group: label_for(*group) for group in trained_groups},
        votes=votes,
        voter=voter,
        payout=payout,
        num_missing_groups=sum(vote_for(*group) is None for group in trained_groups),
    )


def trained_rows(rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> tuple[float | None, ...]:
    """N, `rewards` with None for the rows that are never trained on."""
    return tuple(reward if row.trained else None for row, reward in zip(rollouts, rewards, strict=True))


def without_labels(rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> Scores:
    """The scores of a method without labels."""
    return Scores(row_labels=(None,) * len(rollouts), rewards=trained_rows(rollouts, rewards))


def truths(inputs: RewardInputs) -> tuple[str | None, ...]:
    """N, the ground truths of a supervised method, unboxed; None if a question has none."""
    return tuple(ground_truth_answer(truth) for truth in inputs.ground_truths or ())
