# SPDX-License-Identifier: Apache-2.0
"""Rewards of whole groups (arXiv 2508.00410, Eq. 6-11 and Appendix C.1; METHODS.md "Baselines").

    r(a, y) = 1 if ans(y) is the same answer as the label a, else 0
    label of (question, view) = majority vote of (question, view or the other view, voter)

The two switches of a consensus method are co_rewarding.methods': student/same is Majority-Voting, student/other
Co-rewarding-I, teacher/same II, teacher/other III. Views and voters are tags on the rows of one batch, in any order.

Degenerate cases:
- a group without a label, because nobody answered or too few agreed: every reward is 0, and `labels` says None;
- no rollout at all in the group that should vote (all of them failed): no label either, counted in num_missing_groups;
- a response without an answer earns 0 under every method but `random`;
- a teacher's row is never trained on: its reward is None.

A consensus method cannot read a ground truth: neither Rollout nor consensus_rewards has a place for one.

Deliberately absent: advantages, which are the host's, and rewards from logits (self_certainty, entropy).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from co_rewarding.answers import ground_truth_answer
from co_rewarding.methods import VIEWS, VOTERS, Method, View, Voter
from co_rewarding.methods import method as method_of_name
from co_rewarding.voting import Vote, majority_vote

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
    rewards: tuple[float | None, ...]  # N: 0.0 or 1.0; None for a row that is never trained on
    # the label of each group that is trained on; empty for a method without labels
    label_of: dict[tuple[Hashable, View], str | None] = field(default_factory=dict)
    # the vote of every group that there is, whether or not it labels one; empty for a method without votes
    votes: dict[tuple[Hashable, View, Voter], Vote] = field(default_factory=dict)
    voter: Voter | None = None  # whose votes are the labels
    num_missing_groups: int = 0  # groups that are trained on and whose voting group has no rollout


def r(label: str | None, answer: str | None, same: Same) -> float:
    """1.0 if there are a label and an answer and they are the same, else 0.0."""
    return float(label is not None and answer is not None and same(label, answer))


def consensus_rewards(
    rollouts: Sequence[Rollout], method: Method | str, same: Same, min_agreement: float = 0.0
) -> Scores:
    """Rewards of a method in which a vote is the label.

    Args:
        rollouts: rows of whole groups, in any order; within a group the order decides ties.
        method: one of co_rewarding.methods, or its name.
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
        source = view if method.label_view == "same" else _other(view)
        return votes.get((question, source, method.voter))

    def label_for(question: Hashable, view: View) -> str | None:
        vote = vote_for(question, view)
        return vote.label if vote is not None else None

    trained = dict.fromkeys((row.question, row.view) for row in rollouts if row.voter == "student")
    labels = tuple(label_for(row.question, row.view) for row in rollouts)
    return Scores(
        labels=labels,
        rewards=_student_rewards(rollouts, [r(a, row.answer, same) for a, row in zip(labels, rollouts, strict=True)]),
        label_of={group: label_for(*group) for group in trained},
        votes=votes,
        voter=method.voter,
        num_missing_groups=sum(vote_for(*group) is None for group in trained),
    )


def ground_truth_rewards(rollouts: Sequence[Rollout], ground_truths: Sequence[str | None], same: Same) -> Scores:
    """GT-Reward: r(ground truth, y). ground_truths has one entry a row, raw or boxed.

    Raises:
        ValueError: a row that is trained on has no ground truth.
    """
    truths = _required_truths(rollouts, ground_truths)
    return Scores(
        labels=truths,
        rewards=_student_rewards(rollouts, [r(a, row.answer, same) for a, row in zip(truths, rollouts, strict=True)]),
        label_of={
            (row.question, row.view): truth
            for truth, row in zip(truths, rollouts, strict=True)
            if row.voter == "student"
        },
    )


def incorrect_rewards(rollouts: Sequence[Rollout], ground_truths: Sequence[str | None], same: Same) -> Scores:
    """Control: 1 for an answer that is not the ground truth, 0 for the ground truth and for no answer.

    Raises:
        ValueError: a row that is trained on has no ground truth.
    """
    truths = _required_truths(rollouts, ground_truths)
    return _unlabelled(
        rollouts,
        [
            float(row.answer is not None and r(truth, row.answer, same) == 0.0)
            for truth, row in zip(truths, rollouts, strict=True)
        ],
    )


def format_only_rewards(rollouts: Sequence[Rollout]) -> Scores:
    """Control: 1 for any answer, 0 for none."""
    return _unlabelled(rollouts, [float(row.answer is not None) for row in rollouts])


def random_rewards(rollouts: Sequence[Rollout], seed: int = 0) -> Scores:
    """Control: a fair coin a row, decided by the seed, the row's group and its place in the group.

    It depends neither on the response nor on how groups are mixed in the batch. A question that comes again gets
    the same coins again unless its key holds the step.
    """
    place_in_group: Counter[tuple[Hashable, View, Voter]] = Counter()
    coins = []
    for row in rollouts:
        group = (row.question, row.view, row.voter)
        key = repr((seed, row.question, row.view, place_in_group[group])).encode(errors="backslashreplace")
        coins.append(float(hashlib.blake2b(key, digest_size=1).digest()[0] & 1))
        place_in_group[group] += 1
    return _unlabelled(rollouts, coins)


def score_rollouts(
    rollouts: Sequence[Rollout],
    method: Method | str,
    same: Same,
    *,
    min_agreement: float = 0.0,
    ground_truths: Sequence[str | None] | None = None,
    seed: int = 0,
) -> Scores:
    """Rewards under any method that text alone decides. ground_truths is handed on only to methods that need it.

    Raises:
        ValueError: the method needs logits, or ground truths that are not there; see also the single methods.
    """
    method = method_of_name(method) if isinstance(method, str) else method
    if method.is_consensus:
        return consensus_rewards(rollouts, method, same, min_agreement)
    if method.needs_labels and ground_truths is None:
        raise ValueError(f"method {method.name!r} needs ground truths: give one a row")
    match method.name:
        case "ground_truth":
            return ground_truth_rewards(rollouts, ground_truths, same)
        case "incorrect":
            return incorrect_rewards(rollouts, ground_truths, same)
        case "format_only":
            return format_only_rewards(rollouts)
        case "random":
            return random_rewards(rollouts, seed)
    raise ValueError(f"method {method.name!r} needs the policy's logits: text alone does not decide its reward")


def _other(view: View) -> Literal["original", "rephrased"]:
    return "rephrased" if view == "original" else "original"


def _student_rewards(rollouts: Sequence[Rollout], rewards: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(reward if row.voter == "student" else None for row, reward in zip(rollouts, rewards, strict=True))


def _unlabelled(rollouts: Sequence[Rollout], rewards: Sequence[float]) -> Scores:
    return Scores(labels=(None,) * len(rollouts), rewards=_student_rewards(rollouts, rewards))


def _required_truths(rollouts: Sequence[Rollout], ground_truths: Sequence[str | None]) -> tuple[str | None, ...]:
    truths = tuple(ground_truth_answer(truth) for truth in ground_truths)
    for truth, row in zip(truths, rollouts, strict=True):
        if truth is None and row.voter == "student":
            raise ValueError(
                f"question {row.question!r} ({row.view}) has no ground truth: this method's reward needs one a question"
            )
    return truths
