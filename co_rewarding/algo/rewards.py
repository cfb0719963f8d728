# SPDX-License-Identifier: Apache-2.0
"""Rewards of whole groups (arXiv 2508.00410, Eq. 6-11 and Appendix C.1; METHODS.md "Baselines").

    r(a, y) = 1 if ans(y) is the same answer as the label a, else 0
    label of (question, view) = majority vote of (question, view or the other view, voter)

The two switches of a consensus method are co_rewarding.algo.methods': student/same is Majority-Voting, student/other
Co-rewarding-I, teacher/same II, teacher/other III. Views and voters are tags on the rows of one batch, in any order.

Degenerate cases:
- a group without a label, because nobody answered or too few agreed: every reward is 0, and `labels` says None;
- no rollout at all in the group that should vote (all of them failed): no label either, counted in num_missing_groups;
- a response without an answer earns 0 under every method but `random`;
- a teacher's row is never trained on: its reward is None.

A consensus method cannot read a ground truth: neither Rollout nor consensus_rewards has a place for one. Any other
reward may read what Step holds.

Deliberately absent: advantages, which are the host's, and the baselines, one file each (algo/baselines).
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.algo.methods import VIEWS, VOTERS, Method, View, Voter, other_view
from co_rewarding.algo.methods import method as method_of_name
from co_rewarding.algo.voting import Vote, majority_vote

Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Rollout:
    """One response, as far as a reward may know it."""

    question: Hashable  # which question; the same for both views. Put the step in it if a batch holds several
    view: View  # which wording was asked
    voter: Voter  # who answered
    answer: str | None  # what extract_answer found in the response

    def __post_init__(self) -> None:
        for name, value, allowed in (("view", self.view, VIEWS), ("voter", self.voter, VOTERS)):
            if value not in allowed:
                raise ValueError(f"{name} of question {self.question!r} is {value!r}: use {' or '.join(allowed)}")


@dataclass(frozen=True)
class Scores:
    """Labels and rewards of a batch of rollouts. Axis N: the rows, in the order in which they were given."""

    labels: tuple[str | None, ...]  # N: what the row was compared with; None: no label, or a method that has none
    rewards: tuple[float | None, ...]  # N: 0 or 1, or nats; None: never trained on, or no tokens
    # the label of each group that is trained on; empty for a method without labels
    label_of: dict[tuple[Hashable, View], str | None] = field(default_factory=dict)
    # the vote of every group that there is, whether or not it labels one; empty for a method without votes
    votes: dict[tuple[Hashable, View, Voter], Vote] = field(default_factory=dict)
    voter: Voter | None = None  # whose votes are the labels
    num_missing_groups: int = 0  # groups that are trained on and whose voting group has no rollout


@dataclass(frozen=True)
class Step:
    """What a reward may look at. Axis N: the rows of whole groups, in any order; within a group the order decides ties.

    The trainer fills `ground_truths` and `statistics` only for the methods that say that they need them.
    """

    rollouts: Sequence[Rollout]
    same: Same  # the equivalence of answers
    min_agreement: float = 0.0  # see majority_vote
    ground_truths: Sequence[str | None] | None = None  # N, raw or boxed
    statistics: Sequence[float | None] | None = None  # N: the method's own statistic, mean over the response's tokens
    texts: Sequence[str] | None = None  # N: the responses
    lengths: Sequence[int] | None = None  # N: their tokens; None where text alone is known (co_rewarding.score)
    seed: int = 0  # other numbers in another step


def r(label: str | None, answer: str | None, same: Same) -> float:
    """1.0 if there are a label and an answer and they are the same, else 0.0."""
    return float(label is not None and answer is not None and same(label, answer))


def consensus_rewards(
    rollouts: Sequence[Rollout], method: Method | str, same: Same, min_agreement: float = 0.0
) -> Scores:
    """Rewards of a method in which a vote is the label.

    Args:
        rollouts: rows of whole groups, as in Step.
        method: one of co_rewarding.algo.methods, or its name.
        same: the equivalence of answers.
        min_agreement: see majority_vote.

    Raises:
        ValueError: the method takes no vote, or min_agreement is outside 0-1.
    """
    method = method_of_name(method) if isinstance(method, str) else method
    if method.voter is None:
        raise ValueError(f"method {method.name!r} takes no vote: use score_rollouts")
    answers_of_group: dict[tuple[Hashable, View, Voter], list[str | None]] = defaultdict(list)
    for rollout in rollouts:
        answers_of_group[rollout.question, rollout.view, rollout.voter].append(rollout.answer)
    votes = {group: majority_vote(answers_G, same, min_agreement) for group, answers_G in answers_of_group.items()}

    def vote_for(question: Hashable, view: View) -> Vote | None:
        source = view if method.label_view == "same" else other_view(view)
        return votes.get((question, source, method.voter))

    def label_for(question: Hashable, view: View) -> str | None:
        vote = vote_for(question, view)
        return vote.label if vote is not None else None

    trained = dict.fromkeys((row.question, row.view) for row in rollouts if row.voter == "student")
    labels = tuple(label_for(row.question, row.view) for row in rollouts)
    return Scores(
        labels=labels,
        rewards=trained_rows(rollouts, [r(a, row.answer, same) for a, row in zip(labels, rollouts, strict=True)]),
        label_of={group: label_for(*group) for group in trained},
        votes=votes,
        voter=method.voter,
        num_missing_groups=sum(vote_for(*group) is None for group in trained),
    )


def score_rollouts(method: Method | str, step: Step) -> Scores:
    """Rewards of all rows of a step under any method, in their order.

    Raises:
        ValueError: the method needs ground truths or statistics that the step does not have; see also the methods.
    """
    method = method_of_name(method) if isinstance(method, str) else method
    if not method.is_baseline:
        return consensus_rewards(step.rollouts, method, step.same, step.min_agreement)
    if method.needs_labels and step.ground_truths is None:
        raise ValueError(f"method {method.name!r} needs ground truths: give one a row")
    if method.needs_logits and step.statistics is None:
        raise ValueError(f"method {method.name!r} needs the policy's logits: text alone does not decide its reward")
    baseline = importlib.import_module(f"co_rewarding.algo.baselines.{method.name}")  # here: it imports this file
    return baseline.rewards(step)


def trained_rows(rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> tuple[float | None, ...]:
    """`rewards` with None for the rows that are never trained on."""
    return tuple(reward if row.voter == "student" else None for row, reward in zip(rollouts, rewards, strict=True))


def without_labels(rollouts: Sequence[Rollout], rewards: Sequence[float | None]) -> Scores:
    """The scores of a method that compares answers with nothing."""
    return Scores(labels=(None,) * len(rollouts), rewards=trained_rows(rollouts, rewards))


def truths(step: Step) -> tuple[str | None, ...]:
    """N, the ground truths of a supervised method, unboxed; None where a question has none."""
    return tuple(ground_truth_answer(truth) for truth in step.ground_truths or ())
