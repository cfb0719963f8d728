# SPDX-License-Identifier: Apache-2.0
"""Which questions a run learned and which it corrupted, from the answers in its dumps.

    right      at a visit: the majority answer of the student's rollouts is equivalent to the ground truth
    learned    not right at the first visit, right at the last
    corrupted  right at the first visit, not right at the last

These are the learning and forgetting events of "An Empirical Study of Example Forgetting" (arXiv 1812.05159), which
compares consecutive visits; here the two ends of a run are compared. A gain in accuracy is learned minus corrupted;
only the two together show whether a method teaches or moves mistakes. A visit is a training step with the question, or
a validation; held-out questions, whose answers earn no reward, give the more honest table. Without a ground truth only
a changed majority answer is known.

Questions that were sure at the first visit (agreement ≥ SURE) are also counted separately: changing a sure answer is
learning if it was wrong, damage if it was right.

Ground truths are only diagnostics here: the run is over when this is computed.

- a question that was visited once is in no table;
- a single response has no agreement, and its question is not among the sure ones;
- a question without a majority answer is not right; without a ground truth it is "unanswered";
- of two views the original counts, or the other if the original was not used;
- rollouts that only vote count too, a teacher's do not.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from co_rewarding.algo.answer_format import recorded, truth_of
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.rewards import is_match
from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.algo.voting import majority_vote

OUTCOMES = {
    "corrupted": "corrupted (right → wrong)",
    "learned": "learned (wrong → right)",
    "right": "right both times",
    "wrong": "wrong both times",
    "changed": "changed their majority answer",
    "same": "kept it",
    "unanswered": "without one",
}
"""Outcomes of a question, in the order of the table; the last three without a ground truth."""
COLUMNS = (
    "set", "question", "outcome", "visits", "first_step", "first_answer", "first_right", "last_step", "last_answer",
    "last_right", "ground_truth", "prompt", "first_agreement", "last_agreement",
)  # fmt: skip
SURE = 0.75
"""Agreement of a visit, 0-1, from which its majority answer counts as sure."""
QUESTIONS_AT_ONCE = 128
"""Questions whose answers are compared within one step's time (Equivalence.prepare)."""
MAX_PROMPT_CHARS = 200


@dataclass(frozen=True)
class Row:
    """The stored part of a response."""

    key: str  # identifies the question
    question: str  # readable
    view: str
    answer: str | None
    truth: str | None
    prompt: str


@dataclass(frozen=True)
class Visit:
    """The answers of one question in one step."""

    step: int
    answers: tuple[str | None, ...]  # G


@dataclass
class _Seen:
    question: str
    truth: str | None
    prompt: str
    first: Visit
    last: Visit
    visits: int = 1


@dataclass(frozen=True)
class End:
    """Summary of a visit."""

    step: int
    answer: str | None  # of the majority
    right: float | None  # share of right answers; None without a ground truth
    agreement: float | None  # share of answers behind the majority's; None for a single answer


@dataclass(frozen=True)
class Change:
    """One question at the two ends of a run."""

    question: str
    prompt: str
    truth: str | None
    visits: int
    first: End
    last: End
    outcome: str


Dump = Iterable[tuple[int, Iterable[Mapping[str, Any]]]]
Changes = Mapping[str, Sequence[Change]]


def changed_questions(dumps: Mapping[str, Dump], equivalence: Equivalence) -> dict[str, list[Change]]:
    """The questions of "training" and "held-out" that were visited more than once.

    Args:
        dumps: by these names, (step, rows) in order of the steps; see co_rewarding.storage.dumps.
    """
    found = {}
    for name, read in (("training", of_rollout), ("held-out", of_validation)):
        seen: dict[str, _Seen] = {}
        for step, rows in dumps.get(name, ()):
            _visit(seen, step, (row for row in map(read, rows) if row is not None))
        again = (one for one in seen.values() if one.visits > 1)
        found[name] = [change for some in _chunks(again) for change in _changes(some, equivalence)]
    return found


def of_rollout(row: Mapping[str, Any]) -> Row | None:
    """A line of rollouts/<step>.jsonl; None for a teacher's."""
    if row.get("voter") != "student":
        return None
    question, prompt = str(row.get("question")), str(row.get("prompt", ""))[:MAX_PROMPT_CHARS]
    answer, truth = row.get("answer"), row.get("ground_truth")
    return _row(row, question, question, str(row.get("view")), answer, truth, row.get("choices"), prompt)


def of_validation(row: Mapping[str, Any]) -> Row | None:
    """A line of validation/<step>.jsonl; None for runs that did not name the question."""
    key = row.get("prompt_id")  # two sets may use the same name for a question
    if not key or "pred" not in row:
        return None
    prompt = str(row.get("input", ""))[-MAX_PROMPT_CHARS:]
    question, choices = str(row.get("question") or key), json.loads(row.get("choices") or "[]")
    return _row(row, str(key), question, VIEWS[0], row["pred"] or None, row.get("gts"), choices, prompt)


