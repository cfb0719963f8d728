#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Coverage of the 95 % interval of a paired difference (co_rewarding/tools/bootstrap.py).

Made-up data: two methods answer the questions of each start once. The chance that the first is right is 0.6 with normal
differences between starts, between questions and between pairs of both, cut at 0 and 1; of the second 0.5 everywhere.
So the true difference is known, the mean of the cut normal − 0.5. For comparison: the plain percentile bootstrap of
the same data: whole starts drawn again, and of each the questions (of all starts alike where they are shared).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from co_rewarding.tools.bootstrap import interval


@dataclass(frozen=True)
class Design:
    num_starts: int
    num_questions: int  # of a start
    shared: bool  # every start has the same questions
    of_start: float  # standard deviations of the chance to be right
    of_question: float
    of_pair: float

    def differences(self, rng: np.random.Generator) -> np.ndarray:
        """−1, 0 or 1, of (start, question)."""
        shape = (self.num_starts, self.num_questions)
        of_question = rng.standard_normal((1, self.num_questions) if self.shared else shape)
        chance = 0.6 + self.of_start * rng.standard_normal((self.num_starts, 1)) + self.of_question * of_question
        chance = np.clip(chance + self.of_pair * rng.standard_normal(shape), 0, 1)
        return (rng.random(shape) < chance).astype(int) - (rng.random(shape) < 0.5)

    def truth(self) -> float:
        """E[min(max(X, 0), 1)] − 0.5 of X normal: x Φ(x/s) + s φ(x/s) is the mean of max(X, 0)."""
        deviation = math.hypot(self.of_start, self.of_question, self.of_pair)
        above_0, above_1 = (
            x * NormalDist().cdf(x / deviation) + deviation * NormalDist().pdf(x / deviation) for x in (0.6, -0.4)
        )
        return above_0 - above_1 - 0.5


DESIGNS = [
    Design(5, 250, True, 0.2, 0.1, 0.1),
    Design(5, 250, False, 0.2, 0.1, 0.1),
    Design(5, 250, True, 0.06, 0.1, 0.1),
    Design(5, 250, False, 0.06, 0.1, 0.1),
    Design(5, 250, True, 0.0, 0.2, 0.0),
    Design(5, 250, True, 0.0, 0.0, 0.1),
    Design(5, 250, False, 0.0, 0.0, 0.1),
    Design(3, 250, True, 0.06, 0.1, 0.1),
    Design(2, 250, True, 0.06, 0.1, 0.1),
    Design(1, 250, True, 0.0, 0.1, 0.1),
    Design(1, 30, True, 0.0, 0.1, 0.1),
]


def counts(n: int, num: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n is drawn in n draws, (num, n)."""
    drawn = rng.integers(n, size=(num, n)) + n * np.arange(num)[:, None]
    return np.bincount(drawn.ravel(), minlength=num * n).reshape(num, n)


def plain_percentiles(d_S_Q: np.ndarray, shared: bool, num: int, rng: np.random.Generator) -> np.ndarray:
    num_starts, num_questions = d_S_Q.shape
    if shared:
        means = counts(num_questions, num, rng) @ d_S_Q.T
    else:
        means = np.stack([counts(num_questions, num, rng) @ d_Q for d_Q in d_S_Q], axis=1)
    draws = (counts(num_starts, num, rng) * means).sum(axis=1) / (num_starts * num_questions)
    return np.quantile(draws, [0.025, 0.975])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_sets", type=int, default=2000, help="of each design (default: %(default)s)")
    parser.add_argument("--num_resamples", type=int, default=2000, help="default: %(default)s")
    args = parser.parse_args()
    print(
        f"share of {args.data_sets:,} data sets (standard error of 95 %: {math.sqrt(0.05 * 0.95 / args.data_sets):.1%})"
    )
    print("| starts × questions | deviation of start, question, pair | interval | mean width | plain | mean width |")
    print("|---|---|---|---|---|---|")
    for design in DESIGNS:
        rng, truth = np.random.default_rng(1), design.truth()
        found = []
        for i in range(args.data_sets):
            d_S_Q = design.differences(rng)
            a, b = (
                {
                    s: {q if design.shared else (s, q): float(value) for q, value in enumerate(d_Q)}
                    for s, d_Q in enumerate(shares)
                }
                for shares in (d_S_Q > 0, d_S_Q < 0)
            )
            ours = interval(a, b, num_resamples=args.num_resamples, seed=i)
            found.append([(ours.low, ours.high), plain_percentiles(d_S_Q, design.shared, args.num_resamples, rng)])
        low, high = np.moveaxis(np.array(found), 2, 0)  # each (data set, 2 intervals)
        covered, widths = ((low <= truth) & (truth <= high)).mean(axis=0), (high - low).mean(axis=0)
        size = f"{design.num_starts} × {design.num_questions} {'shared' if design.shared else 'own'}"
        deviations = f"{design.of_start}, {design.of_question}, {design.of_pair}"
        print(
            f"| {size} | {deviations} | {covered[0]:.1%} | {widths[0]:.3f} | {covered[1]:.1%} | {widths[1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
