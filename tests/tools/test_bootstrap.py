# SPDX-License-Identifier: Apache-2.0
"""Intervals over (start, question): the formula by loops, the variance of balanced designs, coverage of made-up data.

Legend: S start, K key of a question.
"""

import math
from statistics import fmean, quantiles, stdev

import numpy as np
import pytest

from co_rewarding.tools.bootstrap import interval

# Two starts that share two of their questions: m = (2/3, 1/4)
A = {"s1": {"q1": 1.0, "q2": 0.0, "q3": 1.0}, "s2": {"q1": 0.5, "q2": 0.0, "q4": 0.5, "q5": 0.0}}


def reference(verdicts, num, seed):
    """The draws of `interval` by loops, over pairs of starts instead of squares of sums: of questions, of both."""
    starts = list(verdicts)
    keys = list(dict.fromkeys(k for s in starts for k in verdicts[s]))
    m = {s: fmean(verdicts[s].values()) for s in starts}
    value = fmean(m.values())
    part = {
        (s, k): (verdicts[s][k] - m[s]) / (len(starts) * len(verdicts[s])) if k in verdicts[s] else 0.0
        for s in starts
        for k in keys
    }
    total = {k: sum(part[s, k] for s in starts) for k in keys}
    covariance = fmean(  # of the means of two different starts
        sum(part[s, k] * part[t, k] for k in keys) * len(starts) ** 2 for s in starts for t in starts if s != t
    )
    shrink = math.sqrt(max(covariance, 0) / sum(c**2 for c in total.values()))
    rng = np.random.default_rng(seed)
    drawn_K, chi_K = rng.integers(len(keys), size=(num, len(keys)), dtype=np.uint32), rng.chisquare(len(keys) - 1, num)
    drawn_S, chi_S = rng.integers(len(starts), size=(num, len(starts)), dtype=np.uint32), rng.chisquare(1, num)
    total_K, m_S = sorted(total.values()), sorted(m.values())
    of_K = [sum(total_K[i] for i in drawn_K[r]) * math.sqrt(len(keys) / chi_K[r]) for r in range(num)]
    of_S = [sum((m_S[i] - value) / len(starts) for i in drawn_S[r]) for r in range(num)]
    both = [of_S[r] * math.sqrt(len(starts) / chi_S[r]) + shrink * of_K[r] for r in range(num)]
    return [value + x for x in of_K], [value + x for x in both]


def test_the_formula_by_loops():
    found = interval(A, num_resamples=999, seed=3, level=0.5)
    quarters = [quantiles(draws, n=4, method="inclusive") for draws in reference(A, 999, 3)]
    assert (found.value, found.num_starts, found.num_questions) == (pytest.approx((2 / 3 + 1 / 4) / 2), 2, 5)
    assert found.low == pytest.approx(min(low for low, _, _ in quarters), abs=1e-12)
    assert found.high == pytest.approx(max(high for _, _, high in quarters), abs=1e-12)


def test_the_order_of_starts_and_questions_changes_nothing():
    turned = {start: dict(reversed(A[start].items())) for start in reversed(A)}
    found, other = interval(A), interval(turned)
    assert (found.low, found.high) == (pytest.approx(other.low, abs=1e-12), pytest.approx(other.high, abs=1e-12))


def test_starts_that_are_alike_by_chance_leave_the_interval_of_their_questions():
    # 1/2 both: nothing between them, but 4 of 8 are right: as of one start with these questions
    alike = {"s1": {i: float(i < 2) for i in range(4)}, "s2": {i: float(i < 6) for i in range(4, 8)}}
    found, alone = interval(alike), interval({"s": {i: float(i % 2) for i in range(8)}})
    assert (found.low, found.high) == (pytest.approx(alone.low, abs=0.02), pytest.approx(alone.high, abs=0.02))