def in_words(changes: Changes) -> str:
    """ "training: 3 learned (wrong → right), 1 corrupted (right → wrong), … (of 2 sure at first, agreement ≥ 0.75:
    1 corrupted); held-out: …"; "" for no question."""
    parts = []
    for name, of_set in changes.items():
        counts = Counter(change.outcome for change in of_set)
        if counts:
            shown = ", ".join(f"{counts[outcome]} {words}" for outcome, words in OUTCOMES.items() if counts[outcome])
            parts.append(f"{name}: {shown}{_of_the_sure(of_set)}")
    return "; ".join(parts)


def _of_the_sure(of_set: Sequence[Change]) -> str:
    sure = [change.outcome for change in of_set if (change.first.agreement or 0.0) >= SURE]
    counts = [f"{sure.count(outcome)} {outcome}" for outcome in ("corrupted", "learned", "changed") if outcome in sure]
    return f" (of {len(sure)} sure at first, agreement ≥ {SURE:g}: {', '.join(counts) or 'none'})" if sure else ""


def to_csv(changes: Changes) -> str:
    """All questions as a table, the corrupted first. Model text cannot become a spreadsheet formula."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    order = list(OUTCOMES)
    for name, of_set in changes.items():
        for one in sorted(of_set, key=lambda change: order.index(change.outcome)):
            ends = (one.first.step, one.first.answer, one.first.right, one.last.step, one.last.answer, one.last.right)
            agreements = one.first.agreement, one.last.agreement
            row = (name, one.question, one.outcome, one.visits, *ends, one.truth, one.prompt, *agreements)
            table.writerow([_cell(value) for value in row])
    return text.getvalue()


def _row(
    row: Mapping[str, Any], key: str, question: str, view: str, answer: Any, truth: Any, choices: Any, prompt: str
) -> Row:
    """The stored part; answers are compared by the row's format, as in the run."""
    spec = row.get("answer_format")
    if truth not in (None, ""):
        truth = truth_of(str(truth), spec, choices or ())
    answer = recorded(None if answer is None else str(answer), spec)
    return Row(key, question, view, answer, truth or None, prompt)


def _visit(seen: dict[str, _Seen], step: int, rows: Iterable[Row]) -> None:
    """Record a step's answers: first and last visit of each question."""
    views: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        views.setdefault(row.key, {}).setdefault(row.view, []).append(row)
    for key, of_view in views.items():
        chosen = next((of_view[view] for view in VIEWS if view in of_view), None) or next(iter(of_view.values()))
        texts: dict[str | None, str | None] = {}  # equal answers are kept once
        visit = Visit(step, tuple(texts.setdefault(row.answer, row.answer) for row in chosen))
        if key not in seen:
            seen[key] = _Seen(chosen[0].question, chosen[0].truth, chosen[0].prompt, visit, visit)
        else:
            seen[key].last = visit
            seen[key].visits += 1


def _changes(seen: Sequence[_Seen], equivalence: Equivalence) -> Iterator[Change]:
    equivalence.prepare(
        [answer for answer in (*one.first.answers, *one.last.answers, one.truth) if answer] for one in seen
    )
    same = equivalence.same

    def end(visit: Visit, truth: str | None) -> End:
        right = [is_match(truth, answer, same) for answer in visit.answers]
        vote = majority_vote(visit.answers, same)
        return End(
            visit.step,
            vote.pseudo_label,
            None if truth is None else sum(right) / len(right),
            vote.agreement if vote.num_rollouts > 1 else None,
        )

    for one in seen:
        first, last = end(one.first, one.truth), end(one.last, one.truth)
        if one.truth is not None:
            was, now = (is_match(one.truth, which.answer, same) for which in (first, last))
            outcome = {(0, 1): "learned", (1, 0): "corrupted", (1, 1): "right", (0, 0): "wrong"}[was, now]
        elif first.answer is None or last.answer is None:
            outcome = "unanswered"
        else:
            outcome = "same" if same(first.answer, last.answer) else "changed"
        yield Change(one.question, one.prompt, one.truth, one.visits, first, last, outcome)


def _chunks(items: Iterable[_Seen]) -> Iterator[list[_Seen]]:
    left = iter(items)
    while some := list(islice(left, QUESTIONS_AT_ONCE)):
        yield some


def _cell(value: object) -> str:
    """On one line; text that a spreadsheet would compute gets a leading apostrophe."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    text = " ".join(str(value).encode("utf-8", "replace").decode().split())
    is_number = text[1:].replace(".", "", 1).isdigit()
    return f"'{text}" if text[:1] in ("=", "@") or (text[:1] in ("+", "-") and not is_number) else text
