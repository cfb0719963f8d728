# SPDX-License-Identifier: Apache-2.0
"""Metrics of a step's votes and rewards, named like paths.

All are shares between 0 and 1, except reward/mean for other rewards (self_certainty, entropy: nats; the payout
negative: -1 to 1). reward/accuracy exists only if rewards mean right or wrong: not for nats, and only for the payout
hard, even in a step in which each reward happens to be 0 or 1. Groups are (question, view) with at least one trained
row.

    label/share         groups with a label / groups
    label/withheld      groups whose label flipped too often and was withheld / these and the groups with a label
    label/missing       groups whose voting group has no rollout / groups
    label/agreement     mean agreement of the groups of the method's voter
    label/views_agree   questions whose two views voted the same / questions with a label in both views
    label/voters_agree  groups in which student and teacher voted the same / groups with a label of both; where the
                        teacher did not answer that view (one-direction III), its vote on the other one counts
    label/accuracy      labels that are the ground truth / labels of groups with a ground truth
    vote/accuracy/…     the same for the student's own votes and the teacher's, where there are both
    answer/share        responses with an answer / responses
    answer/unevaluated  answers that are computations, such as 58+23 / answers
    answer/accuracy     responses whose answer is the ground truth / responses with a ground truth
    reward/mean         mean reward
    reward/TERM/mean    of a weighted sum: mean reward of each term, without its weight
    reward/accuracy     responses rewarded as the ground truth would have / responses with a ground truth

answer/* covers the student's rows, those that only vote included, reward/* the trained ones; answer/share/teacher and
answer/accuracy/teacher cover the teacher's rows that were not stopped. label/agreement covers all voting rows; a
stopped one counts as without an answer, so it is then a lower bound. With two views, NAME/original and NAME/rephrased
cover one view each (label/agreement: the view that voted). label/* exists only for a method with labels.

A metric without data is absent: never 0, never NaN. Ground truths are only diagnostics here: rewards are given already
(co_rewarding.algo.rewards), and nothing here affects them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.algo.equivalence.reader import is_computation
from co_rewarding.algo.rewards import is_match
from co_rewarding.algo.rollouts import VIEWS, VOTERS, Rollout, Same, Scores, View, Voter, other_view


def group_metrics(
    rollouts: Sequence[Rollout], scores: Scores, ground_truths: Sequence[str | None] | None, same: Same
) -> dict[str, float]:
    """Metrics of one batch.

    Args:
        rollouts: N rows.
        scores: their labels and rewards.
        ground_truths: N entries, raw or boxed, None or empty if missing; None if there are none at all. same: the
        equivalence of answers.
    """
    truths_N = [ground_truth_answer(truth) for truth in ground_truths or [None] * len(rollouts)]
    rows = list(zip(rollouts, scores.rewards, truths_N, strict=True))
    truth_of = {(row.question, row.view): truth for row, _, truth in reversed(rows) if truth is not None}

    metrics = _metrics_of(rows, scores, truth_of, VIEWS, same)
    if {row.view for row in rollouts} == set(VIEWS):
        for view in VIEWS:
            of_view = _metrics_of([row for row in rows if row[0].view == view], scores, truth_of, (view,), same)
            metrics |= {f"{name}/{view}": value for name, value in of_view.items()}
    for term, rewards_N in scores.rewards_of_term.items():
        _put(metrics, f"reward/{term}/mean", [reward for reward in rewards_N if reward is not None])
    labels = {group: vote.pseudo_label for group, vote in scores.votes.items() if vote.pseudo_label is not None}
    _put(
        metrics,
        "label/views_agree",
        [
            same(label, labels[question, "rephrased", voter])
            for (question, view, voter), label in labels.items()
            if view == "original" and voter == scores.voter and (question, "rephrased", voter) in labels
        ],
    )
    _put(
        metrics,
        "label/voters_agree",
        [
            same(label, teachers)
            for (question, view, voter), label in labels.items()
            if voter == "student" and (teachers := _teachers_label(labels, question, view)) is not None
        ],
    )
    if {voter for _, _, voter in labels} == set(VOTERS):
        for voter in VOTERS:
            _put(
                metrics,
                f"vote/accuracy/{voter}",
                [
                    same(label, truth_of[question, view])
                    for (question, view, of), label in labels.items()
                    if of == voter and (question, view) in truth_of
                ],
            )
    teacher = [(row, truth) for row, _, truth in rows if row.voter == "teacher" and not row.stopped]
    _put(metrics, "answer/share/teacher", [row.answer is not None for row, _ in teacher])
    _put(metrics, "answer/accuracy/teacher", [is_match(t, row.answer, same) for row, t in teacher if t is not None])
    return metrics


def _metrics_of(
    rows: Sequence[tuple[Rollout, float | None, str | None]],
    scores: Scores,
    truth_of: dict,
    views: Sequence[str],
    same: Same,
) -> dict[str, float]:
    """The metrics that exist for each view and for both together."""
    metrics: dict[str, float] = {}
    labels = {group: label for group, label in scores.group_labels.items() if group[1] in views}
    _put(metrics, "label/share", [label is not None for label in labels.values()])
    if scores.withheld is not None:
        _put(
            metrics,
            "label/withheld",
            [
                group in scores.withheld
                for group, label in labels.items()
                if label is not None or group in scores.withheld
            ],
        )
    if scores.voter is not None and labels and len(views) == len(VIEWS):
        metrics["label/missing"] = scores.num_missing_groups / len(labels)
    _put(
        metrics,
        "label/agreement",
        [vote.agreement for (_, view, voter), vote in scores.votes.items() if voter == scores.voter and view in views],
    )
    _put(
        metrics,
        "label/accuracy",
        [same(label, truth_of[group]) for group, label in labels.items() if label is not None and group in truth_of],
    )
    student = [(row, reward, truth) for row, reward, truth in rows if row.voter == "student"]
    with_truth = [(row, reward, truth) for row, reward, truth in student if truth is not None]
    _put(metrics, "answer/share", [row.answer is not None for row, _, _ in student])
    _put(metrics, "answer/unevaluated", [is_computation(row.answer) for row, _, _ in student if row.answer is not None])
    _put(metrics, "answer/accuracy", [is_match(truth, row.answer, same) for row, _, truth in with_truth])
    _put(metrics, "reward/mean", [reward for _, reward, _ in student if reward is not None])
    if scores.payout == "hard" and all(reward in (0.0, 1.0, None) for _, reward, _ in student):
        _put(
            metrics,
            "reward/accuracy",
            [reward == is_match(truth, row.answer, same) for row, reward, truth in with_truth if row.trained],
        )
    return metrics


def _teachers_label(labels: dict[tuple[Hashable, View, Voter], str], question: Hashable, view: View) -> str | None:
    return labels.get((question, view, "teacher"), labels.get((question, other_view(view), "teacher")))


def _put(metrics: dict[str, float], name: str, values: Iterable[float | bool]) -> None:
    """Set metrics[name] to the mean, or leave it out if there is nothing to average."""
    values = list(values)
    if values:
        metrics[name] = sum(values) / len(values)
