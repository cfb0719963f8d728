# SPDX-License-Identifier: Apache-2.0
"""Label-free signs of a run, compared with the fall of its accuracy.

    goes wrong    the run has a collapse (benchmarks/natural/summary.py): accuracy falls two standard errors below its
                  peak and stays there; the step is known to VALIDATE_EVERY steps. Runs below only at the last
                  validation are left out
    in time       the sign's first step is the one of the collapse or before
    late          it is after it
    false         a sign in a run that does not go wrong
    ahead         collapse − first step, in steps, of the signs in time; the median
    going back    accuracy at the last validation before a sign − accuracy at the end, in points, mean of the runs
                  with the sign: the gain (+) or loss (−) of going back and stopping

An uninformative sign would be in time as often as it is false. The project's own signs are computed by its
CollapseMonitor, with their declared bounds. A candidate is a kind of sign with several bounds; the bound with the
largest (share in time − share false) on even-numbered starts is chosen, the first of ties. All signs are judged on
odd-numbered starts. Combined signs are not fitted: there are too few runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import pandas as pd

from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.monitoring.alarms import SIGNALS, CollapseMonitor, Condition, Signal
from co_rewarding.monitoring.questions import SURE
from co_rewarding.tools.tables import ABSENT, to_markdown

from .summary import LAST, Runs, under_best

ERRORS = (1.0, 2.0, 3.0)
"""Standard errors, paired over questions, by which a share of held-out questions falls below its best."""
HELD_OUT = (
    "held-out `views_agree` under its best",
    "held-out `stability` under its best",
    "accuracy on every third held-out question under its best (needs labels)",
)
"""Of greedy answers. The last one uses labels, and is not independent of the collapse, which uses all questions."""
REWARD_UP = ", `reward/mean` up since"
BINS = {"up to 3 of 8": (0, 0.4), "4 or 5": (0.4, 0.7), "6 or 7": (0.7, 0.9), "all": (0.9, 1.1)}
"""Of agreement: at least, below."""

WINDOWS = (5, 25)
"""Steps of a candidate's mean; the project's own signs have the first, which is 40 questions here."""
SURE_FLIPS, BY_RISE = "bench/sure_flips", (0.0, 0.05, 0.1, 0.2)


def _kind(metric: str, kind: str, values: Iterable[float], *also: Condition) -> dict[str, tuple[Condition, ...]]:
    """One condition with several bounds, together with fixed conditions."""
    return {f"{value:g}": (Condition(metric, **{kind: value}), *also) for value in values}


CANDIDATES: dict[str, dict[str, tuple[Condition, ...]]] = {
    "`collapse/agreement` at least": _kind("collapse/agreement", "at_least", (0.98, 0.95, 0.9, 0.85, 0.8)),
    "`reward/mean` up by": _kind("reward/mean", "rise", (0.5, 0.4, 0.3, 0.2, 0.1)),
    "`collapse/length` at most, of its start": _kind(
        "collapse/length", "share_of_start", (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    ),
    "`collapse/agreement` up, `collapse/length` at most, of its start": _kind(
        "collapse/length", "share_of_start", (0.5, 0.6, 0.7, 0.8, 0.9, 0.95), Condition("collapse/agreement", rise=0.0)
    ),
    "`collapse/answer_entropy` at most, of its start": _kind(
        "collapse/answer_entropy", "share_of_start", (0.7, 0.8, 0.9, 0.95)
    ),
    "`actor/entropy` at most, of its start": _kind("actor/entropy", "share_of_start", (0.1, 0.2, 0.3, 0.5)),
    "`actor/kl_loss` at least": _kind("actor/kl_loss", "at_least", (0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)),
    "`collapse/label_flips` at least": _kind("collapse/label_flips", "at_least", (0.5, 0.4, 0.3, 0.25, 0.2, 0.15)),
    "`collapse/label_flips` up by": _kind("collapse/label_flips", "rise", reversed(BY_RISE)),
    f"sure answers (agreement ≥ {SURE:g}) that changed, at least": _kind(
        SURE_FLIPS, "at_least", (0.4, 0.3, 0.2, 0.15, 0.1, 0.05)
    ),
    f"sure answers (agreement ≥ {SURE:g}) that changed, up by": _kind(SURE_FLIPS, "rise", reversed(BY_RISE)),
    "`label/views_agree` down by": _kind("label/views_agree", "fall", reversed(BY_RISE)),
    "`collapse/agreement` up, `label/views_agree` down by": _kind(
        "label/views_agree", "fall", reversed(BY_RISE), Condition("collapse/agreement", rise=0.0)
    ),
    "`label/voters_agree` down by": _kind("label/voters_agree", "fall", reversed(BY_RISE)),
}


KINDS = {
    kind: [f"{bound}, {window} steps" for bound in of_bound for window in WINDOWS]
    for kind, of_bound in CANDIDATES.items()
} | {kind + more: [f"{errors:g} SE" for errors in reversed(ERRORS)] for kind in HELD_OUT for more in ("", REWARD_UP)}


@dataclass(frozen=True)
class Watched:
    """One run: when it went wrong, and when each sign first held."""

    arm: str
    start: int
    collapse: int | None
    accuracy: Mapping[int, float]  # by validated step
    seen: Mapping[str, int]

    def gain(self, sign: str) -> float:
        """Accuracy at the last validation before the sign − at the end."""
        before = max(step for step in self.accuracy if step < self.seen[sign])
        return self.accuracy[before] - self.accuracy[max(self.accuracy)]


def watched(arms: Mapping[str, Runs]) -> list[Watched]:
    found = []
    for name, runs in arms.items():
        accuracies = {step: runs.accuracy(step) for step in runs.validated}
        for start, collapse in zip(runs.verdicts, runs.collapse_steps(), strict=True):
            rows = runs.metrics[start].merge(sure_flips(runs.groups[start]), on="step", how="left")
            accuracy = {step: fmean(of_start[start].values()) for step, of_start in accuracies.items()}
            seen = first_steps(rows, SIGNALS) | held_out_steps(runs.verdicts[start], rows)
            for window in WINDOWS:
                seen |= first_steps(rows, _candidates(window), window)
            if collapse != runs.last:
                found.append(Watched(name, start, collapse, accuracy, seen))
    return found


def _candidates(window: int) -> list[Signal]:
    return [
        Signal(f"{kind} {bound}, {window} steps", "", "", conditions)
        for kind, of_bound in CANDIDATES.items()
        for bound, conditions in of_bound.items()
    ]


def first_steps(rows: pd.DataFrame, signals: Sequence[Signal], window: int = WINDOWS[0]) -> dict[str, int]:
    """Sign → the first step at which it holds."""
    logged = {
        row["step"]: {name: value for name, value in row.items() if value == value} for row in rows.to_dict("records")
    }
    found = CollapseMonitor(window, signals=signals).first_steps(logged)
    return {signal.name: step for signal, step in found.items()}


def sure_flips(groups: pd.DataFrame) -> pd.DataFrame:
    """By step: share of groups whose previously sure majority answer has changed. Answers are compared by spelling."""
    ordered = groups.sort_values("step", kind="stable")
    last = ordered.groupby(["question", "view"])[["majority", "agreement"]].shift()
    was_sure = ordered.assign(changed=last.majority != ordered.majority)[last.agreement >= SURE]
    return was_sure.groupby("step").changed.mean().rename(SURE_FLIPS).reset_index()


def held_out_steps(verdicts: pd.DataFrame, rows: pd.DataFrame) -> dict[str, int]:
    """Sign of the held-out questions' answers → the first validation at which it holds."""
    greedy = verdicts[verdicts.how == "greedy"]
    original, rephrased = (
        greedy[greedy.view == view].pivot(index="question", columns="step", values="answer") for view in VIEWS
    )
    right = greedy.pivot_table(index="question", columns="step", values="right", aggfunc="mean").astype(float)
    shares = (
        (original == rephrased).astype(float),
        (original == original.shift(axis=1)).astype(float).iloc[:, 1:],
        right.iloc[::3],
    )
    reward = rows.set_index("step")["reward/mean"]

    def reward_at(step: int) -> float:
        return reward[(reward.index > step - LAST) & (reward.index <= max(step, LAST))].mean()

    found: dict[str, int] = {}
    for kind, share in zip(HELD_OUT, shares, strict=True):
        for errors in ERRORS:
            for best, step in under_best(share, errors):
                found.setdefault(f"{kind} {errors:g} SE", step)
                if reward_at(step) > reward_at(best):
                    found.setdefault(f"{kind}{REWARD_UP} {errors:g} SE", step)
    return found


