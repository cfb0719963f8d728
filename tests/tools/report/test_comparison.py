# SPDX-License-Identifier: Apache-2.0
"""Methods over their seeds and questions apart, on run folders written by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from co_rewarding.storage.rows import make_row, write_rows
from co_rewarding.tools.bootstrap import Interval, interval
from co_rewarding.tools.report.comparison import by_method, mean_run, methods_legend, reference_of, table, warnings
from co_rewarding.tools.report.figures import ACCURACY as PANEL
from co_rewarding.tools.report.figures import notes
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


def shown(right: dict[str, list[bool]], minus: dict[str, list[bool]] | None = None) -> str:
    """An interval as the table has it: seed → verdicts of questions."""
    of = [{seed: dict(enumerate(map(float, row))) for seed, row in rows.items()} for rows in (right, minus) if rows]
    found, sign = interval(*of), "+" if minus else ""
    assert isinstance(found, Interval) and found.low < found.high
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]".replace("-", "−")


def test_one_seed_has_the_interval_of_its_questions(tmp_path: Path) -> None:
    steps = [{"label/accuracy": value} for value in (0.1, 0.2, 0.3, 0.7, 0.8, 0.9)]
    dumps = {0: [True, False, False, False], 6: [True, True, True, False]}
    run = write_run(tmp_path / "entropy_seed1", {0: 0.25, 3: 0.875, 6: 0.75}, steps, dumps)
    asks = asks_one_of(odd(tmp_path, "question 1", "question 3"))
    methods = {"entropy": [with_subset(read_run(run), run, "odd", asks)]}
    row = table(methods).loc[0]
    # not the 0.875 of step 3, which only the labels would pick
    assert row[:4].tolist() == ["entropy", "1", shown({"1": dumps[0]}), shown({"1": dumps[6]})]
    # questions 1 and 3: none right, which no resampling changes, then one of two, of which nothing follows
    assert row[["odd (2) before", "odd (2) after"]].tolist() == ["0.000 [0.000, 0.000]", "0.500 [0.000, 1.000]"]
    assert row["odd: right labels"] == "–"  # no rollouts were dumped
    assert row["label accuracy *"] == "0.20 → 0.80"  # means of .1 .2 .3 and of .7 .8 .9
    assert row[-4:].tolist() == ["–", "–", "none", "none"]  # not logged
    assert "first 3 → of the last 3 steps, [] 95 % interval over questions, – not logged" in methods_legend(methods)
    assert summary(methods["entropy"][0])["accuracy after, odd (2)"] == "0.500 [0.000, 1.000] (step 6)"


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


AFTER = {
    "random": {"1": [True, False, False, False], "2": [True, True, True, False]},
    "majority_voting": {"1": [True, True, False, False], "2": [True, True, True, True]},
}


def after_of(folder: Path, method: str, seeds: dict[str, list[bool]]) -> list[Path]:
    """Runs that validate after their one step."""
    return [
        write_run(
            folder / f"{method}_seed{seed}",
            {0: 0.5, 1: sum(right) / 4},
            [{"reward/mean": sum(right) / 4}],
            {0: [True, False, True, False], 1: right},
        )
        for seed, right in seeds.items()
    ]


def test_several_seeds_have_intervals_over_seeds_and_questions(tmp_path: Path) -> None:
    methods = methods_of(*(run for method, seeds in AFTER.items() for run in after_of(tmp_path, method, seeds)))
    reference = reference_of(methods, "")
    row, other = table(methods, reference).to_dict("records")
    assert (row["seeds"], row["accuracy before"]) == ("2", shown({s: [True, False, True, False] for s in "12"}))
    assert row["accuracy after"] == shown(AFTER["random"])
    # −1/4 in both seeds: 0 −1 0 0 and 0 0 0 −1
    assert row["accuracy after − majority_voting"] == shown(AFTER["random"], AFTER["majority_voting"])
    assert row["accuracy after − majority_voting"].startswith("−0.250 [−")
    assert other["accuracy after − majority_voting"] == "reference"
    assert row["reward *"] == "0.50"  # one step
    words = "over 2 seeds and their questions"
    assert methods_legend(methods) == f"* first step → last step, [] 95 % interval {words}, – not logged"
    mean = mean_run("random", methods["random"])
    assert mean.name == "random (2 seeds)" and mean.series(ACCURACY) == ([0, 1], [0.5, 0.5])
    assert mean.interval(ACCURACY, 1) == interval(
        {seed: {f"q{i}": float(good) for i, good in enumerate(right)} for seed, right in AFTER["random"].items()}
    )
    assert notes([mean], [PANEL]) == [f"accuracies: 95 % interval {words}"]


def test_a_difference_is_of_the_seeds_and_questions_of_both(tmp_path: Path) -> None:
    one = after_of(tmp_path, "random", {"2": AFTER["random"]["2"]})
    runs = one + after_of(tmp_path, "majority_voting", AFTER["majority_voting"])
    column = "accuracy after − majority_voting"
    texts = table(methods_of(*runs), "majority_voting")[column]
    assert texts[0] == shown({"2": AFTER["random"]["2"]}, {"2": AFTER["majority_voting"]["2"]}) + " (1 seed of both)"
    (runs[0] / "validation/1.jsonl").write_text('{"input": "another", "gts": "1", "acc": 1.0}\n')
    assert table(methods_of(*runs), "majority_voting")[column][0] == "–"
    (runs[0] / "validation/1.jsonl").unlink()
    row = table(methods_of(*runs), "majority_voting").loc[0]
    assert (row["accuracy after"], row[column]) == ("0.750", "–")  # a number without an interval
    two = methods_of(*after_of(tmp_path / "more", "random", AFTER["random"]))["random"]
    (tmp_path / "more/random_seed2/validation/1.jsonl").unlink()
    mean = mean_run("random", [two[0], read_run(tmp_path / "more/random_seed2")])
    assert (
        mean.interval(ACCURACY, 0) and mean.interval(ACCURACY, 1) is None
    )  # a mean of two runs is not of one's verdicts


def test_the_reference_is_majority_voting_or_the_chosen_method(tmp_path: Path) -> None:
    methods = methods_of(*(run for method in AFTER for run in after_of(tmp_path, method, AFTER[method])))
    assert reference_of(methods, "random") == "random"
    assert reference_of({"random": methods["random"]}, "") is None
    assert not [column for column in table({"random": methods["random"]}) if "−" in column]
    with pytest.raises(ValueError, match="--reference entropy: no run of it is given, only of random, majority_voting"):
        reference_of(methods, "entropy")
    with pytest.raises(ValueError, match="random_seed1 is given twice"):
        methods_of(tmp_path / "random_seed1", tmp_path / "random_seed1")


def test_warnings_are_those_of_the_watch_with_their_first_step(tmp_path: Path) -> None:
    # every label changed since the last visit, from the first step on; judged when a window of five steps is seen.
    # The reward rises and the labels become wrong, in the second half: the last five steps are all of it in step 10.
    steps = [{"collapse/label_flips": 1.0, "reward/mean": 0.1, "label/accuracy": 0.9}] * 5
    steps += [{"collapse/label_flips": 1.0, "reward/mean": 0.9, "label/accuracy": 0.1}] * 5
    run = write_run(tmp_path / "majority_voting_seed3", {0: 0.5}, steps, {0: [True]})
    methods = methods_of(run)
    found = {signal.name: step for signal, step in warnings(methods["majority_voting"][0]).items()}
    assert found == {"labels_flip": 5, "illusion": 10}
    row = table(methods).loc[0]
    assert row["warnings (first step)"] == "labels_flip (5)"
    assert row["warnings that need labels"] == "illusion (10)"


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
    options = [
        "--by_method",
        "--reference",
        "ground_truth",
        "--panels",
        "methods",
        "--subset",
        f"q 0={file}",
        "--made-by",
        "bash x.sh",
    ]
    code, out, err = run_script("report.py", *runs, *options, "--figure", figure, "--table", markdown)
    assert (code, err) == (0, "") and f"Curves: {figure}\nCurves: {tmp_path}/f_controls.svg\nTable: " in out
    names = {path.name: path.read_text() for path in tmp_path.glob("f*.svg")}
    assert "<!-- entropy -->" in names["f.svg"] and "<!-- random -->" not in names["f.svg"]
    assert "<!-- Of these: q 0 -->" in names["f.svg"]
    assert all(f"<!-- {name} -->" in names["f_controls.svg"] for name in ("ground_truth", "random"))
    text = markdown.read_text()
    assert "| entropy" in text and "accuracy after − ground_truth" in text and "reference" in text
    assert text.endswith("\n\nMade by `bash x.sh` at commit `abc`, 1 steps a run.\n")
    code, _, err = run_script("report.py", runs[1], "--subset", f"q 7={odd(tmp_path, 'question 7')}")
    assert code == 2 and "no validation dump of these runs has a question of that file" in err
    code, _, err = run_script("report.py", runs[1], "--reference", "entropy")
    assert code == 2 and "--reference entropy: give --by_method, too" in err
