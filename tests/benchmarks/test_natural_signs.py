# SPDX-License-Identifier: Apache-2.0
"""benchmarks/natural/signs.py on runs written by hand."""

import pandas as pd
import pytest
from natural.signs import (
    SURE_FLIPS,
    Counts,
    Watched,
    count,
    first_steps,
    first_visits_table,
    held_out_steps,
    sure_flips,
    under_best,
)
from natural.summary import Runs

from co_rewarding.monitoring.alarms import Condition, Signal


def groups_of(rows):
    names = ("step", "question", "view", "majority", "agreement", "majority_right")
    return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


def test_sure_answers_that_changed():
    table = groups_of(
        [
            # a and b are sure, c is not, d has no answer
            (1, "a", "original", "7", 0.75, True), (1, "b", "original", "5", 1.0, False),
            (1, "c", "original", "3", 0.5, True), (1, "d", "original", None, 0.0, False),
            # a changes (unsure now), b stays, c changes, but was not sure; a's other wording comes for the first time
            (2, "a", "original", "8", 0.5, False), (2, "b", "original", "5", 0.75, False),
            (2, "c", "original", "4", 1.0, False), (2, "a", "rephrased", "7", 1.0, True),
            # a was not sure the last time; b and c change
            (3, "a", "original", "7", 1.0, True), (3, "b", "original", "6", 1.0, True),
            (3, "c", "original", None, 0.0, False),
        ]
    )  # fmt: skip
    shares = sure_flips(table).set_index("step")[SURE_FLIPS]
    assert dict(shares) == {2: 1 / 2, 3: 1.0}


def test_under_its_best():
    # 100 questions: at 25 all agree, at 50 four fewer: lost 0.04, standard deviation 0.197, error 0.0197: 2.03 errors;
    # at 75 three fewer: 0.03, error 0.0171: 1.75; at 100 the first 50 alone
    columns = {0: [1] * 90 + [0] * 10, 25: [1] * 100, 50: [1] * 96 + [0] * 4, 75: [1] * 97 + [0] * 3}
    shares = pd.DataFrame(columns | {100: [1] * 50 + [0] * 50}).astype(float)
    assert under_best(shares, 1.0) == [(25, 50), (25, 75), (25, 100)]
    assert under_best(shares, 2.0) == [(25, 50), (25, 100)]
    assert under_best(shares, 3.0) == [(25, 100)]


def test_held_out_answers():
    def validated(step, **said):
        return [
            {"step": step, "question": f"q{i}", "view": view, "how": "greedy", "answer": answer, "right": answer == "1"}
            for view, answers in said.items()
            for i, answer in enumerate(answers)
        ]

    same, other = ["1"] * 40, ["1"] * 20 + ["2"] * 20
    rows = pd.DataFrame({"step": range(1, 101), "reward/mean": [i / 100 for i in range(100)]})
    # both wordings agree at 0 and 25, on half of the questions from 50 on; the answers stay until 75
    verdicts = pd.DataFrame(
        [
            line
            for step, answers in {
                0: (same, same), 25: (same, same), 50: (same, other), 75: (other, same),
            }.items()
            for line in validated(step, original=answers[0], rephrased=answers[1])
        ]
    )  # fmt: skip
    found = held_out_steps(verdicts, rows)
    views = "held-out `views_agree` under its best"
    # stability is there from 25 on, 1 until 75, when it is a half
    assert found[f"{views} 2 SE"] == 50
    assert found["held-out `stability` under its best 2 SE"] == 75
    # of every third question half of those behind the 20th is wrong in one wording from 50 on
    assert found["accuracy on every third held-out question under its best (needs labels) 2 SE"] == 50
    assert found["held-out `views_agree` under its best, `reward/mean` up since 2 SE"] == 50
    falling = rows.assign(**{"reward/mean": 1 - rows["reward/mean"]})
    assert "held-out `views_agree` under its best, `reward/mean` up since 2 SE" not in held_out_steps(verdicts, falling)


def test_signs_are_those_of_the_project_s_monitor():
    # 0.1 at steps 2 to 6, then 0.9; means of five: (3 × 0.1 + 2 × 0.9) / 5 = 0.42 at step 8, 0.58 at step 9
    rows = pd.DataFrame({"step": range(1, 11), "collapse/label_flips": [None] + [0.1] * 5 + [0.9] * 4})
    signal = Signal("flips", "", "", (Condition("collapse/label_flips", at_least=0.5),))
    assert first_steps(rows, [signal]) == {"flips": 9}


def test_what_is_counted():
    accuracy = {0: 0.5, 25: 0.7, 50: 0.6, 75: 0.4}
    runs = [
        Watched("a", 1, 50, accuracy, {"x": 30}),  # in time, 20 ahead; going back to 25: 0.7 − 0.4
        Watched("a", 2, 50, accuracy, {"x": 50}),  # in time, 0 ahead; to 25
        Watched("a", 3, 50, accuracy, {"x": 60}),  # late; to 50: 0.2
        Watched("a", 4, 75, accuracy, {}),  # missed
        Watched("b", 1, None, accuracy, {"x": 10}),  # false; to 0: 0.1
        Watched("b", 2, None, accuracy, {}),
    ]
    found = count(runs, "x")
    assert found == Counts([20, 0], 1, 4, 1, 2, found.gains)
    assert found.gains[0] == pytest.approx([0.3, 0.3, 0.2]) and found.gains[1] == pytest.approx([0.1])
    assert found.worth == pytest.approx(2 / 4 - 1 / 2)


def test_first_visits():
    table = groups_of(
        [
            (1, "a", "original", "7", 1.0, False), (1, "b", "original", "7", 1.0, True),
            (1, "c", "original", "7", 0.25, False), (1, "d", "original", "7", 1.0, True),
            (1, "c", "rephrased", "7", 1.0, True), (9, "a", "original", "7", 1.0, False),
            (9, "b", "original", "8", 1.0, False), (9, "c", "original", "8", 0.5, True),
            (9, "c", "rephrased", "8", 1.0, False),
        ]
    )  # fmt: skip
    text = first_visits_table({"majority voting": Runs({}, {1: table}, {})})
    # a and b were sure: none learned, one of two corrupted; c was not and is learned; d was visited once
    assert [cell.strip() for cell in text.splitlines()[-1].split("|")[2:-1]] == ["100 / 0 (1)", "–", "–", "0 / 50 (2)"]
