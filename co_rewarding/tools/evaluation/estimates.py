# SPDX-License-Identifier: Apache-2.0
r"""Scores of n responses to each of P questions, with standard errors.

    avg@n  = mean over questions of (right responses / n)
    pass@k = mean over questions of 1 − C(n − c, k) / C(n, k), c of n responses right
             (the unbiased estimator of Chen et al., arXiv 2107.03374, Eq. 1; pass@1 = avg@n)
    maj@k  = mean over questions of the share of right majority answers among its ⌊n/k⌋ disjoint runs of k responses
             (the vote is co_rewarding.algo.voting's, ties and responses without an answer included)
    standard error = s / √P, s the standard deviation (P − 1 in the denominator) of the P values of one question each

Legend: P question, G response to a question.

The error covers the sampling of questions and responses: questions are independent, the n responses to one are not, so
they enter through their mean. It is the error of one model's score. The difference of two models on the same questions
has a smaller error than sqrt(error₁² + error₂²) if both find the same questions hard.

The standard error of one question is None; if all questions have the same score (0 % or 100 %) it is 0, which is not
certainty. pass@k and maj@k need k ≤ n and raise otherwise; a vote without any answer is wrong; no questions raise.

grade.py decides which responses are right.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from co_rewarding.algo.voting import majority_vote


@dataclass(frozen=True)
class Estimate:
    """A mean over questions."""

    value: float
    standard_error: float | None  # None: one question


def mean_of_questions(values_P: Sequence[float]) -> Estimate:
    """Mean and standard error of one value a question. Raises ValueError without any."""
    if not values_P:
        raise ValueError("no questions to average")
    error = statistics.stdev(values_P) / math.sqrt(len(values_P)) if len(values_P) > 1 else None
    return Estimate(statistics.fmean(values_P), error)


def avg_at_n(correct_P_G: Sequence[Sequence[bool]]) -> Estimate:
    """Mean share of right responses; questions count equally, with any number of responses."""
    return mean_of_questions([sum(correct_G) / len(correct_G) for correct_G in correct_P_G])


def pass_at_k(correct_P_G: Sequence[Sequence[bool]], k: int) -> Estimate:
    """Probability that at least one of k responses is right. Raises ValueError if a question has fewer than k."""
    _check_k(correct_P_G, k, "pass")
    return mean_of_questions(
        [1 - math.comb(len(correct_G) - sum(correct_G), k) / math.comb(len(correct_G), k) for correct_G in correct_P_G]
    )


def maj_at_k(
    answers_P_G: Sequence[Sequence[str | None]],
    correct_P_G: Sequence[Sequence[bool]],
    k: int,
    same: Callable[[str, str], bool],
) -> Estimate:
    """Probability that the majority answer of k responses is right.

    Args:
        answers_P_G: answers as written, None for a response without one.
        correct_P_G: verdicts of the same responses; a majority answer has the verdict of the response that wrote it.
        same: the equivalence of answers.

    Raises:
        ValueError: a question has fewer than k responses.
    """
    _check_k(correct_P_G, k, "maj")
    values_P = []
    for answers_G, correct_G in zip(answers_P_G, correct_P_G, strict=True):
        verdict_of = dict(zip(answers_G, correct_G, strict=True))
        labels = [majority_vote(answers_G[i : i + k], same).pseudo_label for i in range(0, len(answers_G) - k + 1, k)]
        values_P.append(sum(label is not None and verdict_of[label] for label in labels) / len(labels))
    return mean_of_questions(values_P)


def ks_up_to(n: int) -> list[int]:
    """The reported k for n responses: 1, 2, 4, … and n."""
    return sorted({2**i for i in range(n.bit_length())} | {n})


def _check_k(correct_P_G: Sequence[Sequence[bool]], k: int, name: str) -> None:
    fewest = min(map(len, correct_P_G), default=0)
    if not 1 <= k <= fewest:
        raise ValueError(f"{name}@{k}: k must be from 1 to the {fewest} responses that every question has")
