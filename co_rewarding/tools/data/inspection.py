# SPDX-License-Identifier: Apache-2.0
"""Inspects a data file, or two files that should be two views of the same questions.

Per file: rows, violations of verl's schema, lengths in characters and (given a tokenizer) in prompt tokens as in
training, prompts over the limit, repeated questions, repeated questions whose ground truths differ, empty ground
truths. Per pair: what `storage.rows` requires, then one rephrasing for several questions (a placeholder), identical
wordings, changed system messages or other columns, rephrasings of unusual length, and objections of the validators
(co_rewarding.tools.data.validators).

A *problem* is refused in training or makes a pair meaningless; a *note* is worth a look.

Rows that break the schema are counted and left out of checks that need it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from random import Random
from typing import Any

from co_rewarding.storage import schema
from co_rewarding.storage.rows import (
    REQUIRED_COLUMNS,
    Row,
    check_pairs,
    ground_truth,
    question_id,
    question_text,
)
from co_rewarding.storage.wordings import normalized, shifted
from co_rewarding.tools.data.validators import VALIDATORS, validate

EMPTY = "question is empty"
LENGTH_RATIO = 3.0  # a rephrasing this much longer or shorter than its question is noted
MAX_ROWS_NAMED = 10


@dataclass(frozen=True)
class Finding:
    """A finding on some rows; `is_problem`: training refuses it, or it invalidates the pair."""

    text: str
    rows: tuple[int, ...] = ()
    is_problem: bool = False

    def __str__(self) -> str:
        if not self.rows:
            return self.text
        named = ", ".join(map(str, self.rows[:MAX_ROWS_NAMED]))
        return f"{self.text}: {len(self.rows)} (rows {named}{', …' * (len(self.rows) > MAX_ROWS_NAMED)})"


@dataclass(frozen=True)
class Lengths:
    """Distribution of lengths; every value is in the unit that `counted` names."""

    counted: str  # "characters a question" or "tokens a prompt"
    minimum: int
    median: float
    p95: int  # the smallest length that at least 95 % do not exceed
    maximum: int
    values: tuple[int, ...] = field(repr=False)

    @classmethod
    def of(cls, values: Sequence[int], counted: str) -> Lengths:
        """Raises ValueError without values."""
        if not values:
            raise ValueError(f"no {counted} to count")
        ordered = sorted(values)
        p95 = ordered[-(-95 * len(ordered) // 100) - 1]
        return cls(counted, ordered[0], statistics.median(ordered), p95, ordered[-1], tuple(values))

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum}, median {self.median:g}, 95 % up to {self.p95}"


@dataclass(frozen=True)
class FileReport:
    """One file; row numbers start at 0."""

    name: str
    num_rows: int
    lengths: tuple[Lengths, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class PairReport:
    """Two files; `length_ratio` is rephrased / original, in characters (5th percentile, median, 95th), or None."""

    findings: tuple[Finding, ...]
    length_ratio: tuple[float, float, float] | None


@dataclass(frozen=True)
class Sample:
    """One question, or a pair: the same row of both files."""

    row: int
    question_id: str
    ground_truth: str
    texts: tuple[str, ...]  # one a file
    findings: tuple[str, ...] = ()  # about this row


def inspect_file(
    name: str,
    rows: Sequence[Row],
    count_tokens: Callable[[list[list[dict[str, str]]]], list[int]] | None = None,
    max_prompt_length: int = 512,
) -> FileReport:
    """Report on one file.

    Args:
        count_tokens: prompts (lists of messages) → tokens each, with the chat template; None: no token counts.
        max_prompt_length: in tokens; training drops longer prompts.
    """
    if not rows:
        return FileReport(name, 0, (), (Finding("no rows", is_problem=True),))
    if missing := [column for column in REQUIRED_COLUMNS if column not in rows[0]]:
        found = f"no columns {', '.join(missing)}; found {', '.join(rows[0])}; see data/README.md"
        return FileReport(name, len(rows), (), (Finding(found, is_problem=True),))
    readable = [i for i, row in enumerate(rows) if not prompt_fault(row)]
    lengths, notes = [], {}
    if readable:
        lengths.append(Lengths.of([len(_question(rows[i])) for i in readable], "characters a question"))
    if readable and count_tokens is not None:
        tokens = count_tokens([list(rows[i]["prompt"]) for i in readable])
        lengths.append(Lengths.of(tokens, "tokens a prompt"))
        too_long = [i for i, n in zip(readable, tokens, strict=True) if n > max_prompt_length]
        share = 100 * len(too_long) / len(rows)
        notes[f"prompts over {max_prompt_length} tokens ({share:.2f} %), left out of training"] = too_long
    repeated = list(_repeated(rows, readable).values())
    disagreeing = [group for group in repeated if len({truth_text(rows[i]).strip() for i in group} - {""}) > 1]
    notes |= {
        "empty ground truths": [i for i, row in enumerate(rows) if not truth_text(row).strip()],
        "rows that repeat the question of an earlier row": sorted(i for group in repeated for i in group[1:]),
        "rows that share their question but not their ground truth": sorted(i for group in disagreeing for i in group),
    }
    return FileReport(name, len(rows), tuple(lengths), (*schema_findings(rows), *_notes(notes)))


def inspect_pair(original: Sequence[Row], rephrased: Sequence[Row], names: tuple[str, str]) -> PairReport:
    """Report on two files that should pair up row by row."""
    try:
        check_pairs(original, rephrased, names)
    except ValueError as error:
        return PairReport((Finding(str(error), is_problem=True),), None)
    pairs = list(zip(original, rephrased, strict=True))
    readable = [i for i, pair in enumerate(pairs) if not any(map(prompt_fault, pair))]
    ratios = {i: len(_question(rephrased[i])) / len(_question(original[i])) for i in readable}
    findings = [] if readable or not pairs else [Finding("no pair has a question in both files", is_problem=True)]
    findings += shared_rephrasing_findings(original, rephrased, readable)
    columns = sorted({*original[0], *rephrased[0]} - {"prompt", "reward_model"}) if pairs else []
    if all(len({str(row.get("data_source")) for row in rows}) == 1 for rows in (original, rephrased)):
        columns = [name for name in columns if name != "data_source"]  # each file has a name: no odd rows
    texts = [[_question(rows[i]) for i in readable] for rows in (original, rephrased)]
    findings += _notes(
        {
            "identical pairs (they vote for themselves)": [
                i for i in readable if _words(original[i]) == _words(rephrased[i])
            ],
            "rephrasings that fit the question in the previous or next row better": [
                readable[k] for k in shifted(texts[0], texts[1])
            ],
            "pairs whose messages differ beyond the user's": [
                i for i in readable if _all_but_question(original[i]) != _all_but_question(rephrased[i])
            ],
            **{
                f"pairs that differ in the column {column}": [
                    i for i, (a, b) in enumerate(pairs) if a.get(column) != b.get(column)
                ]
                for column in columns
            },
            "pairs with a ground truth in one file only": [
                i for i, (a, b) in enumerate(pairs) if bool(ground_truth(a)) != bool(ground_truth(b))
            ],
            f"rephrasings more than {LENGTH_RATIO:g} times as long": [i for i in ratios if ratios[i] > LENGTH_RATIO],
            f"rephrasings less than 1/{LENGTH_RATIO:g} as long": [i for i in ratios if ratios[i] < 1 / LENGTH_RATIO],
        }
    )
    ordered = sorted(ratios.values())
    last = len(ordered) - 1
    middle = (ordered[round(0.05 * last)], statistics.median(ordered), ordered[round(0.95 * last)]) if ordered else None
    return PairReport(tuple(findings), middle)


def schema_findings(rows: Sequence[Row]) -> list[Finding]:
    """Violations of verl's schema, each with its rows."""
    faults: dict[str, list[int]] = {}
    first_row: dict[Any, int] = {}
    for i, row in enumerate(rows):
        problems = [fault.problem for fault in schema.row_faults(row)]
        for problem in problems or ([EMPTY] if prompt_fault(row) else []):
            faults.setdefault(problem, []).append(i)
        index = _value(question_id, row)
        if index is not None and first_row.setdefault(index, i) != i:
            faults.setdefault("extra_info.index repeats that of an earlier row", []).append(i)
    return [Finding(fault, tuple(found), is_problem=True) for fault, found in faults.items()]


