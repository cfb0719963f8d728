# SPDX-License-Identifier: Apache-2.0
"""Methods over their seeds and questions apart, on run folders written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from co_rewarding.storage.rows import make_row, write_rows
from co_rewarding.tools.report.comparison import by_method, mean_run, methods_legend, table, warnings
from co_rewarding.tools.report.runs import Run, read_run
from co_rewarding.tools.report.subsets import asks_one_of, with_subset
from co_rewarding.tools.report.summary import summary

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


def methods_of(*run_dirs: Path) -> dict[str, list[Run]]:
    return by_method(run_dirs, [read_run(run_dir) for run_dir in run_dirs])


def odd(folder: Path, *questions: str) -> Path:
    """A file of these questions."""
    write_rows([make_row("toy", text, "1", i, "test") for i, text in enumerate(questions)], folder / "odd.parquet")
    return folder / "odd.parquet"


def test_one_seed_has_the_standard_error_of_its_questions(tmp_path: Path) -> None:
    steps = [{"label/accuracy": value} for value in (0.1, 0.2, 0.3, 0.7, 0.8, 0.9)]
    dumps = {0: [True, False, False, False], 6: [True, True, True, False]}
    run = write_run(tmp_path / "entropy_seed1", {0: 0.25, 3: 0.875, 6: 0.75}, steps, dumps)
    asks = asks_one_of(odd(tmp_path, "question 1", "question 3"))
    methods = {"entropy": [with_subset(read_run(run), run, "odd", asks)]}
    row = table(methods).loc[0]
    # four questions: sqrt(.25 * .75 / 4) = .2165 before and after, sqrt(.875 * .125 / 4) = .1654 at the best
    assert row[:5].tolist() == ["entropy", "1", "0.250 ± 0.217", "0.750 ± 0.217", "0.875 ± 0.165"]
    # questions 1 and 3: none right, then one of two: sqrt(.5 * .5 / 2) = .3536
    assert row[["odd (2) before", "odd (2) after"]].tolist() == ["0.000 ± 0.000", "0.500 ± 0.354"]
    assert row["odd: right labels"] == "–"  # no rollouts were dumped
    assert row["label accuracy *"] == "0.20 → 0.80"  # means of .1 .2 .3 and of .7 .8 .9
    assert row[-3:].tolist() == ["–", "–", "none"]  # not logged
    assert "mean of the first 3 → of the last 3 steps, ± standard error with one seed," in methods_legend(methods)
    assert summary(methods["entropy"][0])["accuracy after, odd (2)"] == "0.500 ± 0.354 (step 6)"


def test_methods_without_ground_truths_have_held_out_numbers(tmp_path: Path) -> None:
    for seed, values in ((1, (0.25, 0.75)), (2, (0.5, 0.5))):
        folder = write_run(tmp_path / f"entropy_seed{seed}", {}, [], {})
        lines = [
            {"step": step, "data": {"val-label-free/toy/agreement": value, "val-label-free/toy/answer_share": 1.0}}
            for step, value in enumerate(values)
        ]
        (folder / "metrics/start.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = table(methods_of(tmp_path / "entropy_seed1", tmp_path / "entropy_seed2"))
    assert not [
        column for column in found if "accuracy b" in column or "accuracy a" in column
    ]  # there is no such thing
    assert found.loc[0, "held-out agreement"] == "0.38 → 0.62"  # means of .25 .5 and of .75 .5
    assert found.loc[0, "held-out responses with an answer"] == "1.00 → 1.00"


def test_labels_of_a_subset_are_counted_once_a_question(tmp_path: Path) -> None:
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
    apart = with_subset(read_run(run), run, "odd", asks_one_of(odd(tmp_path, "odd")))
    assert summary(apart)["right labels, odd"] == "1 of 2"


def test_a_prompt_asks_the_question_at_its_end(tmp_path: Path) -> None:
    asks = asks_one_of(odd(tmp_path, "What is\n5 - 3?", "is 7?"))
    assert asks("Solve. What is 5 -  3?") and asks("<|user|>What is 5 - 3?<|im_end|>\n<|im_start|>assistant\n")
    assert not asks("What is 5 - 3? Is it 2? No. So then, what is it that you would say of 5 - 4?")  # an example in it
    assert asks("is 7?") and not asks("this is 77?") and not asks("This is 7?"[:8]) and not asks("axis 7?")
    with pytest.raises(ValueError, match=r"odd\.parquet: no row has a question"):
        asks_one_of(odd(tmp_path, ""))


def test_several_seeds_have_their_standard_deviation(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / f"random_seed{seed}", {0: 0.5, 1: after}, [{"reward/mean": after}], {1: [True] * 4})
        for seed, after in ((1, 0.4), (2, 0.8))
    ]
    methods = methods_of(*runs)
    row = table(methods).loc[0]
    # (.4 + .8) / 2 = .6; the sample deviation of two numbers is their distance over the root of 2: .4 / 1.4142 = .2828
    assert row[1:4].tolist() == ["2", "0.500 ± 0.000", "0.600 ± 0.283"]
    assert row["reward *"] == "0.60"  # one step
    assert methods_legend(methods) == "* first step → last step, ± standard deviation over seeds, – not logged"
    mean = mean_run("random", methods["random"])
    assert mean.name == "random (2 seeds)" and mean.series(ACCURACY) == ([0, 1], [0.5, pytest.approx(0.6)])
    assert mean.errors(ACCURACY) == [0.0, pytest.approx(0.2828, abs=1e-4)]


def test_warnings_are_those_of_the_watch_with_their_first_step(tmp_path: Path) -> None:
    # every label changed since the last visit, from the first step on; judged when a window of five steps is seen
    steps = [{"collapse/label_flips": 1.0}] * 7
    run = write_run(tmp_path / "majority_voting_seed3", {0: 0.5}, steps, {0: [True]})
    methods = methods_of(run)
    assert warnings(methods["majority_voting"][0]) == {"labels_flip": 5}
    assert table(methods)["warnings (first step)"][0] == "labels_flip (5)"


def test_the_command_draws_the_controls_apart_and_writes_the_table(
    tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    runs = [
        write_run(tmp_path / f"{method}_seed1", {0: 0.5, 1: 0.6}, [{}], {0: [True], 1: [False]})
        for method in ("ground_truth", "entropy", "random")
    ]
    (runs[0] / "made_with").mkdir()
    (runs[0] / "made_with/start.json").write_text('{"versions": {}, "commit": "abc"}')
    figure, markdown, file = tmp_path / "f.svg", tmp_path / "f.md", odd(tmp_path, "question 0")
    options = ["--by_method", "--panels", "methods", "--subset", f"q 0={file}", "--made-by", "bash x.sh"]
    code, out, err = run_script("report.py", *runs, *options, "--figure", figure, "--table", markdown)
    assert (code, err) == (0, "") and f"Curves: {figure}\nCurves: {tmp_path}/f_controls.svg\nTable: " in out
    names = {path.name: path.read_text() for path in tmp_path.glob("f*.svg")}
    assert "<!-- entropy -->" in names["f.svg"] and "<!-- random -->" not in names["f.svg"]
    assert "<!-- Of it: q 0 -->" in names["f.svg"]
    assert all(f"<!-- {name} -->" in names["f_controls.svg"] for name in ("ground_truth", "random"))
    text = markdown.read_text()
    assert "| entropy" in text and "1.000 ± 0.000" in text and "0.000 ± 0.000" in text
    assert text.endswith("\n\nMade by `bash x.sh` at commit `abc`, 1 steps a run.\n")
    code, _, err = run_script("report.py", runs[1], "--subset", f"q 7={odd(tmp_path, 'question 7')}")
    assert code == 2 and "no validation dump of these runs asks a question of that file" in err
