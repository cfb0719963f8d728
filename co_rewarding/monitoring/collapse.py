# SPDX-License-Identifier: Apache-2.0
r"""Signs of collapse in one step's rollouts, for every method alike.

A policy that is rewarded for agreeing with itself can learn to agree without being right: one answer for every
question, shorter and shorter responses, or the same words again and again. None of these numbers needs a label.

    collapse/agreement              mean over groups of: votes of the majority answer / rollouts of the group
    collapse/answer_concentration   questions with the most common majority answer / questions with a majority answer
    collapse/answer_entropy         −Σ_a q_a log q_a; q_a = share of these questions whose majority answer is a; nats
    collapse/length                 mean tokens of a response
    collapse/length_limit           responses as long as the limit / responses
    collapse/repetition             mean over responses of: 1 − different n-grams / n-grams of their tokens, n = 4
    collapse/label_flips            groups whose label is not that of their last visit / groups with a label both times

All student rows count, those that only vote included. The majority answer is always the student's own, so that methods
can be compared; a question with two views counts once, by the original. label_flips uses the labels of a voting method,
and the student's majority answers otherwise. A metric without data is absent: never 0, never NaN. How to read them:
- questions that share their answer (multiple choice, small sums) have a concentration above 0 and an entropy below
log(questions) from the start, so only changes count (co_rewarding.monitoring.alarms);
- for repetition the last MAX_TOKENS tokens count, because loops are at the end; a response of fewer than 4 has no
  n-gram and is left out. Time is bounded;
- answers of different questions are compared by spelling and exact number, not by algebra: one pass over the questions.

See also label/voters_agree in monitoring.metrics; verl logs entropy, KL and engine gap. co_rewarding.monitoring.alarms
interprets all of these.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from co_rewarding.algo.answers import TextAnswer
from co_rewarding.algo.equivalence.reader import read
from co_rewarding.algo.equivalence.text import text_key
from co_rewarding.algo.equivalence.values import number
from co_rewarding.algo.rollouts import VIEWS, Rollout, Same, Scores, View
from co_rewarding.algo.voting import Vote, majority_vote

NGRAM = 4
MAX_TOKENS = 1024
"""Tokens at a response's end checked for repetition; NGRAM token ids below it fit into 63 bits."""

Group = tuple[Hashable, View]


class LabelHistory:
    """The last label of every (question, view), or other pair of names; part of the checkpoint."""

    def __init__(self) -> None:
        self._labels: dict[tuple[Hashable, str], str] = {}

    def flips(self, labels: Mapping[tuple[Hashable, str], str | None], same: Same) -> tuple[int, int]:
        """Record this step's labels; unlabelled visits are ignored.

        Returns:
            (groups whose label changed, groups with a label before and now).
        """
        now = {group: label for group, label in labels.items() if label is not None}
        comparable = [group for group in now if group in self._labels]
        changed = sum(not same(self._labels[group], now[group]) for group in comparable)
        self._labels |= now
        return changed, len(comparable)

    def state_dict(self) -> list[list[str]]:
        """Rows of question, view, label, for JSON. Questions come back as strings."""
        return [[str(question), view, label] for (question, view), label in self._labels.items()]

    def load_state_dict(self, state: Sequence[Sequence[str]]) -> None:
        self._labels = {(question, view): label for question, view, label in state}


