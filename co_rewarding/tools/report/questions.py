# SPDX-License-Identifier: Apache-2.0
"""Learned and corrupted questions: RUN_DIR/questions.csv, written at the end of a run (METRICS.md) or, for killed and
older runs, by `report.py --questions` from the dumps."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

from co_rewarding.algo.equivalence.relation import MODES, Equivalence
from co_rewarding.monitoring.questions import OUTCOMES, changed_questions, to_csv
from co_rewarding.storage.dumps import dumps
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.report.runs import Run, setting


def with_questions(run: Run, run_dir: Path, anew: bool) -> Run:
    """`run` with the outcomes of its questions.

    Args:
        anew: make the table from the dumps.

    Raises:
        ValueError: a dump is broken, or the table is invalid.
    """
    layout = RunDir(run_dir)
    if anew:
        mode = setting(layout, "equivalence", "math")
        with Equivalence(mode if mode in MODES else "math") as equivalence:
            changes = changed_questions(dumps(layout, max(run.steps)), equivalence)
        atomic_write_text(layout.questions, to_csv(changes))
    return replace(run, questions=outcomes(layout.questions)) if layout.questions.is_file() else run


def outcomes(table: Path) -> dict[str, Counter[str]]:
    """Set of questions → outcome → count."""
    found: dict[str, Counter[str]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row.get("outcome") not in OUTCOMES or not row.get("set"):
                raise ValueError(f"{table}: not a table of questions; remove it, or recreate it with --questions")
            found.setdefault(row["set"], Counter())[row["outcome"]] += 1
    return found