@dataclass(frozen=True)
class Counts:
    """Statistics of a sign over runs."""

    ahead: list[int]  # steps, of those in time
    late: int
    wrong: int  # runs that go wrong
    false: int
    sound: int  # runs that do not
    gains: tuple[list[float], list[float]]  # of going back, runs that go wrong and that do not

    @property
    def worth(self) -> float:
        """Share in time − share false."""
        return len(self.ahead) / max(self.wrong, 1) - self.false / max(self.sound, 1)


def count(runs: Sequence[Watched], sign: str) -> Counts:
    wrong, sound = [run for run in runs if run.collapse is not None], [run for run in runs if run.collapse is None]
    ahead = [run.collapse - run.seen[sign] for run in wrong if sign in run.seen]
    return Counts(
        [steps for steps in ahead if steps >= 0],
        sum(steps < 0 for steps in ahead),
        len(wrong),
        sum(sign in run.seen for run in sound),
        len(sound),
        tuple([run.gain(sign) for run in some if sign in run.seen] for some in (wrong, sound)),
    )


def signs_table(arms: Mapping[str, Runs]) -> str:
    """The project's signs and the candidates, and outcomes of questions by the agreement of their first visit."""
    runs = watched(arms)
    judged, chosen_on = ([run for run in runs if run.start % 2 == rest] for rest in (1, 0))
    silent = [signal.name for signal in SIGNALS if not any(signal.name in run.seen for run in runs)]
    rows = [
        _row(f"`{signal.name}`" + " (needs labels)" * signal.needs_labels, ABSENT, judged, signal.name)
        for signal in SIGNALS
        if signal.name not in silent
    ]
    useless = []
    for kind, values in KINDS.items():
        worth = {value: count(chosen_on, f"{kind} {value}").worth for value in values}
        best = max(values, key=worth.__getitem__)
        if worth[best] > 0:
            rows.append(_row(kind, best, judged, f"{kind} {best}"))
        else:
            useless.append(kind)
    return "\n\n".join(
        (
            f"Judged on {_counted(judged)}. Bounds of candidates were chosen on {_counted(chosen_on)}.",
            to_markdown(pd.DataFrame(rows)),
            f"Project signs that never appeared in the {len(runs)} runs: " + ", ".join(f"`{name}`" for name in silent),
            "Candidates without a bound more often in time than false on the choosing starts: " + "; ".join(useless),
            "### Learned and corrupted questions (needs labels)\n\nQuestions of training, original wording, by how "
            "many answers were equal at their first visit: percent learned / corrupted at the last (how many).",
            first_visits_table(arms),
        )
    )