def collapse_metrics(
    rollouts: Sequence[Rollout],
    scores: Scores,
    tokens: Sequence[np.ndarray],
    max_length: int,
    same: Same,
    history: LabelHistory,
) -> dict[str, float]:
    """The signs of one step.

    Args:
        rollouts: N rows, the teacher's among them or not.
        scores: of these rows.
        tokens: N responses, of T token ids each.
        max_length: tokens at which a response is cut off.
        same: the equivalence of answers inside a group.
        history: records this step's labels.
    """
    student = [(row, tokens_T) for row, tokens_T in zip(rollouts, tokens, strict=True) if row.voter == "student"]
    lengths = [len(tokens_T) for _, tokens_T in student]
    votes = student_votes([row for row, _ in student], scores, same)
    majority = {group: vote.pseudo_label for group, vote in votes.items()}
    metrics = answer_spread(_one_per_question(majority))
    _put_mean(metrics, "collapse/agreement", [vote.agreement for vote in votes.values()])
    _put_mean(metrics, "collapse/length", lengths)
    _put_mean(metrics, "collapse/length_limit", [length >= max_length for length in lengths])
    shares = repetition([tokens_T for _, tokens_T in student])
    _put_mean(metrics, "collapse/repetition", [share for share in shares if share is not None])
    labels = scores.group_labels | (scores.withheld or {})  # a withheld label is not therefore stable
    changed, comparable = history.flips(labels if scores.voter is not None else majority, same)
    if comparable:
        metrics["collapse/label_flips"] = changed / comparable
    return metrics


def student_votes(rollouts: Sequence[Rollout], scores: Scores, same: Same) -> dict[Group, Vote]:
    """The student's own vote in every group; computed here if the method has none.

    The label of a vote below the method's `min_agreement` is None, as in the method.
    """
    answers_of_group: dict[Group, list[str | None]] = defaultdict(list)
    for row in rollouts:
        answers_of_group[row.question, row.view].append(row.answer)
    return {
        group: scores.votes.get((*group, "student")) or majority_vote(answers_G, same)
        for group, answers_G in answers_of_group.items()
    }


def answer_spread(answers_P: Sequence[str]) -> dict[str, float]:
    """Concentration and entropy of the majority answers of P questions; nothing for fewer than two questions."""
    if len(answers_P) < 2:
        return {}
    counts = Counter(_spelling(answer) for answer in answers_P).values()
    shares = [count / len(answers_P) for count in counts]
    return {
        "collapse/answer_concentration": max(shares),
        "collapse/answer_entropy": sum(-share * math.log(share) for share in shares),
    }


def repetition(tokens: Sequence[np.ndarray]) -> list[float | None]:
    """1 − different n-grams / n-grams at the end of each response: 0 without repeats, near 1 in a loop.

    None for a response that is too short.

    Args:
        tokens: N responses, of T whole numbers from 0 each.
    """
    ends = [tokens_T[-MAX_TOKENS:] for tokens_T in tokens]
    place_of = np.empty(1 + max((int(end_T.max()) for end_T in ends if len(end_T)), default=0), dtype=np.int64)
    shares: list[float | None] = []
    for end_T in ends:
        num_ngrams = len(end_T) - NGRAM + 1
        if num_ngrams < 1:
            shares.append(None)
            continue
        place_of[end_T] = np.arange(len(end_T))
        places_T = place_of[end_T]  # maps each token to a number below MAX_TOKENS
        ngrams = np.zeros(num_ngrams, dtype=np.int64)
        for i in range(NGRAM):
            ngrams = ngrams * MAX_TOKENS + places_T[i : i + num_ngrams]
        ngrams.sort()
        num_different = 1 + int(np.count_nonzero(ngrams[1:] != ngrams[:-1]))
        shares.append(1 - num_different / num_ngrams)
    return shares


def _one_per_question(labels: Mapping[Group, str | None]) -> list[str]:
    chosen: dict[Hashable, str] = {}
    for wanted in VIEWS:  # the original first
        for (question, view), label in labels.items():
            if view == wanted and label is not None:
                chosen.setdefault(question, label)
    return list(chosen.values())


def _spelling(answer: str) -> Hashable:
    if isinstance(answer, TextAnswer):
        return text_key(answer)
    value = read(answer)
    exact = number(value)
    return value.text if exact is None else exact


def _put_mean(metrics: dict[str, float], name: str, values: Sequence[float]) -> None:
    if values:
        metrics[name] = sum(values) / len(values)