def prompt_fault(row: Row) -> str | None:
    """Why the row's question cannot be read, None if it can."""
    if fault := schema.prompt_fault(row):
        return fault.problem
    return None if row["prompt"][-1]["content"].strip() else EMPTY


def shared_rephrasing_findings(
    original: Sequence[Row], rephrased: Sequence[Row], readable: Sequence[int]
) -> list[Finding]:
    """One rephrasing for questions with different ground truths: it fits at most one of them."""
    wrong = {
        text: group
        for text, group in _repeated(rephrased, readable).items()
        if len({_words(original[i]) for i in group}) > 1
        and len({ground_truth(original[i]).strip() for i in group} - {""}) > 1
    }
    if not wrong:
        return []
    example = max(wrong, key=lambda text: len(wrong[text]))
    text = f"rephrasings shared by questions with different ground truths, most often {example[:80]!r}"
    return [Finding(text, tuple(sorted(i for group in wrong.values() for i in group)), is_problem=True)]


def objections(original: Sequence[Row], rephrased: Sequence[Row], skip: Collection[str] = ()) -> list[Finding]:
    """One note for each validator that objects to some pairs; rows without a readable question are left out.

    Raises:
        ValueError: a name in `skip` is no validator.
    """
    rows_of: dict[str, list[int]] = {name: [] for name in VALIDATORS}
    for i, (a, b) in enumerate(zip(original, rephrased, strict=True)):
        if not prompt_fault(a) and not prompt_fault(b):
            for finding in validate(_question(a), _question(b), skip=skip):
                rows_of[finding.validator].append(i)
    return _notes({f"{name} ({VALIDATORS[name][0]})": rows for name, rows in rows_of.items()})


