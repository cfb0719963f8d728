# SPDX-License-Identifier: Apache-2.0
"""benchmarks/illusion.py on made-up runs: what its lines say follows from the tables, and the picture has all arms."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import illusion
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from co_rewarding.tools.report.figures import COLOURS, METHODS_IN_ORDER

QUESTIONS = range(20)
# arm → step → the first right question and the first wrong one after it
COURSES = {
    "majority voting": {0: (0, 4), 50: (0, 14), 200: (2, 10)},
    "II": {0: (0, 4), 50: (0, 10), 200: (0, 12)},
    "ground truth": {0: (0, 4), 50: (0, 16), 200: (0, 18)},
}


def write(folder: Path, courses: Mapping[str, Mapping[int, tuple[int, int]]], start: int = 1) -> Path:
    """Runs as benchmarks/natural_errors.py leaves them: the reward is 0.5 up to step 50 and 0.9 afterwards."""
    for arm, course in courses.items():
        where = folder / f"start{start}" / arm
        where.mkdir(parents=True)
        verdicts = [
            {"step": step, "question": f"q{i}", "view": view, "how": "greedy", "right": first <= i < end}
            for step, (first, end) in course.items()
            for view in ("original", "rephrased")
            for i in QUESTIONS
        ]
        steps = range(1, max(course) + 1)
        metrics = [{"step": step, "reward/mean": 0.5 if step <= 50 else 0.9} for step in steps]
        pd.DataFrame(verdicts).to_parquet(where / "verdicts.parquet")
        pd.DataFrame(metrics).to_parquet(where / "metrics.parquet")
        pd.DataFrame({"step": steps}).to_parquet(where / "groups.parquet")
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["illusion.py", *map(str, arguments)])
    illusion.main()


def test_the_lines_say_what_is_in_the_tables(tmp_path, monkeypatch, capsys) -> None:
    folder, figure = write(tmp_path / "hard", COURSES), tmp_path / "new/illusion.png"
    call(monkeypatch, folder, "--figure", figure)
    voting, teacher, truth, caveat, last = capsys.readouterr().out.splitlines()
    # right: 4, 14 and 8 of 20; 8/20 − 14/20; rewards: means of steps 26 to 50 and 176 to 200
    assert re.fullmatch(
        r"Majority voting: accuracy 20 → 70 → 40 % \(steps 0, 50, 200\)\. After step 50 it fell "
        r"\(−30\.0 \[−[\d.]+, −[\d.]+\] points\); its reward went from 50 to 90 %\.",
        voting,
    )
    # 10/20 to 12/20: two questions, which (18/20)^20 = 12 % of the draws of 20 miss, so 0 is in the interval; at the
    # end 8 are right in both arms, q0, q1, q10, q11 in this one alone; q0 and q1 were right at first: 2/20 corrupted
    assert re.fullmatch(
        r"Co-rewarding-II: accuracy 20 → 50 → 60 % .*it neither rose nor fell for certain \(\+10\.0 \[.*\] points\); "
        r"in the end \+20\.0 \[.*\] points against majority voting\. 0\.0 % of the questions went from right to wrong, "
        r"there 10\.0 %\.",
        teacher,
    )
    assert re.match(r"True answers: accuracy 20 → 80 → 90 % .*In the end \+30\.0 \[.*\] points against", truth)
    assert caveat.startswith("Accuracy: 95 % intervals over 20 questions of one start, and of no other. ")
    assert last == f"picture: {figure}"


def test_both_panels_show_every_arm_in_its_methods_colour(tmp_path, monkeypatch) -> None:
    # rewards differ, or the last line would hide the others
    folder, figure = write(tmp_path, COURSES), tmp_path / "a.png"
    for i, arm in enumerate(COURSES):
        path = folder / "start1" / arm / "metrics.parquet"
        pd.read_parquet(path).assign(**{"reward/mean": 0.2 + 0.3 * i}).to_parquet(path)
    call(monkeypatch, folder, "--figure", figure)
    pixels = plt.imread(figure)[..., :3]
    drawn = pixels[int(0.21 * pixels.shape[0]) :]  # without the legend and the titles
    for half in (drawn[:, : drawn.shape[1] // 2], drawn[:, drawn.shape[1] // 2 :]):
        for method in ("majority_voting", "co_rewarding_II", "ground_truth"):
            colour = to_rgb(COLOURS[METHODS_IN_ORDER.index(method)])
            assert (abs(half - colour).max(-1) < 0.01).sum() > 200, method
    assert figure.stat().st_size < 200_000
    before = figure.read_bytes()
    call(monkeypatch, folder, "--figure", figure)
    assert figure.read_bytes() == before


def test_a_fall_is_not_claimed_where_there_is_none(tmp_path, monkeypatch, capsys) -> None:
    flat = {**COURSES, "majority voting": {0: (0, 4), 50: (0, 14), 200: (0, 14)}}
    call(monkeypatch, write(tmp_path, flat), "--figure", tmp_path / "a.png")
    assert "After step 50 it neither rose nor fell for certain (+0.0" in capsys.readouterr().out.splitlines()[0]


def test_a_short_run_is_compared_with_its_start_alone(tmp_path, monkeypatch, capsys) -> None:
    short = {arm: {0: course[0], 4: course[200]} for arm, course in COURSES.items()}
    call(monkeypatch, write(tmp_path, short), "--figure", tmp_path / "a.png")
    assert capsys.readouterr().out.startswith("Majority voting: accuracy 20 → 40 % (steps 0, 4).")


def test_what_is_not_there_is_refused(tmp_path, monkeypatch) -> None:
    folder = write(tmp_path / "hard", {name: COURSES[name] for name in ("majority voting", "II")})
    with pytest.raises(SystemExit, match="has no finished run of ground truth"):
        call(monkeypatch, folder, "--figure", tmp_path / "a.png")
    write(folder, {"ground truth": COURSES["ground truth"]})
    with pytest.raises(SystemExit, match=r"--starts \[1, 2\]: the three arms are finished from \[1\]"):
        call(monkeypatch, folder, "--starts", 1, 2, "--figure", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
