# SPDX-License-Identifier: Apache-2.0
"""The report of a run: merged starts, absent metrics, intervals, and what reaches a terminal or a file."""

import errno
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from co_rewarding.tools.bootstrap import interval
from co_rewarding.tools.report.figures import PANELS, shown_panels
from co_rewarding.tools.report.runs import Rollout, Run, dumped_steps, read_rollouts, read_run
from co_rewarding.tools.report.summary import as_text, duration, ends, legend, summary, table
from co_rewarding.tools.report.summary import example as example_of

REPO = Path(__file__).resolve().parents[3]
ACC = "val-core/toy/acc/mean@1"


def trained(step: int, **data: float) -> dict:
    return {"step": step, "data": {"timing_s/step": 2.0, **data}}


def rollout(question: str, view: str, answer: str | None, reward: float | None, **more: object) -> dict:
    row = {"step": 7, "question": question, "view": view, "voter": "student", "prompt": f"{view} {question}?"}
    return row | {"response": "", "answer": answer, "label": "5", "reward": reward, "ground_truth": "5"} | more


def validation(verdicts: list[float], responses: int = 1) -> list[dict]:
    """Rows of a dump, so many responses in a row to one question, and a question without a ground truth."""
    rows = [{"input": f"{i // responses}?", "gts": "1", "acc": right} for i, right in enumerate(verdicts)]
    return [*rows, {"input": "open?", "gts": None, "acc": None}]


def example(rows: list[dict]) -> str:
    return example_of(7, [Rollout.of(row) for row in rows])


def read_steps(folder: Path, *starts: list[dict]) -> dict[int, dict[str, float]]:
    """The steps of a run of these starts."""
    for number, rows in enumerate(starts):
        write_jsonl(folder / f"metrics/start{number}.jsonl", rows)
    return dict(read_run(folder).steps)


