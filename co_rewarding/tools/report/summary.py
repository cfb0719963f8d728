# SPDX-License-Identifier: Apache-2.0
"""A run as a table with one example: accuracies with their 95 % intervals, and who was rewarded for what.

The intervals are the bootstrap's over the held-out questions (co_rewarding/tools/bootstrap.py), that of the difference
between two validations over the same questions; they do not cover another run of the same method.

Missing metrics are "–", never 0. Answers are not graded here: the dump has the verdicts.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from co_rewarding.monitoring.duration import duration
from co_rewarding.tools.bootstrap import Interval
from co_rewarding.tools.cli import printable
from co_rewarding.tools.report.runs import STEP_TIME, Rollout, Run
from co_rewarding.tools.report.verdicts import paired_interval
from co_rewarding.tools.tables import ABSENT

ENDS = {"label accuracy": "label/accuracy", "groups with a label": "label/share", "reward mean": "reward/mean"}
"""Rows of the table that compare the first steps with the last → their metrics."""


HELD_OUT = {
    "agreement": "agreement",
    "views_agree": "views agree",
    "stability": "answers as last time",
    "answer_share": "responses with an answer",
}
"""Label-free numbers of held-out questions (co_rewarding.monitoring.held_out) → their names in the table."""


def rewards_without_label(rollouts: Iterable[Rollout]) -> bool:
    """Whether a dump's method has no labels (self_certainty, random ...): no rollout has one, but one earned a
    reward."""
    rollouts = list(rollouts)
    return all(rollout.label is None for rollout in rollouts) and any(rollout.reward for rollout in rollouts)


def summary(run: Run) -> dict[str, str]:
    """Row name → text of the table for one run; "–" for metrics never logged."""
    rows: dict[str, str] = {}
    unknown = {} if run.held_out("answer_share") else {"": ""}  # a run without ground truths lacks no accuracy
    for source, metric in (run.accuracy_metrics or unknown).items():
        suffix = f", {source}" if len(run.accuracy_metrics) > 1 else ""
        rows |= _accuracies(run, metric, suffix)
        if not suffix:
            n = run.num_questions(metric)
            rows["held-out questions"] = f"{n} ({source})" if n else ABSENT
    for name, words in HELD_OUT.items():
        for source, metric in run.held_out(name).items():
            rows[f"held-out {words}" + (f", {source}" if len(run.held_out(name)) > 1 else "")] = _curve(run, metric)
    for name, subset in (run.subsets or {}).items():
        rows |= _accuracies(run, subset.metric, f", {name} ({subset.num_questions})")
        rows[f"right labels, {name}"] = right_labels(subset.right_labels, subset.num_labels)
    for name, outcomes in (run.questions or {}).items():
        rows |= _questions(name, outcomes)
    rows |= {f"{name} *": first_and_last(run.series(metric)[1]) for name, metric in ENDS.items()}
    trained, seconds = run.series(STEP_TIME)
    rows["steps done"] = str(len(trained))
    if trained and trained[-1] != len(trained):
        rows["steps done"] += f" (the last is step {trained[-1]})"
    if run.starts > 1:
        rows["steps done"] += f", in {run.starts} starts"
    rows["time per step"] = f"{sum(seconds) / len(seconds):.1f} s" if seconds else ABSENT
    rows["training time"] = duration(sum(seconds)) if seconds else ABSENT
    return rows


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per quantity, one column per run; texts."""
    columns = [summary(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    cells = [[name, *(column.get(name, ABSENT) for column in columns)] for name in names]
    return pd.DataFrame(cells, columns=["", *distinct_names(runs)])


def as_text(table: pd.DataFrame) -> str:
    """A table with aligned columns, for a terminal; names are made safe to print."""
    clean = table.rename(columns=lambda name: printable(name, 60)).map(lambda text: printable(text, 200))
    return clean.to_markdown(index=False, tablefmt="simple", disable_numparse=True)


def legend(
    runs: Sequence[Run], metrics: Iterable[str] = ENDS.values(), nums_starts: Collection[int] | None = None
) -> str:
    """The legend of `table`; the number of steps in a mean depends on the run's length.

    Args:
        nums_starts: starts behind each interval, if not of one run.
    """
    curves = [run.series(metric)[1] for metric in metrics for run in runs]
    windows = sorted({window_of(values) for values in curves if values})
    means = "* mean of the first {0} → of the last {0} steps, " if windows[-1:] != [1] else "* first step → last step, "
    starts = set(nums_starts if nums_starts is not None else (run.num_starts for run in runs)) - {0}
    intervals = f"[] 95 % interval over {over(starts)}, " if starts else ""
    return (means.format(" or ".join(map(str, windows))) if windows else "") + f"{intervals}– not logged"


def over(nums_starts: Collection[int]) -> str:
    """What the intervals of runs cover."""
    several = sorted(set(nums_starts) - {1})
    parts = ["questions"] * (1 in nums_starts) + [f"{' or '.join(map(str, several))} seeds and their questions"] * bool(
        several
    )
    return " or ".join(parts)


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """The runs' names, numbered if repeated."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    ]


def window_of(values: Sequence[float]) -> int:
    """Numbers of first and of last values to compare, in windows that do not overlap."""
    return max(1, min(3, len(values) // 2))


def ends(values: Sequence[float]) -> tuple[float, ...]:
    """Means of the first and of the last values of a curve; for a single value only that value."""
    window = window_of(values)
    parts = (values[:window], values[-window:])[: len(values)]
    return tuple(sum(part) / window for part in parts)


def first_and_last(values: Sequence[float]) -> str:
    """ "0.656 → 0.906" """
    return " → ".join(f"{end:.3f}" for end in ends(values)) or ABSENT


def right_labels(right: int, total: int) -> str:
    return f"{right} of {total}" if total else ABSENT


def with_interval(value: float, of: Interval | None, sign: str = "") -> str:
    """ "0.616 [0.555, 0.676]"; of a difference, sign "+": "+0.050 [−0.010, +0.110]" """
    bounds = "" if of is None else f" [{of.low:{sign}.3f}, {of.high:{sign}.3f}]"
    return f"{value:{sign}.3f}{bounds}".replace("-", "−")


def _accuracies(run: Run, metric: str, suffix: str) -> dict[str, str]:
    points = list(zip(*run.series(metric), strict=True))
    ends = dict.fromkeys((points[0], points[-1])) if points else ()
    texts = [f"{with_interval(value, run.interval(metric, step))} (step {step})" for step, value in ends]
    difference = ABSENT
    if len(points) > 1:
        (before, first), (after, last) = points[0], points[-1]
        of_both = paired_interval(run.verdicts_at(metric, after), run.verdicts_at(metric, before))
        difference = with_interval(last - first, of_both, "+")
    return {
        f"accuracy before{suffix}": texts[0] if texts else ABSENT,
        f"accuracy after{suffix}": texts[-1] if len(texts) > 1 else ABSENT,
        f"difference{suffix}": difference,
    }


def _questions(name: str, outcomes: Mapping[str, int]) -> dict[str, str]:
    """Outcomes of one set's questions: of those with a ground truth, and of the others."""
    known, others = (
        sum(outcomes.get(outcome, 0) for outcome in which)
        for which in (("learned", "corrupted", "right", "wrong"), ("changed", "same", "unanswered"))
    )
    learned, corrupted, changed = (outcomes.get(outcome, 0) for outcome in ("learned", "corrupted", "changed"))
    rows = {f"{name} questions learned, corrupted": f"{learned}, {corrupted} of {known}"} if known else {}
    return rows | ({f"{name} questions with another answer": f"{changed} of {others}"} if others else {})


def _curve(run: Run, metric: str) -> str:
    """ "0.250 (step 0) → 0.750 (step 8)" """
    points = list(zip(*run.series(metric), strict=True))
    return " → ".join(f"{value:.3f} (step {step})" for step, value in dict.fromkeys((points[0], points[-1])))


# --- an example


def example(step: int, rollouts: Sequence[Rollout], width: int = 100) -> str:
    """One question of a rollout dump in all its views: who answered what, how often, and the rewards.

    It is the first question among those with the most groups that have both a rewarded and an unrewarded rollout, since
    a group with equal rewards teaches nothing. Equal answers are counted as written. Model text is shortened and
    stripped of control characters. At most about 20 lines; "" without rollouts.
    """
    questions: dict[str, dict[tuple[str, str], list[Rollout]]] = {}
    for rollout in rollouts:
        groups = questions.setdefault(rollout.question, {})
        groups.setdefault((rollout.view, rollout.voter), []).append(rollout)
    if not questions:
        return ""

    def mixed_groups(groups: dict[tuple[str, str], list[Rollout]]) -> int:
        return sum(len({rollout.reward for rollout in group} - {None}) > 1 for group in groups.values())

    chosen, groups = max(questions.items(), key=lambda item: mixed_groups(item[1]))  # the first of ties
    truth = next(iter(groups.values()))[0].ground_truth
    lines = [
        f"Example: question {printable(chosen, 30)} of step {step}"
        + (f", ground truth {printable(truth, 40)}" if truth is not None else "")
    ]
    num_answers = 4 if len(groups) <= 2 else 2
    no_label = "rewarded without a label" if rewards_without_label(rollouts) else "no label: all earn 0"
    shown_view = None
    for (view, voter), group in sorted(groups.items()):
        if view != shown_view:
            head, shown_view = f"{printable(view, 20)}: ", view
            prompt = printable(group[0].prompt, 280, keep_end=True)
            lines += textwrap.wrap(f"{head}{prompt}", width, subsequent_indent=" " * len(head))
        lines += _tally(printable(voter, 20), group, num_answers, no_label)
    return "\n".join(lines)


def _tally(voter: str, group: Sequence[Rollout], num_answers: int, no_label: str) -> list[str]:
    counts = Counter((rollout.answer, rollout.reward) for rollout in group)
    label = group[0].label
    heading = f"  {len(group)} rollouts of the {voter}"
    if only_vote := sum(rollout.only_votes for rollout in group):
        heading += f", of which {only_vote} only vote"
    if stopped := sum(rollout.stopped for rollout in group):
        heading += f", of which {stopped} were stopped when the vote was decided"
    if all(rollout.reward is None for rollout in group):
        heading += ", which only vote"
    else:
        if label is None and any(rollout.reward for rollout in group):
            no_label = "rewarded without a label"  # as in the payout negative if few agree
        heading += f", {no_label}" if label is None else f", rewarded by the label {printable(label, 40)}"
    lines = [heading]
    shown = counts.most_common(num_answers)
    texts = ["no answer" if answer is None else printable(answer, 40) for (answer, _), _ in shown]
    for text, ((_, reward), count) in zip(texts, shown, strict=True):
        earned = "" if reward is None else f"  reward {reward:g}"
        lines.append(f"    {count:>3} × {text.ljust(max(map(len, texts)))}{earned}".rstrip())
    if len(counts) > num_answers:
        rest = sum(counts.values()) - sum(count for _, count in shown)
        lines.append(f"    {rest:>3} × other answers")
    return lines