def test_a_difference_is_paired():
    # b is wrong on one question more in each start: −1 on 1 of 3 and −1/2 on 1 of 4: (1/3 + 1/8) / 2
    b = {"s1": A["s1"] | {"q3": 0.0}, "s2": dict(reversed((A["s2"] | {"q4": 0.0}).items()))}
    assert interval(A, b).value == pytest.approx((1 / 3 + 1 / 8) / 2)
    assert interval(A, A) == interval(A, A, seed=1)  # nothing differs
    assert (interval(A, A).low, interval(A, A).high, interval(A, A).excludes_zero) == (0, 0, False)
    assert interval(A, b) == interval(A, b)


def crossed(rng, num_starts, num_keys, *, of_start, of_question, noise):
    value_S, value_K = of_start * rng.standard_normal(num_starts), of_question * rng.standard_normal(num_keys)
    return {
        s: {k: value_S[s] + value_K[k] + noise * rng.standard_normal() for k in range(num_keys)}
        for s in range(num_starts)
    }


def nested(verdicts):
    """The same numbers, every question of a start its own."""
    return {s: {(s, k): value for k, value in of.items()} for s, of in verdicts.items()}


def in_range(verdicts):
    """Shares from 0 to 1: the interval moves and scales with them."""
    return {s: {k: 0.5 + value / 20 for k, value in of.items()} for s, of in verdicts.items()}


def half_width(verdicts):
    found = interval(in_range(verdicts))
    return 20 * (found.high - found.low) / 2


def test_balanced_designs_against_the_analysis_of_variance():
    verdicts = crossed(np.random.default_rng(0), 30, 40, of_start=0.5, of_question=1.0, noise=0.5)
    x_S_K = np.array([list(of.values()) for of in verdicts.values()])
    m_S, m_K = x_S_K.mean(axis=1), x_S_K.mean(axis=0)
    # Nested: the starts' means are independent and hold everything: t(29) = 2.045 standard errors of their mean.
    assert half_width(nested(verdicts)) == pytest.approx(2.045 * stdev(m_S) / math.sqrt(30), rel=0.03)
    # Crossed: + the variance of a question, (mean square of questions − of the rest) / 30, over 40 questions
    # (t(39) = 2.023; of two parts the percentile lies between).
    rest = x_S_K - m_S[:, None] - m_K + x_S_K.mean()
    mean_square = (rest**2).sum() / (29 * 39)
    of_question = (30 * m_K.var(ddof=1) - mean_square) / 30
    error = math.sqrt(m_S.var(ddof=1) / 30 + of_question / 40)
    assert half_width(verdicts) == pytest.approx(2.03 * error, rel=0.03)
    # One start: its questions alone.
    alone = {0: verdicts[0]}
    assert half_width(alone) == pytest.approx(2.023 * stdev(verdicts[0].values()) / math.sqrt(40), rel=0.03)


@pytest.mark.parametrize("keys", [dict, nested])
def test_five_starts_are_covered(keys):
    """0 is in 95 % of the intervals: 600 data sets, ± 4 standard errors of 0.89 %."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(600):
        verdicts = keys(crossed(rng, 5, 30, of_start=0.3, of_question=0.5, noise=1.0))
        found = interval(in_range(verdicts), num_resamples=1000)
        hits += found.low <= 0.5 <= found.high
    assert 0.914 <= hits / 600 <= 0.99


def test_nothing_is_known_of_one_question():
    one = {"s": {"q": 1.0}}
    assert (interval(one).low, interval(one).high) == (0, 1)
    assert (interval(one, one).low, interval(one, one).high) == (-1, 1)
    two = {"s": {"q": 1.0}, "t": {"q": 1.0}}
    assert (interval(two).low, interval(two).high) == (1, 1)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (A, {"s1": A["s1"]}, "different starts"),
        (A, A | {"s2": {"q1": 1.0}}, "3 of start s2 are only in one"),
        ({}, None, "without a start"),
        ({"s": {}}, None, "without questions"),
        ({"s": {"q": math.nan}}, None, "from 0 to 1"),
        ({"s": {"q": 1.5}}, None, "from 0 to 1"),
    ],
)
def test_what_has_no_interval_is_refused_in_a_line(a, b, message):
    with pytest.raises(ValueError, match=message) as error:
        interval(a, b)
    assert "\n" not in str(error.value)
