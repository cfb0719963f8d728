# SPDX-License-Identifier: Apache-2.0
"""Runs whose data has no ground truth at all, or a few: from the start to the curves."""

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from e2e_runs import REPO, finish, metrics_of, rows_of, start

from co_rewarding.storage.rows import read_rows

pytestmark = [pytest.mark.e2e, pytest.mark.long]
VALIDATED = ("trainer.total_training_steps=2", "trainer.val_before_train=True")
FEW = 5  # questions of a file that have a ground truth


def without(file: Path, target: Path, known: int) -> str:
    """A copy of which `known` rows have a ground truth: of none, the column is left out."""
    nothing = {"style": "rule", "ground_truth": None}
    rows = [
        row | {"reward_model": row["reward_model"] if i < known else nothing} for i, row in enumerate(read_rows(file))
    ]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table if known else table.drop_columns(["reward_model"]), target)
    return str(target)


def report(run_dir: Path) -> str:
    page = run_dir / "page.html"
    command = [sys.executable, REPO / "scripts/report.py", run_dir, "--html", page]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert (run_dir / "curves.png").stat().st_size > 10_000
    return printed + page.read_text(encoding="utf-8")


def groups_of(rows: list[dict]) -> Iterator[list[dict]]:
    """The validation responses to one question."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["uid"].partition("_")[0]].append(row)
    yield from groups.values()


def test_test_time_training_on_questions_without_answers(toy: Path) -> None:
    file = without(toy / "data/test.parquet", toy / "my_questions.parquet", known=0)
    run = start(
        "ttt", toy, "unlabelled", *VALIDATED,
        FILE=file, SAVE_FREQ="-1", TEST_FREQ="2", TRAIN_FILE="", TRAIN_AUG_FILE="", VAL_FILE="",
    )  # fmt: skip
    text = finish(run, toy / "unlabelled.log")
    assert "data.val_files: no question has a ground truth; instead of accuracy there is val-label-free/" in text
    run_dir = toy / "runs/co-rewarding/unlabelled"
    metrics = metrics_of(run_dir)
    names = {name for step in metrics.values() for name in step}
    assert not [name for name in names if "accuracy" in name or "/acc/" in name or name.startswith("val-core")]
    assert 0 < metrics[2]["reward/mean"] < 1  # it learned from its own votes
    for step in (0, 2):
        rows = rows_of(run_dir / f"validation/{step}.jsonl")
        assert len(rows) == 8 * 32 and {row["acc"] for row in rows} == {None}
        groups = list(groups_of(rows))
        if all(row["pred"].isdigit() for row in rows if row["pred"]):  # else spelling does not tell what is the same
            votes = [Counter(row["pred"] for row in group if row["pred"]).most_common(1) for group in groups]
            agreement = sum(vote[0][1] / 8 for vote in votes if vote) / len(groups)
            assert metrics[step]["val-label-free/toy_arithmetic/agreement"] == pytest.approx(agreement)
        answered = sum(row["pred"] != "" for row in rows) / len(rows)
        assert metrics[step]["val-label-free/toy_arithmetic/answer_share"] == pytest.approx(answered)
        assert f"step {step}/2: " in text and "validation agreement" in text
    assert "val-label-free/toy_arithmetic/stability" not in metrics[0]
    assert 0 < metrics[2]["val-label-free/toy_arithmetic/stability"] <= 1
    shown = report(run_dir)
    assert "held-out agreement" in shown and "Held-out answers as last time" in shown
    assert "accuracy before" not in shown


def test_a_few_ground_truths_are_used_where_they_are(toy: Path) -> None:
    files = {
        name: without(toy / f"data/{source}.parquet", toy / f"few_{source}.parquet", known)
        for name, source, known in (
            ("TRAIN_FILE", "train", FEW), ("TRAIN_AUG_FILE", "train_rephrased", 0), ("VAL_FILE", "test", FEW),
        )
    }  # fmt: skip
    run = start("I", toy, "few", *VALIDATED, SAVE_FREQ="-1", TEST_FREQ="2", TRAIN_BATCH_SIZE="64", **files)
    finish(run, toy / "few.log")
    run_dir = toy / "runs/co-rewarding/few"
    metrics = metrics_of(run_dir)
    for step in (0, 2):
        rows = rows_of(run_dir / f"validation/{step}.jsonl")
        graded = [row for row in rows if row["gts"]]
        assert {row["question"] for row in rows} == {f"test {i}" for i in range(32)}
        assert (len(rows), len(graded)) == (32, FEW)
        assert [row["acc"] for row in graded] == [float(row["pred"] == row["gts"]) for row in graded]
        assert {row["acc"] for row in rows if not row["gts"]} == {None}
        accuracy = metrics[step]["val-core/toy_arithmetic/acc/mean@1"]
        assert accuracy == pytest.approx(sum(row["acc"] for row in graded) / FEW)
        assert (
            metrics[step]["val-label-free/toy_arithmetic/answer_share"] == sum(row["pred"] != "" for row in rows) / 32
        )
    for step in (1, 2):
        labels = {
            (row["question"], row["view"]): row["label"] == row["ground_truth"]
            for row in rows_of(run_dir / f"rollouts/{step}.jsonl")
            if row["ground_truth"] and row["label"]
        }
        accuracy = metrics[step].get("label/accuracy")
        assert accuracy == (pytest.approx(sum(labels.values()) / len(labels)) if labels else None)
    assert "accuracy before" in report(run_dir)
