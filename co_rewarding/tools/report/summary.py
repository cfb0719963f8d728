# SPDX-License-Identifier: Apache-2.0
"""A run in a table and in one example: accuracies with their standard errors, and who was rewarded for what.

    accuracy p of n held-out questions: standard error = sqrt(p (1 − p) / n)
    difference of two accuracies:       standard error = sqrt(se_before² + se_after²)

The second takes the two validations as independent. They ask the same questions, which makes the true error of the
difference smaller, so the number printed is on the safe side. With k responses a question (mean@k) n still counts
questions, because responses to one question are not independent; that too is on the safe side.

What a run did not log is "–", never 0. Answers are not judged here: the dump already holds the verdicts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from co_rewarding.tools.cli import printable
from co_rewarding.tools.report.runs import STEP_TIME, Run, is_number

ABSENT = "–"


def standard_error(p: float, n: int) -> float:
    """Standard error of the share `p` (0–1) seen in `n` independent trials."""
    return math.sqrt(max(p * (1 - p), 0.0) / n)


def trailing_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and up to `window` − 1 before it."""
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i + 1 - window) : i + 1])]


def rewards_without_label(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a dump is of a method that compares with no label (self_certainty, random ...): a rollout without one
    earned something. Where a method has labels, a group without one earns 0."""
    return any(row.get("label") is None and is_number(row.get("reward")) and row["reward"] != 0 for row in rows)


def summary(run: Run) -> dict[str, str]:
    """Row name → text of the table for one run; rows of a metric that was never logged are "–"."""
    rows: dict[str, str] = {}
    for source, metric in (run.accuracy_metrics or {"": ""}).items():
        suffix = f", {source}" if len(run.accuracy_metrics) > 1 else ""
        steps, values = run.series(metric)
        n = run.num_questions(metric)
        errors = [standard_error(value, n) if n else None for value in values]
        rows[f"accuracy before{suffix}"] = _accuracy(steps, values, errors, 0)
        rows[f"accuracy after{suffix}"] = _accuracy(steps, values, errors, -1) if len(steps) > 1 else ABSENT
        rows[f"difference{suffix}"] = ABSENT
        if len(steps) > 1:
            error = None if errors[0] is None or errors[-1] is None else math.hypot(errors[0], errors[-1])
            rows[f"difference{suffix}"] = f"{values[-1] - values[0]:+.3f}" + _plus_minus(error)
        if not suffix:
            rows["held-out questions"] = f"{n} ({source})" if n else ABSENT
    rows["label accuracy *"] = _first_and_last(run, "label/accuracy")
    rows["groups with a label *"] = _first_and_last(run, "label/share")
    rows["reward mean *"] = _first_and_last(run, "reward/mean")
    trained, seconds = run.series(STEP_TIME)
    rows["steps done"] = str(len(trained))
    if trained and trained[-1] != len(trained):
        rows["steps done"] += f" (the last is step {trained[-1]})"
    if run.starts > 1:
        rows["steps done"] += f", in {run.starts} starts"
    rows["time per step"] = f"{sum(seconds) / len(seconds):.1f} s" if seconds else ABSENT
    rows["training time"] = duration(sum(seconds)) if seconds else ABSENT
    return rows


def table(runs: Sequence[Run]) -> str:
    """Aligned text: one row a quantity, one column a run."""
    columns = [summary(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    cells = [["", *(run.name for run in runs)]]
    cells += [[name, *(column.get(name, ABSENT) for column in columns)] for name in names]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    legend = "* mean of the first 3 → mean of the last 3 steps     ± standard error     – not logged"
    return "\n".join([*lines, legend])


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 7 min 05 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _accuracy(steps: Sequence[int], values: Sequence[float], errors: Sequence[float | None], i: int) -> str:
    return f"{values[i]:.3f}{_plus_minus(errors[i])}  (step {steps[i]})" if steps else ABSENT


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {error:.3f}"


def ends(values: Sequence[float], window: int = 3) -> tuple[float, float]:
    """Means of the first and of the last `window` values of a curve."""
    first, last = values[:window], values[-window:]
    return sum(first) / len(first), sum(last) / len(last)


def _first_and_last(run: Run, metric: str) -> str:
    _, values = run.series(metric)
    if not values:
        return ABSENT
    first, last = ends(values)
    return f"{first:.3f} → {last:.3f}"


# --- an example


def example(rows: Sequence[Mapping[str, Any]], width: int = 100) -> str:
    """One question of a rollout dump in all its wordings: who answered what, how often, and what that earned.

    Taken is the first question of those whose groups most often hold both a rewarded and an unrewarded rollout, since a
    group with equal rewards teaches nothing. Equal answers are counted as written. Text of the model is shortened and
    stripped of control characters, so that it cannot act on a terminal. At most about 20 lines; "" without rows.
    """
    questions: dict[Any, dict[tuple[str, str], list[Mapping[str, Any]]]] = {}
    for row in rows:
        groups = questions.setdefault(row.get("question"), {})
        groups.setdefault((str(row.get("view")), str(row.get("voter"))), []).append(row)
    if not questions:
        return ""

    def mixed_groups(question: Any) -> int:
        return sum(len({row.get("reward") for row in group}) > 1 for group in questions[question].values())

    chosen = max(questions, key=mixed_groups)  # max keeps the first of equals
    groups = questions[chosen]
    any_row = next(iter(groups.values()))[0]
    truth = any_row.get("ground_truth")
    lines = [
        f"Example: question {printable(chosen, 30)} of step {any_row.get('step')}"
        + (f", ground truth {printable(truth, 40)}" if truth not in (None, "") else "")
    ]
    num_answers = 4 if len(groups) <= 2 else 2
    no_label = "rewarded without a label" if rewards_without_label(rows) else "no label: all earn 0"
    shown_view = None
    for (view, voter), group in sorted(groups.items()):
        if view != shown_view:
            lines += _wrapped(f"{printable(view, 20)}: ", printable(group[0].get("prompt"), 280, keep_end=True), width)
            shown_view = view
        lines += _tally(printable(voter, 20), group, num_answers, no_label)
    return "\n".join(lines)


def _tally(voter: str, group: Sequence[Mapping[str, Any]], num_answers: int, no_label: str) -> list[str]:
    counts = Counter((row.get("answer"), row.get("reward")) for row in group)
    trained_on = any(row.get("reward") is not None for row in group)
    label = group[0].get("label")
    heading = f"  {len(group)} rollouts of the {voter}"
    if trained_on:
        heading += f", {no_label}" if label is None else f", rewarded by the label {printable(label, 40)}"
    else:
        heading += ", which only vote"
    lines = [heading]
    shown = counts.most_common(num_answers)
    texts = ["no answer" if answer is None else printable(answer, 40) for (answer, _), _ in shown]
    for text, ((_, reward), count) in zip(texts, shown, strict=True):
        earned = f"  reward {reward:g}" if is_number(reward) else ""
        lines.append(f"    {count:>3} × {text.ljust(max(map(len, texts)))}{earned}".rstrip())
    if len(counts) > num_answers:
        rest = sum(counts.values()) - sum(count for _, count in shown)
        lines.append(f"    {rest:>3} × other answers")
    return lines


def _wrapped(head: str, text: str, width: int) -> list[str]:
    lines, line = [], head
    for word in text.split(" "):
        if len(line) + len(word) > width and line.strip():
            lines.append(line.rstrip())
            line = " " * len(head)
        line += word[: width - len(head)] + " "
    return [*lines, line.rstrip()]