def first_visits_table(arms: Mapping[str, Runs]) -> str:
    """With labels: learned and corrupted questions of training by the agreement of their first visit."""
    rows = []
    for name, runs in arms.items():
        tables = [table[table.view == VIEWS[0]].sort_values("step") for table in runs.groups.values()]
        ends = pd.concat([_ends(table) for table in tables])
        row = {"arm": name}
        for words, (least, below) in BINS.items():
            some = ends[(ends.agreement >= least) & (ends.agreement < below)]
            learned = ~some.majority_right.astype(bool) & some.majority_right_last.astype(bool)
            corrupted = some.majority_right.astype(bool) & ~some.majority_right_last.astype(bool)
            row[words] = (
                f"{100 * learned.mean():.0f} / {100 * corrupted.mean():.0f} ({len(some)})" if len(some) else None
            )
        rows.append(row)
    return to_markdown(pd.DataFrame(rows))


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each question that was visited twice: its first visit, and its last one's columns as NAME_last."""
    first, last = (table.drop_duplicates("question", keep=end).set_index("question") for end in ("first", "last"))
    ends = first.join(last.add_suffix("_last"))
    return ends[ends.step < ends.step_last]


def _counted(runs: Sequence[Watched]) -> str:
    wrong = sum(run.collapse is not None for run in runs)
    starts = ", ".join(map(str, sorted({run.start for run in runs}))) or "none"
    return f"{len(runs)} runs (starts {starts}), of which {wrong} go wrong"


def _row(sign: str, bound: str, runs: Sequence[Watched], key: str) -> dict[str, str]:
    found = count(runs, key)
    return {
        "sign": sign,
        "bound": bound,
        "in time": f"{len(found.ahead)} of {found.wrong}",
        "ahead (steps)": f"{median(found.ahead):.0f}" if found.ahead else ABSENT,
        "late": str(found.late),
        "false": f"{found.false} of {found.sound}",
        "going back, where it goes wrong": _points(found.gains[0]),
        "and elsewhere": _points(found.gains[1]),
    }


def _points(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):+.1f}".replace("-", "−") if shares else ABSENT
