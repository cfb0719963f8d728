# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of a reward: rollouts, and the scores of their groups.

Legend: P questions, V views of a question (original, rephrased), G rollouts of one question in one view by one voter; N
rows of a batch, which has complete groups in any order: views and voters are tags on rows, never parallel lists.

A Rollout has no field for a ground truth, so a reward that gets only rollouts cannot depend on one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from co_rewarding.algo.payout import Payout
from co_rewarding.algo.voting import Vote

View = Literal["original", "rephrased"]
Voter = Literal["student", "teacher"]
VIEWS: tuple[View, ...] = get_args(View)
VOTERS: tuple[Voter, ...] = get_args(Voter)

Same = Callable[[str, str], bool]
"""Whether two answers are equivalent (co_rewarding.algo.equivalence)."""


def other_view(view: View) -> View:
    return "rephrased" if view == "original" else "original"


@dataclass(frozen=True)
class Rollout:
    """One response, with all that a reward may know.

    Raises:
        ValueError: `view` or `voter` is unknown.
    """

    question: Hashable  # which question; the same for both views. Put the step in it if a batch holds several
    view: View  # view of the prompt
    voter: Voter  # who wrote the response
    answer: str | None  # the response's answer, see extract_answer
    trained: bool = True  # False: votes and is not trained on; always so for a teacher's
    stopped: bool = False  # stopped before it could answer, since the vote was decided

    def __post_init__(self) -> None:
        for name, value, allowed in (("view", self.view, VIEWS), ("voter", self.voter, VOTERS)):
            if value not in allowed:
                raise ValueError(f"{name} of question {self.question!r} is {value!r}: use {' or '.join(allowed)}")
        if self.voter == "teacher":
            object.__setattr__(self, "trained", False)


def answers_by_question(
    rollouts: Sequence[Rollout], ground_truths: Sequence[str | None] | None = None
) -> list[list[str]]:
    """The answers that may be compared with one another: of a question in all views, by all voters, with its truth."""
    answers: dict[Hashable, list[str]] = {}
    for row, truth in zip(rollouts, ground_truths or [None] * len(rollouts), strict=True):
        answers.setdefault(row.question, []).extend(answer for answer in (row.answer, truth) if answer)
    return list(answers.values())


@dataclass(frozen=True)
class RewardInputs:
    """Inputs of a reward function. Within a group the order of rows decides ties.

    `ground_truths` and `statistics` are None except for methods that declare them. Every sequence has the order of the
    rows.
    """

    rollouts: Sequence[Rollout]  # N
    same: Same
    min_agreement: float = 0.0  # 0-1, see majority_vote
    payout: Payout = "hard"  # what a vote pays
    ground_truths: Sequence[str | None] | None = None  # N, as answers; raw or boxed for boxed answers
    # name of a token statistic → N: its mean over the response's tokens, None for a teacher's row
    statistics: Mapping[str, Sequence[float | None]] | None = None
    texts: Sequence[str] | None = None  # N: the responses
    prompts: Sequence[str] | None = None  # N: the user's message; None if a file has none
    lengths: Sequence[int] | None = None  # N: tokens of the responses; None if a file has none
    seed: int = 0  # differs from step to step


@dataclass(frozen=True)
class Scores:
    """Labels and rewards of a batch. A label is a pseudo-label or, for a supervised method, the ground truth."""

    row_labels: tuple[str | None, ...]  # N: the row's label; None: no label, or a method without labels
    rewards: tuple[float | None, ...]  # N: what the vote pays, or 0 or 1, or nats; None: never trained on, or no tokens
    # the label of each trained group; empty for a method without labels
    group_labels: dict[tuple[Hashable, View], str | None] = field(default_factory=dict)
    # the vote of every group, used as a label or not; empty for a method without votes
    votes: dict[tuple[Hashable, View, Voter], Vote] = field(default_factory=dict)
    voter: Voter | None = None  # whose votes are the labels
    payout: Payout = "hard"  # what the votes paid
    num_missing_groups: int = 0  # trained groups whose voting group has no rollouts
    # labels withheld because they flip (co_rewarding.algo.label_flips); None: not checked
    withheld: dict[tuple[Hashable, View], str] | None = None
    # of a weighted sum: label of each term → N, its rewards without the weight
    rewards_of_term: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def terms_of_row(self, row: int) -> dict[str, float | None]:
        """Each term's reward of a row; empty without a sum."""
        return {term: rewards_N[row] for term, rewards_N in self.rewards_of_term.items()}
