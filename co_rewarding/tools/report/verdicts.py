# SPDX-License-Identifier: Apache-2.0
"""Verdicts on held-out questions from a run's validation dumps, and the resulting intervals.

A question is identified by its prompt; several responses give a share. The start of a run is the seed in its name
(METHOD_seedN), so runs of several methods are compared on the same (start, question).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from statistics import fmean
from sys import intern

from co_rewarding.storage.dumps import HELD_OUT, dumps
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.bootstrap import Interval, Verdicts, interval

SEED = re.compile(r"(?P<method>.+)_seed(?P<seed>\d+)")


def right_shares(run: RunDir, steps: Collection[int]) -> dict[int, dict[str, float]]:
    """Step → question → share of right responses, for `steps` with a dump, without questions that lack a ground truth.

    Raises:
        ValueError: a dump is broken; names file and line.
    """
    found = {}
    for step, rows in dumps(run, max(steps, default=-1))[HELD_OUT]:
        if step in steps:
            verdicts: dict[str, list[float]] = {}
            for row in rows:
                match row:
                    case {"acc": int() | float() as right, "gts": gts} if gts not in (None, "") and 0 <= right <= 1:
                        verdicts.setdefault(intern(str(row.get("input"))), []).append(right)
            found[step] = {question: fmean(of_question) for question, of_question in verdicts.items()}
    return found


def start_of(run_name: str) -> str:
    """The key shared by runs of one start; a run without a seed in its name has its own."""
    named = SEED.fullmatch(run_name)
    return named["seed"] if named else run_name


def merged(verdicts: Iterable[Verdicts]) -> Verdicts:
    """The verdicts of several runs."""
    return {start: of_start for of_run in verdicts for start, of_start in of_run.items()}


def paired_interval(a: Verdicts, b: Verdicts) -> Interval | None:
    """Estimate of a − b on the starts of both; None if they share none, or not the same questions."""
    common = [start for start, of_start in a.items() if of_start and of_start.keys() == b.get(start, {}).keys()]
    return interval({start: a[start] for start in common}, {start: b[start] for start in common}) if common else None
