# SPDX-License-Identifier: Apache-2.0
"""The difference of two scores on the same questions, and how far off it may be by chance.

    d_p = share of right responses of a to question p − share of b's
    difference = mean of d_p,  standard error = s / √P, s the standard deviation (P − 1) of the P differences

Two models find the same questions hard, so this error is smaller than that of unpaired scores, which stands in where
the responses are gone or the questions are not the same: sqrt(error_a² + error_b²).

The responses are those of graded/TASK.jsonl beside results.json, as many as that says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from co_rewarding.storage.files import parse_jsonl
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation.estimates import mean_of_questions


@dataclass(frozen=True)
class Difference:
    """a − b, shares from −1 to 1."""

    value: float
    standard_error: float | None
    questions: int | None  # that both answered; None: not paired

    @property
    def is_clear(self) -> bool:
        """Further from 0 than two standard errors."""
        return self.standard_error is not None and abs(self.value) > 2 * self.standard_error


def difference(a: tuple[Path, dict[str, Any]], b: tuple[Path, dict[str, Any]], task: str) -> Difference:
    """Of the primary numbers of one task of two results (results.json, its content)."""
    shares_a, shares_b = right_shares(a[0].parent, task), right_shares(b[0].parent, task)
    if shares_a and shares_a.keys() == shares_b.keys():
        found = mean_of_questions([shares_a[question] - shares_b[question] for question in shares_a])
        return Difference(found.value, found.standard_error, len(shares_a))
    score_a, score_b = (
        entry["accuracy"][entry["primary"]] for entry in (result["tasks"][task] for _, result in (a, b))
    )
    errors = score_a["standard_error"], score_b["standard_error"]
    return Difference(score_a["value"] - score_b["value"], None if None in errors else math.hypot(*errors), None)


@cache
def right_shares(folder: Path, task: str) -> dict[Any, float]:
    """(row, question) → share of its responses that are right; {} where they are not there."""
    path = folder / "graded" / f"{task}.jsonl"
    if not path.is_file():
        return {}
    verdicts: dict[Any, list[bool]] = {}
    for row in parse_jsonl(path.read_bytes(), str(path))[0]:
        match row:
            case {"index": int(index), "question": str(question), "correct": bool(correct)}:
                verdicts.setdefault((index, question), []).append(correct)
            case {"correct": None}:
                pass  # no ground truth
            case _:
                raise UserError(f"{path}: a line without index, question and correct; evaluate again")
    return {question: fmean(found) for question, found in verdicts.items()}
