# SPDX-License-Identifier: Apache-2.0
"""The difference of two scores on the same questions, and its 95 % interval.

    d_P = share of right responses of a to a question − share of b's
    difference = mean of d_P, interval = the bootstrap's over the P questions (co_rewarding/tools/bootstrap.py)

Two models find the same questions hard, so this interval is smaller than the unpaired one, which is used if responses
are missing or the questions differ: ± 1.96 sqrt(error_a² + error_b²). Neither covers another training run of the same
method.

The responses are those of graded/TASK.jsonl beside results.json, up to the number recorded there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

from co_rewarding.storage.files import parse_jsonl
from co_rewarding.tools.bootstrap import interval
from co_rewarding.tools.cli import UserError

_ERRORS_OF_95_PERCENT = NormalDist().inv_cdf(0.975)  # 1.96


@dataclass(frozen=True)
class Difference:
    """a − b, shares from −1 to 1."""

    value: float
    bounds: tuple[float, float] | None  # of the 95 % interval; None: unknown
    questions: int | None  # answered by both; None: not paired

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.bounds is not None and not self.bounds[0] <= 0 <= self.bounds[1]


def difference(a: tuple[Path, dict[str, Any]], b: tuple[Path, dict[str, Any]], task: str) -> Difference:
    """The difference of two results (contents of results.json) in one task's primary number."""
    if (found := _paired(a[0].parent, b[0].parent, task)) is not None:
        return found
    score_a, score_b = (
        entry["accuracy"][entry["primary"]] for entry in (result["tasks"][task] for _, result in (a, b))
    )
    value, errors = score_a["value"] - score_b["value"], (score_a["standard_error"], score_b["standard_error"])
    if None in errors:
        return Difference(value, None, None)
    half = _ERRORS_OF_95_PERCENT * math.hypot(*errors)
    return Difference(value, (value - half, value + half), None)


@cache  # used by several tables
def _paired(a: Path, b: Path, task: str) -> Difference | None:
    """None if they did not answer the same questions."""
    shares_a, shares_b = right_shares(a, task), right_shares(b, task)
    if not shares_a or shares_a.keys() != shares_b.keys():
        return None
    found = interval({task: shares_a}, {task: shares_b})
    return Difference(found.value, (found.low, found.high), found.num_questions)


@cache
def right_shares(folder: Path, task: str) -> dict[Any, float]:
    """(row, question) → share of right responses; {} if the file is missing."""
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
