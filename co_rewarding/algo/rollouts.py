# SPDX-License-Identifier: Apache-2.0
"""What a reward is computed from, and what comes out: rollouts, and the scores of their groups.

Legend: P questions, V views of a question (original, rephrased), G rollouts of one question in one view by one voter; N
rows of a batch, which holds whole groups in any order: views and voters are tags on rows, never parallel lists.

A Rollout has no place for a ground truth, so a reward that is given rollouts alone cannot depend on one.
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
    """One response, as far as a reward may know it.

    Raises:
        ValueError: `view` or `voter` is none of those that there are.
    """

    question: Hashable  # which question; the same for both views. Put the step in it if a batch holds several
    view: View  # which view was asked
    voter: Voter  # who answered
    answer: str | None  # what extract_answer found in the response
    trained: bool = True  # False: it votes and is not trained on; so every teacher's, whatever is given
    stopped: bool = False  # ended before it could answer, as the others had decided the vote

    def __post_init__(self) -> None:
        for name, value, allowed in (("view", self.view, VIEWS), ("voter", self.voter, VOTERS)):
            if value not in allowed:
                raise ValueError(f"{name} of question {self.question!r} is {value!r}: use {' or '.join(allowed)}")
        if self.voter == "teacher":
            object.__setattr__(self, "trained", False)


def answers_by_question(
    rollouts: Sequence[Rollout], ground_truths: Sequence[str | None] | None = None
) -> list[list[str]]:
    """The answers that may be compared with one another: of a question in all views, by all voters, and its truth."""
    answers: dict[Hashable, list[str]] = {}
    for row, truth in zip(rollouts, ground_truths or [None] * len(rollouts), strict=True):
        answers.setdefault(row.question, []).extend(answer for answer in (row.answer, truth) if answer)
    return list(answers.values())


@dataclass(frozen=True)
class RewardInputs:
    """What a reward function may look at. Within a group the order of rows decides ties.

    `ground_truths` and `statistics` are None but for the methods that say that they need them. Every sequence has the
    order of the rows.
    """

    rollouts: Sequence[Rollout]  # N
    same: Same
    min_agreement: float = 0.0  # 0-1, see majority_vote
    payout: Payout = "hard"  # what a vote pays
    ground_truths: Sequence[str | None] | None = None  # N, as answers; raw or boxed will do where answers are boxed
    # name of a token statistic → N: its mean over the response's tokens, None for a teacher's row
    statistics: Mapping[str, Sequence[float | None]] | None = None
    texts: Sequence[str] | None = None  # N: the responses
    prompts: Sequence[str] | None = None  # N: what was asked, the user's message; None where a file does not say
    lengths: Sequence[int] | None = None  # N: tokens of the responses; None where a file does not say
    seed: int = 0  # other numbers in another step


@dataclass(frozen=True)
class Scores:
    """Labels and rewards of a batch. A label is a pseudo-label or, of a supervised method, the ground truth."""

    row_labels: tuple[str | None, ...]  # N: what the row was compared with; None: no label, or a method that has none
    rewards: tuple[float | None, ...]  # N: what the vote pays, or 0 or 1, or nats; None: never trained on, or no tokens
    # the label of each group that is trained on; empty for a method without labels
    group_labels: dict[tuple[Hashable, View], str | None] = field(default_factory=dict)
    # the vote of every group that there is, whether or not it labels one; empty for a method without votes
    votes: dict[tuple[Hashable, View, Voter], Vote] = field(default_factory=dict)
    voter: Voter | None = None  # whose votes are the labels
    payout: Payout = "hard"  # what the votes paid
    num_missing_groups: int = 0  # groups that are trained on and whose voting group has no rollout
    # labels that groups lost because they flip (co_rewarding.algo.label_flips); None: nothing looks for such
    withheld: dict[tuple[Hashable, View], str] | None = None
    # of a weighted sum: label of each term → N, its rewards without the weight
    rewards_of_term: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    def terms_of_row(self, row: int) -> dict[str, float | None]:
        """What each term gave a row; empty without a sum."""
        return {term: rewards_N[row] for term, rewards_N in self.rewards_of_term.items()}