def write_jsonl(path: Path, rows: list[dict], tail: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Validation at 0 and 4, killed while logging step 4, resumed from the checkpoint of step 2."""
    folder = tmp_path / "my_run"
    first = [{"step": 0, "data": {ACC: 0.5}}]
    first += [trained(step, **{"label/accuracy": 0.1 * step, "reward/mean": 0.2}) for step in (1, 2, 3)]
    second = [trained(3, **{"label/accuracy": 0.6}), trained(4, **{"label/accuracy": 0.8, ACC: 0.8})]
    write_jsonl(folder / "metrics" / "2026-01-01_10-00-00.jsonl", first, tail='{"step": 4, "da')
    write_jsonl(folder / "metrics" / "2026-01-01_11-00-00.jsonl", second)
    for step, right in ((0, 50), (4, 80)):
        write_jsonl(folder / f"validation/{step}.jsonl", validation([1.0] * right + [0.0] * (100 - right)))
    write_jsonl(
        folder / "rollouts" / "4.jsonl", [rollout("1", "original", "5", 1.0), rollout("1", "original", "6", 0.0)]
    )
    write_jsonl(folder / "rollouts" / "10.jsonl", [rollout("9", "original", "5", 1.0)])
    return folder


def test_duration() -> None:
    assert [duration(s) for s in (41.6, 425, 12000)] == ["42 s", "7 min 05 s", "3 h 20 min"]
    assert duration(59.7) == "1 min 00 s"


def test_a_resumed_start_drops_what_was_logged_after_its_checkpoint(tmp_path: Path) -> None:
    first = [trained(step, loss=float(step)) for step in (1, 2, 3, 4)]
    # resumed from step 2: validates there first, then trains step 3; the first start's step 4 never happened
    second = [{"step": 2, "data": {ACC: 0.7}}, trained(3, loss=30.0)]
    merged = read_steps(tmp_path, first, second)
    assert {step: data["loss"] for step, data in merged.items()} == {1: 1.0, 2: 2.0, 3: 30.0}
    assert merged[2][ACC] == 0.7


def test_a_start_that_only_validates_drops_nothing(tmp_path: Path) -> None:
    merged = read_steps(tmp_path, [{"step": 0, "data": {ACC: 0.4}}, trained(1)], [{"step": 0, "data": {ACC: 0.5}}])
    assert merged == {0: {ACC: 0.5}, 1: {"timing_s/step": 2.0}}


def test_values_that_are_no_finite_number_are_absent(tmp_path: Path) -> None:
    row = {"step": 1, "data": {"nan": None, "text": "a", "flag": True, "inf": float("inf"), "zero": 0}}
    assert read_steps(tmp_path, [row]) == {1: {"zero": 0.0}}


def test_broken_rows_are_named_with_their_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"start0\.jsonl, metrics row 2: step=None"):
        read_steps(tmp_path, [trained(1), {"data": {}}])
    (tmp_path / "metrics/start0.jsonl").write_text('{"step": 1, "data": {}}\n[]\n{}\n')
    with pytest.raises(ValueError, match=r"start0\.jsonl, line 2: not a JSON object"):
        read_run(tmp_path)


def test_the_method_is_that_of_the_configuration_or_the_name(tmp_path: Path) -> None:
    config = tmp_path / "entropy_seed2/hydra/2026-01-01_10-00-00/.hydra/config.yaml"
    write_jsonl(tmp_path / "entropy_seed2/metrics/a.jsonl", [trained(1)])
    assert read_run(tmp_path / "entropy_seed2").method == "entropy"
    config.parent.mkdir(parents=True)
    for text, method in (
        ("co_rewarding: {method: random}", "random"),
        ("co_rewarding: {method: [1]}", None),
        ("co_rewarding: {method: /gone/own.py:short}", "/gone/own.py:short"),
        ("co_rewarding: {method: co_rewarding_I+0.1*/gone/own.py:short}", "co_rewarding_I+0.1*/gone/own.py:short"),
        ("a: [", "entropy"),
    ):
        config.write_text(text)
        assert read_run(tmp_path / "entropy_seed2").method == method


def test_read_run(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert run.name == "my_run" and run.starts == 2
    assert run.num_questions(ACC) == 100  # the row without ground truth was not graded
    assert run.verdicts_at(ACC, 4) == {"my_run": {f"{i}?": float(i < 80) for i in range(100)}}
    assert run.verdicts_at(ACC, 2) == {} and run.interval(ACC, 2) is None
    assert run.series("label/accuracy") == ([1, 2, 3, 4], [pytest.approx(v) for v in (0.1, 0.2, 0.6, 0.8)])
    assert len(run.notes) == 1 and "10-00-00.jsonl: the last line is incomplete" in run.notes[0]
    assert run.until(2).trained_steps == [1, 2] and run.metrics.loc[4, ACC] == 0.8


def bounds(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+−]?[\d.]+", text.replace("−", "-"))]


def test_summary(run_dir: Path) -> None:
    rows = summary(read_run(run_dir))
    # t(99) = 1.984 standard errors: 1.984 sqrt(.5 · .5 / 99) = .0997, 1.984 sqrt(.8 · .2 / 99) = .0798
    assert bounds(rows["accuracy before"]) == [0.5, pytest.approx(0.4003, abs=0.01), pytest.approx(0.5997, abs=0.01), 0]
    assert bounds(rows["accuracy after"]) == [0.8, pytest.approx(0.7202, abs=0.01), pytest.approx(0.8798, abs=0.01), 4]
    # of the same questions: 30 of 100 differ, 1.984 sqrt(.3 · .7 / 99) = .0914
    assert rows["difference"].startswith("+0.300 [+0.") and bounds(rows["difference"]) == [
        0.3,
        pytest.approx(0.2086, abs=0.01),
        pytest.approx(0.3914, abs=0.01),
    ]
    assert legend([read_run(run_dir)]).endswith(", [] 95 % interval over questions, – not logged")
    assert rows["held-out questions"] == "100 (toy)"
    assert rows["label accuracy *"] == "0.150 → 0.700"  # (0.1 + 0.2) / 2, (0.6 + 0.8) / 2
    assert rows["groups with a label *"] == "–"
    assert rows["reward mean *"] == "0.200 → 0.200"  # not logged at steps 3 and 4, which therefore do not count as 0
    assert rows["steps done"] == "4, in 2 starts"
    assert (rows["time per step"], rows["training time"]) == ("2.0 s", "8 s")


def test_held_out_questions_without_answers_have_rows_of_their_own() -> None:
    def held_out(**numbers: float) -> dict[str, float]:
        return {f"val-label-free/toy/{name}": value for name, value in numbers.items()}

    steps = {
        0: held_out(agreement=0.25, answer_share=0.5),
        4: held_out(agreement=0.5, answer_share=0.75, stability=0.9),
        8: held_out(agreement=0.75, answer_share=1.0, stability=0.95),
    }
    unlabelled = Run("open", steps, 1)
    rows = summary(unlabelled)
    assert rows["held-out agreement"] == "0.250 (step 0) → 0.750 (step 8)"
    assert rows["held-out answers as last time"] == "0.900 (step 4) → 0.950 (step 8)"
    assert rows["held-out responses with an answer"] == "0.500 (step 0) → 1.000 (step 8)"
    assert not [name for name in rows if "accuracy before" in name or name == "held-out questions"]
    titles = [panel.title for panel in shown_panels([unlabelled], PANELS)]
    assert titles == ["Held-out agreement", "Held-out answers as last time"]
    labelled = Run("known", {**steps, 8: steps[8] | {ACC: 0.5}}, 1)
    assert summary(labelled)["accuracy before"] == "0.500 (step 8)"
    assert summary(labelled)["held-out agreement"] == rows["held-out agreement"]
    old = Run("old", {0: {ACC: 0.5}}, 1)  # of a run before there were such numbers
    assert not [name for name in summary(old) if name.startswith("held-out ") and name != "held-out questions"]
    two = Run("two", {0: steps[0] | {"val-label-free/lib/b/agreement": 1.0}}, 1)
    assert summary(two)["held-out agreement, lib/b"] == "1.000 (step 0)"


def test_a_run_that_only_validated_has_no_difference_and_no_steps() -> None:
    rows = summary(Run("r", {0: {ACC: 0.5}}, starts=1))
    assert rows["accuracy before"] == "0.500 (step 0)"  # size unknown: no error is better than a wrong one
    assert rows["accuracy after"] == rows["difference"] == rows["time per step"] == rows["training time"] == "–"
    assert rows["steps done"] == "0"


def test_several_responses_to_a_question_are_one_share(tmp_path: Path) -> None:
    name = "val-core/toy/acc/mean@4"
    write_jsonl(tmp_path / "metrics/a.jsonl", [{"step": 0, "data": {name: 0.5}}])
    write_jsonl(tmp_path / "validation/0.jsonl", validation([1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1, 1], responses=4))
    run = read_run(tmp_path)
    assert run.num_questions(name) == 3
    assert run.interval(name, 0) == interval({"": {"a": 0.5, "b": 0.5, "c": 1.0}})


def test_what_has_no_interval_stands_without_one(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "metrics/a.jsonl", [{"step": 0, "data": {ACC: 0.5}}, {"step": 1, "data": {ACC: 0.6}}])
    run = read_run(tmp_path)
    assert run.notes == (f"no intervals: {tmp_path}/validation has no verdicts of a validated step",)
    assert summary(run)["difference"] == "+0.100" and run.num_questions(ACC) is None
    # other questions before than after: an interval of each, none of the difference; a broken verdict is none
    write_jsonl(tmp_path / "validation/0.jsonl", validation([1.0, 0.0, math.nan, 7.0]))
    write_jsonl(tmp_path / "validation/1.jsonl", validation([1.0, 0.0, 1.0]))
    rows = summary(read_run(tmp_path))
    assert rows["accuracy before"].startswith("0.500 [") and rows["difference"] == "+0.100"
    assert rows["held-out questions"] == "3 (toy)"


def test_several_data_sets_have_a_row_each_and_no_error() -> None:
    steps = {0: {"val-core/a/acc/mean@1": 0.5, "val-core/lib/b/acc/mean@1": 0.25}}
    rows = summary(Run("r", steps, starts=1))
    assert rows["accuracy before, a"] == "0.500 (step 0)"
    assert rows["accuracy before, lib/b"] == "0.250 (step 0)"


def test_the_first_and_the_last_steps_do_not_overlap() -> None:
    assert [ends(list(range(1, n + 1))) for n in (2, 3, 4, 6, 7)] == [(1, 2), (1, 3), (1.5, 3.5), (2, 5), (2, 6)]
    assert ends([0.5]) == (0.5,) and ends([]) == ()
    short, long = (Run("r", {i: {"reward/mean": float(i)} for i in range(1, n + 1)}, starts=1) for n in (1, 4))
    assert summary(short)["reward mean *"] == "1.000" and summary(long)["reward mean *"] == "1.500 → 3.500"
    assert legend([long]).startswith("* mean of the first 2 → of the last 2 steps,")
    assert legend([short]).startswith("* first step → last step,")
    assert legend([short, long]).startswith("* mean of the first 1 or 2 → of the last 1 or 2 steps,")


def test_table_is_aligned(run_dir: Path) -> None:
    run = read_run(run_dir)
    other = Run("other\x1b[2J", {1: {"reward/mean": 1.0}}, starts=1)
    lines = as_text(table([run, other])).split("\n")
    column = lines[0].index("other [2J")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)


@pytest.mark.parametrize("prepare", ["nothing", "folder", "empty file"])
def test_run_directory_without_metrics(tmp_path: Path, prepare: str) -> None:
    if prepare == "nothing":
        with pytest.raises(ValueError, match="no such directory"):
            read_run(tmp_path / "absent")
        return
    (tmp_path / "metrics").mkdir()
    if prepare == "empty file":
        (tmp_path / "metrics" / "a.jsonl").touch()
    with pytest.raises(ValueError, match="no metrics found"):
        read_run(tmp_path)


def test_dumps_belong_to_the_run(run_dir: Path) -> None:
    # 10.jsonl is newer than the last logged step, 4: left by a start whose steps were dropped
    run = read_run(run_dir)
    assert dumped_steps(run_dir, run) == [4]
    assert {rollout.question for rollout in read_rollouts(run_dir, 4)} == {"1"}
    # in the order of the steps, not of the names: "10" sorts before "4"
    assert dumped_steps(run_dir, Run("r", {12: {}}, starts=1)) == [4, 10]


def test_an_odd_dump_has_the_types_of_a_rollout() -> None:
    assert Rollout.of({"question": 5, "answer": ["x"], "reward": "1", "ground_truth": ""}) == Rollout(
        "5", "", "", "", "", answer="['x']", label=None, reward=None, ground_truth=None
    )


def test_example_prefers_a_question_that_teaches() -> None:
    rows = [rollout("1", view, "5", 1.0) for view in ("original", "rephrased") for _ in range(2)]
    rows += [
        rollout("2", "original", "5", 1.0),
        rollout("2", "original", "5", 1.0),
        rollout("2", "original", None, 0.0),
    ]
    assert example(rows).split("\n") == [
        "Example: question 2 of step 7, ground truth 5",
        "original: original 2?",
        "  3 rollouts of the student, rewarded by the label 5",
        "      2 × 5          reward 1",
        "      1 × no answer  reward 0",
    ]
    assert example([]) == ""


def test_example_of_a_teacher_and_of_a_group_without_label() -> None:
    rows = [rollout("1", "original", "5", None, voter="teacher"), rollout("1", "original", None, 0.0, label=None)]
    text = example(rows)
    assert "1 rollouts of the teacher, which only vote\n      1 × 5\n" in text + "\n"
    assert "no label: all earn 0" in text


def test_example_of_a_method_without_labels() -> None:
    rows = [rollout("1", "original", "5", reward, label=None) for reward in (-0.5, -1.5)]
    assert "2 rollouts of the student, rewarded without a label\n      1 × 5  reward -0.5\n" in example(rows)


def test_example_of_a_group_that_earned_without_a_label() -> None:
    # the payout negative, where few agree
    rows = [rollout("1", "original", answer, reward, label=None) for answer, reward in (("5", 0.0), ("6", -1.0))]
    rows.append(rollout("1", "rephrased", "5", 1.0))
    text = example(rows)
    assert "2 rollouts of the student, rewarded without a label\n" in text and "1 × 6  reward -1" in text
    assert "rewarded by the label 5" in text and "all earn 0" not in text


def test_example_is_bounded_and_safe_to_print() -> None:
    evil = "\x1b[2J\u202e" + "9" * 100_000
    views = [(view, voter) for view in ("original", "rephrased") for voter in ("student", "teacher")]
    rows = [
        rollout("1", view, f"{i}{evil}", 0.0, voter=voter, prompt=evil, label=evil, ground_truth=evil)
        for view, voter in views
        for i in range(8)
    ]
    text = example(rows)
    assert text.count("\n") <= 24 and max(map(len, text.split("\n"))) <= 120
    assert all(c.isprintable() or c == "\n" for c in text)


def test_the_command_prints_a_table_and_draws_curves_of_one_and_of_two_runs(
    run_dir: Path, tmp_path: Path, run_script: Callable[..., Any]
) -> None:
    code, out, _ = run_script("report.py", run_dir, "--table", tmp_path / "t.csv")
    assert code == 0
    assert "+0.300 [+0.2" in out and "note: " in out and "Example: question 1" in out
    assert (run_dir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert '\naccuracy after,"0.800 [0.7' in (tmp_path / "t.csv").read_text()
    figure, markdown = tmp_path / "both.svg", tmp_path / "new/both.md"
    assert (
        run_script("report.py", run_dir, run_dir, "--figure", figure, "--panels", "main", "--table", markdown)[0] == 0
    )
    assert "<svg" in figure.read_text()
    assert "my_run (2)" in markdown.read_text() and "mean of the first 1 or 2 → of the last" in markdown.read_text()


def test_the_questions_of_a_run_that_wrote_no_table(run_dir: Path, run_script: Callable[..., Any]) -> None:
    # question 1 in steps 3 and 4, truth 5: 5 and 6, then 6 and 6; step 10 is of an earlier run. Validation: 7, then 5
    one = [rollout("1", "original", answer, 0.0) for answer in ("5", "6", "6", "6")]
    for step, rows in ((3, one[:2]), (4, one[2:]), (10, one[:1])):
        write_jsonl(run_dir / f"rollouts/{step}.jsonl", rows)
    for step, answer in ((0, "7"), (4, "5")):
        row = {"prompt_id": "ab", "question": "test 1", "pred": answer, "gts": "5", "input": "?"}
        write_jsonl(run_dir / f"validation/{step}.jsonl", [row])
    assert "questions learned" not in run_script("report.py", run_dir)[1]
    code, out, _ = run_script("report.py", run_dir, "--questions")
    assert code == 0 and f"Questions: {run_dir}/questions.csv" in out
    written = (run_dir / "questions.csv").read_text()
    assert "training,1,corrupted,2,3,5,0.500,4,6,0.000,5,original 1?,0.500,1.000" in written.splitlines()
    code, out, _ = run_script("report.py", run_dir)  # from then on it is there
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "training questions learned, corrupted 0, 1 of 1" in lines
    assert "held-out questions learned, corrupted 1, 0 of 1" in lines
    assert (run_dir / "questions.csv").read_text() == written
    (run_dir / "questions.csv").write_text("set,outcome\ntraining,none\n")
    code, _, err = run_script("report.py", run_dir)
    assert (code, err.count("\n")) == (2, 1) and "questions.csv: not a table of questions" in err


def test_questions_without_a_ground_truth(run_dir: Path) -> None:
    run = replace(read_run(run_dir), questions={"training": {"changed": 3, "same": 1, "unanswered": 2, "learned": 1}})
    rows = summary(run)
    assert rows["training questions with another answer"] == "3 of 6"
    assert rows["training questions learned, corrupted"] == "1, 0 of 1"


def test_rollouts_that_only_vote_are_marked(run_dir: Path) -> None:
    rows = [rollout("1", "original", "5", 1.0, trained=True)] * 2
    rows += [rollout("1", "original", answer, None, trained=False) for answer in ("6", "5", "5")]
    assert "  5 rollouts of the student, of which 3 only vote, rewarded by the label 5" in example(rows)
    stopped = [rollout("1", "original", None, None, voter="teacher", stopped=True)]
    assert "1 rollouts of the teacher, of which 1 were stopped when the vote was decided" in example(rows + stopped)
    # 1 and None are no two rewards: 2 has them in its group, and is the example
    rows += [rollout("2", "original", answer, reward, trained=True) for answer, reward in (("5", 1.0), ("6", 0.0))]
    assert "question 2" in example(rows)


def test_errors_of_the_command_are_one_line(run_dir: Path, tmp_path: Path, run_script: Callable[..., Any]) -> None:
    for arguments, message in (
        ((tmp_path,), "no metrics found"),
        ((tmp_path / "none",), "no such directory"),
        ((run_dir, run_dir), "name the figure"),
        ((run_dir, "--metric", "reward/nonsense"), "--metric reward/nonsense: no run logged it"),
        ((run_dir, "--figure", tmp_path / "x.gif"), "must end in .png, .svg, .pdf"),
        ((run_dir, "--table", tmp_path / "x.xls"), "must end in .md, .csv, .tex"),
        ((run_dir, "--window", "0"), "--window 0: must be"),
        ((run_dir, "--subset", "odd"), "--subset odd: must be NAME=FILE"),
        ((run_dir, "--subset", f"odd={tmp_path}/no.parquet"), "no.parquet: no such file"),
        ((run_dir, "--by_method"), "must end in _seed and a number"),
    ):
        code, out, err = run_script("report.py", *arguments)
        assert (code, out, err.count("\n"), message in err) == (2, "", 1, True), err


def test_a_full_disk_is_reported_with_the_file(
    run_dir: Path, tmp_path: Path, run_script: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        code, _, err = run_script("report.py", run_dir, "--html", tmp_path / "page.html")
    assert (code, err) == (2, f"report.py: error: {tmp_path}/page.html: No space left on device\n")
    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", full)
        code, _, err = run_script("report.py", run_dir)
    assert (code, err) == (2, f"report.py: error: {run_dir}/curves.png: No space left on device\n")


def test_a_reader_that_closes_the_pipe_ends_the_command_after_its_files(run_dir: Path) -> None:
    command = [sys.executable, "-u", REPO / "scripts/report.py", run_dir]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141
    assert (run_dir / "curves.png").is_file()