def draw_samples(
    files: Sequence[Sequence[Row]], num_samples: int, seed: int, findings: Sequence[Finding] = ()
) -> list[Sample]:
    """Sampled rows of one file or two, in order: random ones, and as many from `findings`, in turn.

    The same arguments draw the same rows. Rows without a question are not shown.
    """
    texts = zip(*(map(question_text, rows) for rows in files), strict=False)
    texts_of = {i: questions for i, questions in enumerate(texts) if all(questions)}
    rng = Random(f"samples:{seed}")
    chosen = set(rng.sample(list(texts_of), min(num_samples, len(texts_of))))
    turns = zip_longest(*(rng.sample(finding.rows, len(finding.rows)) for finding in findings))
    named = dict.fromkeys(i for i in chain.from_iterable(turns) if i in texts_of)
    return [
        Sample(
            row=i,
            question_id="none" if (index := _value(question_id, files[0][i])) is None else str(index),
            ground_truth=truth_text(files[0][i]),
            texts=texts_of[i],
            findings=tuple(finding.text for finding in findings if i in finding.rows),
        )
        for i in sorted(chosen | set(list(named)[:num_samples]))
    ]


def truth_text(row: Row) -> str:
    """Ground truth of a row that may break the schema, "" if it has none."""
    return _value(ground_truth, row) or ""


def _value(read: Callable[[Row], Any], row: Row) -> Any:
    """The result of `read`, None if the row breaks the schema."""
    try:
        return read(row)
    except ValueError:
        return None


def _question(row: Row) -> str:
    """The question of a row with a valid prompt."""
    return row["prompt"][-1]["content"]


def _words(row: Row) -> str:
    return normalized(_question(row))


def _repeated(rows: Sequence[Row], readable: Sequence[int]) -> dict[str, list[int]]:
    """Questions that occur more than once, ignoring spaces, and their rows."""
    rows_of: dict[str, list[int]] = {}
    for i in readable:
        rows_of.setdefault(_words(rows[i]), []).append(i)
    return {text: group for text, group in rows_of.items() if len(group) > 1}


def _all_but_question(row: Row) -> list[Any]:
    *others, question = row["prompt"]
    return [(message["role"], message["content"]) for message in others] + [question["role"]]


def _notes(rows_of: Mapping[str, Sequence[int]]) -> list[Finding]:
    return [Finding(text, tuple(rows)) for text, rows in rows_of.items() if rows]
