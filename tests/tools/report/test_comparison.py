# SPDX-License-Identifier: Apache-2.0
"""The table of methods, on run folders written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from co_rewarding.tools.report.comparison import read_methods, table, warnings

REPO = Path(__file__).resolve().parents[3]
ACCURACY = "val-core/toy/acc/mean@1"


def write_run(folder: Path, accuracies: dict[int, float], steps: list[dict[str, float]], right: dict[int, list[bool]]):
    """A run with validations at steps {step: accuracy}, one {metric: value} a trained step, and validation dumps."""
    (folder / "metrics").mkdir(parents=True)
    (folder / "validation").mkdir()
    with (folder / "metrics/start.jsonl").open("w") as file:
        for step in range(len(steps) + 1):
            data = {} if step == 0 else {"timing_s/step": 1.0, **steps[step - 1]}
            if step in accuracies:
                data[ACCURACY] = accuracies[step]
            file.write(json.dumps({"step": step, "data": data}) + "\n")
    for step, answers in right.items():
        rows = [{"input": f"Solve: question {i}", "gts": "1", "acc": float(good)} for i, good in enumerate(answers)]
        (folder / f"validation/{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def cells(text: str, method: str) -> list[str]:
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{method}`")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_one_seed_has_the_standard_error_of_its_questions(tmp_path: Path) -> None:
    steps = [{"label/accuracy": value} for value in (0.1, 0.2, 0.3, 0.7, 0.8, 0.9)]
    dumps = {0: [True, False, False, False], 6: [True, True, True, False]}
    run = write_run(tmp_path / "entropy_seed1", {0: 0.25, 3: 0.875, 6: 0.75}, steps, dumps)
    text = table(read_methods([run]), special=lambda prompt: prompt.endswith(("1", "3")), special_name="odd")
    row = cells(text, "entropy")
    # four questions: sqrt(.25 * .75 / 4) = .2165 before and after, sqrt(.875 * .125 / 4) = .1654 at the best
    assert row[1:5] == ["1", "0.250 ± 0.217", "0.750 ± 0.217", "0.875 ± 0.165"]
    # questions 1 and 3: none right, then one of two: sqrt(.5 * .5 / 2) = .3536
    assert row[5:7] == ["0.000 ± 0.000", "0.500 ± 0.354"]
    assert row[7] == "–"  # no rollouts were dumped
    assert row[8] == "0.20 → 0.80"  # means of .1 .2 .3 and of .7 .8 .9
    assert row[9:] == ["–", "–", "none"]  # not logged


def test_labels_of_the_special_questions_are_counted_once_a_question(tmp_path: Path) -> None:
    run = write_run(tmp_path / "majority_voting_seed1", {0: 0.5, 1: 0.5}, [{}], {0: [True], 1: [True]})
    (run / "rollouts").mkdir()
    rows = [
        {"question": question, "view": view, "label": label, "ground_truth": "7", "prompt": prompt}
        for question, view, label, prompt in (
            ("a", "original", "7", "odd"), ("a", "original", "7", "odd"),  # two rollouts of one group
            ("b", "original", "8", "odd"), ("c", "original", None, "odd"),  # a wrong label, and none
            ("a", "rephrased", "8", "odd"), ("d", "original", "7", "even"),  # another view, another kind
        )
    ]  # fmt: skip
    (run / "rollouts/1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = table(read_methods([run]), special=lambda prompt: prompt == "odd", special_name="odd")
    assert cells(text, "majority_voting")[7] == "1 of 2"


def test_several_seeds_have_their_standard_deviation(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"random_seed{seed}", {0: 0.5, 1: after}, [{"reward/mean": after}], {1: [True] * 4})
        for seed, after in ((1, 0.4), (2, 0.8))
    ]
    row = cells(table(read_methods(runs)), "random")
    # (.4 + .8) / 2 = .6; the sample deviation of two numbers is their distance over the root of 2: .4 / 1.4142 = .2828
    assert row[1:4] == ["2", "0.500 ± 0.000", "0.600 ± 0.283"]
    assert row[6] == "0.60 → 0.60"


def test_warnings_are_those_of_the_watch_with_their_first_step(tmp_path: Path) -> None:
    # every label changed since the last visit, from the first step on; judged when a window of five steps is seen
    steps = [{"collapse/label_flips": 1.0}] * 7
    run = write_run(tmp_path / "majority_voting_seed3", {0: 0.5}, steps, {0: [True]})
    (seeds,) = read_methods([run])
    assert warnings(seeds.runs[0]) == {"labels_flip": 5}
    assert cells(table([seeds]), "majority_voting")[-1] == "labels_flip (5)"


def test_a_folder_with_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"quickstart_tiny_I: .*_seed<number>"):
        read_methods([tmp_path / "quickstart_tiny_I"])
    command = [sys.executable, str(REPO / "scripts/figures/compare_table.py"), str(tmp_path / "quickstart_tiny_I")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPO)
    assert process.returncode == 2 and process.stderr.startswith("error: ") and "Traceback" not in process.stderr
