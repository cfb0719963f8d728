# SPDX-License-Identifier: Apache-2.0
"""Results of the finished runs: numbers with 95 % intervals over (start, question), and verdicts on the claims.

    accuracy    greedy, held-out questions, both wordings
    learned     held-out questions that are wrong before and right at the last step, in the original wording, greedy
    corrupted   right before, wrong at the last step
    collapse    the first validation from which accuracy stays two standard errors (paired, over questions) below its
                earlier maximum; of one start

The accuracy of a step is one number of one start and question: the mean over its two wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pandas as pd

from co_rewarding.tools.bootstrap import Interval
from co_rewarding.tools.report.verdicts import paired_interval

from .arms import ARMS, CLAIMS, Claim

LAST = 25  # steps at the end, over which noisy metrics are averaged

Shares = dict[int, dict[str, float]]
"""Start → question → a share."""


@dataclass(frozen=True)
class Runs:
    """Of one regime and arm: tables by start."""

    metrics: Mapping[int, pd.DataFrame]
    groups: Mapping[int, pd.DataFrame]
    verdicts: Mapping[int, pd.DataFrame]

    @property
    def last(self) -> int:
        return int(next(iter(self.verdicts.values()))["step"].max())

    @property
    def validated(self) -> list[int]:
        return sorted(next(iter(self.verdicts.values()))["step"].unique())

    def accuracy(self, step: int, how: str = "greedy") -> Shares:
        return {
            start: table[(table.step == step) & (table.how == how)].groupby("question").right.mean().to_dict()
            for start, table in self.verdicts.items()
        }

    def changed(self, before: bool, after: bool) -> Shares:
        """1 for questions with this verdict before and after, else 0."""
        found = {}
        for start, table in self.verdicts.items():
            table = table[(table.how == "greedy") & (table.view == "original")]
            first, last = (table[table.step == step].set_index("question").right for step in (0, self.last))
            found[start] = ((first == before) & (last == after)).astype(float).to_dict()
        return found

    def mean(self, metric: str, step: int) -> Shares:
        """A metric's mean over LAST steps that end with `step`, as a share of each start."""
        return {
            start: {metric: float(table[(table.step > step - LAST) & (table.step <= step)][metric].mean())}
            for start, table in self.metrics.items()
        }

    def label_accuracy(self) -> dict[int, float]:
        """Of the last steps, of the original wordings alone; NaN for an arm without labels."""
        return {
            start: table[(table.step > self.last - LAST) & (table.view == "original")].label_right.astype(float).mean()
            for start, table in self.groups.items()
        }

    def collapse_steps(self) -> list[int | None]:
        """Of each start; None: it stays up."""
        return [collapse_step(table) for table in self.verdicts.values()]


def of_starts(folder: Path, name: str) -> dict[int, Path]:
    """Start → its file or folder of that name in a regime's folder, in the order of the starts' numbers."""
    return dict(sorted((int(path.parent.name.removeprefix("start")), path) for path in folder.glob(f"start*/{name}")))


def load(folder: Path) -> dict[str, Runs]:
    """The finished arms of a regime, in order, with their finished starts."""
    arms = {}
    for name in ARMS:
        if found := of_starts(folder, name):
            arms[name] = Runs(
                *(
                    {start: pd.read_parquet(path / f"{table}.parquet") for start, path in found.items()}
                    for table in ("metrics", "groups", "verdicts")
                )
            )
    return arms


def collapse_step(table: pd.DataFrame) -> int | None:
    """Of one start's verdicts."""
    greedy = table[table.how == "greedy"]
    by_step = greedy.pivot_table(index="question", columns="step", values="right", aggfunc="mean").astype(float)
    low = {step for _, step in under_best(by_step, errors=2)}
    fallen = list(takewhile(low.__contains__, reversed(by_step.columns)))
    return fallen[-1] if fallen else None


def under_best(shares: pd.DataFrame, errors: float) -> list[tuple[int, int]]:
    """(step of the best, step) for each step at which the mean is `errors` standard errors under its best before.

    shares: question x step.
    """
    found, best = [], shares.columns[0]
    for step in shares.columns[1:]:
        lost = shares[best] - shares[step]
        if lost.mean() > errors * lost.std() / len(lost) ** 0.5:
            found.append((best, step))
        elif lost.mean() < 0:
            best = step
    return found


def judge(claim: Claim, arms: Mapping[str, Runs]) -> Interval | None:
    """`better` − `worse`; None: one of them is missing."""

    def shares(what: str) -> Shares | None:
        name, _, step = what.partition("@")
        if name not in arms:
            return None
        runs, at = arms[name], int(step) if step else arms[name].last
        of: dict[str, Callable[[], Shares]] = {
            "accuracy": lambda: runs.accuracy(at),
            "reward": lambda: runs.mean("reward/mean", at),
            "corrupted": lambda: runs.changed(before=True, after=False),
        }
        return of[claim.of]()

    better, worse = shares(claim.better), shares(claim.worse)
    if better is None or worse is None:
        return None
    return paired_interval(better, worse)


def verdict(found: Interval | None) -> str:
    if found is None:
        return "not run"
    return "holds" if found.low > 0 else "refuted" if found.high < 0 else "undecided"


def judged(arms: Mapping[str, Runs]) -> list[tuple[Claim, Interval | None]]:
    return [(claim, judge(claim, arms)) for claim in CLAIMS]
