# SPDX-License-Identifier: Apache-2.0
"""avg@n, pass@k, maj@k and their standard errors on numbers that can be checked by hand."""

from itertools import combinations

import pytest

from co_rewarding.tools.evaluation.estimates import avg_at_n, ks_up_to, maj_at_k, mean_of_questions, pass_at_k

T, F = True, False


def same(a: str, b: str) -> bool:
    return a == b


def test_standard_error_is_over_questions() -> None:
    # values 1, 0, 1, 1: mean 3/4, s² = (3 · 1/16 + 9/16) / 3 = 1/4, s/√4 = 1/4
    estimate = mean_of_questions([1, 0, 1, 1])
    assert estimate.value == 0.75
    assert estimate.standard_error == pytest.approx(0.25)


def test_one_question_has_no_spread_and_none_is_an_error() -> None:
    assert mean_of_questions([1.0]).standard_error is None
    with pytest.raises(ValueError, match="no question"):
        mean_of_questions([])


def test_avg_at_n_counts_questions_alike() -> None:
    # 1/4 and 2/2: mean 5/8, whatever the numbers of responses; s = |3/4| / √2, s/√2 = 3/8
    estimate = avg_at_n([[T, F, F, F], [T, T]])
    assert estimate.value == 0.625
    assert estimate.standard_error == pytest.approx(0.375)


def test_pass_at_k_by_hand() -> None:
    # c = 1 of 4: 1/4, 1 − C(3,2)/C(4,2) = 1/2, 1; c = 3 of 4: 3/4, 1, 1
    correct = [[F, T, F, F], [T, T, F, T]]
    assert [pass_at_k(correct, k).value for k in (1, 2, 4)] == [0.5, 0.75, 1.0]
    assert pass_at_k(correct, 1) == avg_at_n(correct)


def test_pass_at_k_is_the_mean_over_all_choices_of_k_responses() -> None:
    correct = [T, F, F, T, F, F, F]
    for k in range(1, 8):
        tried = [any(chosen) for chosen in combinations(correct, k)]
        assert pass_at_k([correct], k).value == pytest.approx(sum(tried) / len(tried))


def test_maj_at_k_by_hand() -> None:
    # right is 7. Four votes: 7 has two, 8 and 9 one each: right. In pairs: (7, 8) is a tie, the first wins, right;
    # (9, 7) a tie, 9 wins, wrong: 1/2
    answers, correct = [["7", "8", "9", "7"]], [[T, F, F, T]]
    assert maj_at_k(answers, correct, 4, same).value == 1.0
    assert maj_at_k(answers, correct, 2, same).value == 0.5
    # runs of 3: one whole run, (7, 8, 9), a tie that 7 wins
    assert maj_at_k(answers, correct, 3, same).value == 1.0


def test_maj_at_k_of_responses_without_answers() -> None:
    # one lone answer carries the vote; no answer at all is wrong
    assert maj_at_k([[None, "7"], [None, None]], [[F, T], [F, F]], 2, same).value == 0.5


def test_maj_at_k_votes_over_equivalence_classes() -> None:
    # 1/2 and 0.5 are one class with two votes, against two votes for 3 that came later: a tie the class wins
    answers, correct = [["1/2", "3", "0.5", "3"]], [[T, F, T, F]]
    value = {"1/2": 0.5, "0.5": 0.5, "3": 3.0}
    assert maj_at_k(answers, correct, 4, lambda a, b: value[a] == value[b]).value == 1.0
    assert maj_at_k(answers, correct, 4, same).value == 0.0  # as strings 3 has two votes and 1/2 one


def test_k_beyond_the_fewest_responses_is_refused() -> None:
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"pass@{k}: k must be from 1 to the 2"):
            pass_at_k([[T, F, F], [T, F]], k)
    with pytest.raises(ValueError, match="maj@2"):
        maj_at_k([["1"]], [[T]], 2, same)


def test_reported_ks() -> None:
    assert [ks_up_to(n) for n in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
