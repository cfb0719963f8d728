# SPDX-License-Identifier: Apache-2.0
"""Results side by side, in the order of the paper's tables: Markdown, CSV and LaTeX.

A row is a model, a column a task: percent ± standard error. Below, or in details.csv: differences to the first row of
the same base model ("before RL" if present) on the same questions, the other accuracies, share of answers, response
length. A note lists differences between numbers of one column (other questions, another temperature ...); a partial set
is marked with a dagger. The best number of a column is bold if the 95 % interval of its difference to each other number
excludes 0 (paired.py); partial sets are not compared with complete ones.

A task without a result is "–"; results of the same name get their folders' names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.evaluation import harness
from co_rewarding.tools.evaluation.paired import difference
from co_rewarding.tools.evaluation.results import METHOD_TITLES, Result, settings_of
from co_rewarding.tools.evaluation.tasks import MATHS, in_table_order, title
from co_rewarding.tools.tables import cell, to_latex, to_markdown

PARTIAL = "†"
LEGEND = "Percent ± standard error over questions."
BOLD = " Bold: better than every other; the 95 % interval of each difference excludes 0."
NAMES = ("table.md", "table.csv", "table.tex", "details.csv")


@dataclass(frozen=True)
class Table:
    """Results in the order of the rows, with their names, and (task, metric) of each column."""

    named: Sequence[tuple[Path, Result]]
    rows: list[str]
    columns: list[tuple[str, str]]

    @property
    def headings(self) -> list[str]:
        return [f"{title(task)} {metric}" for task, metric in self.columns]

    def entry(self, row: int, column: int) -> dict[str, Any] | None:
        """A result's entry for a task, None if it has no such number."""
        task, metric = self.columns[column]
        entry = self.named[row][1]["tasks"].get(task)
        return entry if entry is not None and entry["primary"] == metric else None

    def is_best(self, row: int, column: int) -> bool:
        entries = {i: entry for i in range(len(self.rows)) if (entry := self.entry(i, column))}
        whole = {i for i, entry in entries.items() if not _is_partial(entry)}
        rivals = whole or set(entries)
        if row not in rivals or len(rivals) < 2:
            return False
        task, metric = self.columns[column]
        value = {i: entries[i]["accuracy"][metric]["value"] for i in rivals}
        return all(
            value[row] > value[i] and difference(self.named[row], self.named[i], task).is_clear for i in rivals - {row}
        )


def make_table(named: Sequence[tuple[Path, Result]]) -> Table:
    """A table of results, in the order given."""
    tasks = in_table_order([task for _, result in named for task in result["tasks"]])
    columns = [
        (task, result["tasks"][task]["primary"])
        for task in tasks
        for _, result in named
        if task in result["tasks"] and result["tasks"][task]["primary"] is not None
    ]
    return Table(named, _row_names(named), list(dict.fromkeys(columns)))


def markdown(table: Table) -> str:
    """The table, its notes and the details."""
    parts = [
        to_markdown(_main(table, mark=lambda text: f"**{text}**")),
        "",
        f"- {LEGEND}{BOLD if len(table.rows) > 1 else ''}",
    ]
    parts += [f"- {cell(note)}" for note in _notes(table)]
    for heading, frame in (
        ("Differences, on the same questions unless a row says otherwise:", _differences(table)),
        ("All accuracies:", _rounded(_details(table))),
        ("Responses:", _lengths(table)),
    ):
        if len(frame):
            parts += ["", heading, "", to_markdown(frame)]
    return "\n".join(parts) + "\n"


def csv_table(table: Table) -> str:
    """A row per model; two columns per task, percent and its standard error; empty without a number."""
    rows = []
    for i, (name, (_, result)) in enumerate(zip(table.rows, table.named, strict=True)):
        row = {"model": name, "method": result.get("method"), "base_model": result.get("base_model")}
        for j, heading in enumerate(table.headings):
            value, error = _percent(table.entry(i, j))
            row |= {heading: value, f"{heading} standard error": error}
        rows.append(row)
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")


def write_tables(folder: Path, table: Table) -> list[Path]:
    """table.md, table.csv, table.tex and details.csv."""
    texts = (
        markdown(table),
        csv_table(table),
        to_latex(_main(table)),
        _details(table).to_csv(index=False, lineterminator="\n"),
    )
    paths = [folder / name for name in NAMES]
    for path, text in zip(paths, texts, strict=True):
        atomic_write_text(path, text)
    return paths


def _main(table: Table, mark: Any = str) -> pd.DataFrame:
    rows = []
    for i, name in enumerate(table.rows):
        texts = [_text(table.entry(i, j)) for j in range(len(table.columns))]
        rows.append([name, *(mark(text) if table.is_best(i, j) else text for j, text in enumerate(texts))])
    return pd.DataFrame(rows, columns=["model", *table.headings])


def _text(entry: dict[str, Any] | None) -> str | None:
    value, error = _percent(entry)
    if entry is None or value is None:
        return None
    shown = f"{value:.2f}" + ("" if error is None else f" ± {error:.2f}")
    return f"{shown} {PARTIAL}" if _is_partial(entry) else shown


def _percent(entry: dict[str, Any] | None, metric: str | None = None) -> tuple[float | None, float | None]:
    if entry is None:
        return None, None
    score = entry["accuracy"][metric or entry["primary"]]
    error = score["standard_error"]
    return 100 * score["value"], None if error is None else 100 * error


def _is_partial(entry: dict[str, Any]) -> bool:
    rows = entry.get("num_rows")
    return rows is not None and entry["questions"] < rows


def _differences(table: Table) -> pd.DataFrame:
    """Differences of each row to the first of its base model: the model before RL, by results.in_paper_order."""
    first: dict[Any, int] = {}
    rows = []
    for i, name in enumerate(table.rows):
        other = first.setdefault(table.named[i][1].get("base_model"), i)
        for j, (task, metric) in enumerate(table.columns):
            if i != other and table.entry(other, j) and table.entry(i, j):
                found = difference(table.named[i], table.named[other], task)
                value, bounds = f"{100 * found.value:+.2f}", None
                if found.bounds is not None:
                    bounds = "{:+.2f} to {:+.2f}".format(*(100 * bound for bound in found.bounds))
                paired = found.questions or "unpaired: not the same questions, or no graded responses"
                rows.append([name, table.rows[other], f"{title(task)} {metric}", value, bounds, paired])
    heads = ["model", "minus", "task", "percent", "95 % interval", "questions of both"]
    return pd.DataFrame(rows, columns=heads)


def _details(table: Table) -> pd.DataFrame:
    rows = []
    for name, (_, result) in zip(table.rows, table.named, strict=True):
        for task in in_table_order(list(result["tasks"])):
            entry = result["tasks"][task]
            for metric in entry["accuracy"]:
                value, error = _percent(entry, metric)
                temperature = (entry.get("sampling") or {}).get("temperature")
                rows.append(
                    [name, title(task), metric, value, error, entry["questions"], entry["samples"], temperature]
                )
    heads = ["model", "task", "metric", "percent", "standard error", "questions", "responses each", "temperature"]
    return pd.DataFrame(rows, columns=heads)


def _rounded(details: pd.DataFrame) -> pd.DataFrame:
    shown = details.astype(object).where(details.notna(), None)
    for column in ("percent", "standard error"):
        shown[column] = [None if value is None else f"{value:.2f}" for value in shown[column]]
    return shown


def _lengths(table: Table) -> pd.DataFrame:
    rows = []
    for name, (_, result) in zip(table.rows, table.named, strict=True):
        for task in in_table_order(list(result["tasks"])):
            entry = result["tasks"][task]
            if "boxed_rate" in entry:
                tokens, median, cut_off = entry["tokens"], entry["tokens_median"], entry["cut_off"]
                lengths = [f"{tokens['value']:.0f}", f"{median:.0f}"] if tokens else [None, None]
                answered = f"{100 * entry['boxed_rate']['value']:.1f}"
                agreement = entry.get("agreement")  # older results have none
                agreed = f"{100 * agreement['value']:.1f}" if agreement else None
                limit = None if cut_off is None else f"{100 * cut_off:.1f}"
                failed = [entry["prompt_too_long"], entry.get("refused", 0)]
                rows.append([name, title(task), answered, agreed, *lengths, limit, *failed])
    numbers = ["answered %", "agreement %", "mean tokens", "median tokens", "cut off %", "prompt too long", "refused"]
    return pd.DataFrame(rows, columns=["model", "task", *numbers])


def _row_names(named: Sequence[tuple[Path, Result]]) -> list[str]:
    """The method's title or the result's name, with base model and folder where needed to tell them apart."""
    several = len({result.get("base_model") for _, result in named}) > 1
    names = []
    for _, result in named:
        name = METHOD_TITLES.get(result.get("method") or "", result["name"])
        base = result.get("base_model")
        names.append(f"{base}: {name}" if several and base else name)
    count = Counter(names)
    return [
        name if count[name] == 1 else f"{name} ({_owner(path)})" for name, (path, _) in zip(names, named, strict=True)
    ]


def _owner(path: Path) -> str:
    """A result's folder, within its run directory if it has one."""
    parts = path.parent.parts
    of_a_run = len(parts) > 3 and path.parents[1] == RunDir(path.parents[2]).evaluation
    return f"{parts[-3]}/{parts[-1]}" if of_a_run else "/".join(parts[-2:])


def _notes(table: Table) -> list[str]:
    notes = []
    tasks = in_table_order([task for _, result in table.named for task in result["tasks"]])
    maths = [task for task in tasks if task in MATHS]
    if maths:
        names = ", ".join(title(task) for task in maths if MATHS[task].protocol.name == "training")
        lighteval = ", ".join(title(task) for task in maths if MATHS[task].protocol.name != "training")
        notes += [f"{names}: training’s prompt, the last \\boxed{{}}."] if names else []
        notes += [f"{lighteval}: lighteval’s prompt, an answer anywhere."] if lighteval else []
    for task in tasks:
        entries = {
            name: result["tasks"][task]
            for name, (_, result) in zip(table.rows, table.named, strict=True)
            if task in result["tasks"]
        }
        if task in harness.NOTES:
            notes.append(f"{title(task)}: {harness.NOTES[task]}.")
        partial = {n: f"{e['questions']:,} of {e['num_rows']:,}" for n, e in entries.items() if _is_partial(e)}
        if partial:
            notes.append(f"{PARTIAL} {title(task)}: {_by_value(partial, len(entries))} questions.")
        missing = {n: str(e["without_ground_truth"]) for n, e in entries.items() if e.get("without_ground_truth")}
        if missing:
            count = _by_value(missing, len(entries))
            notes.append(f"{title(task)}: {count} questions have no ground truth and are not in any accuracy.")
        for setting in settings_of(next(iter(entries.values()))):
            values = {name: str(settings_of(entry)[setting]) for name, entry in entries.items()}
            if len(set(values.values())) > 1:
                notes.append(f"{title(task)}: different {setting}: {_by_value(values, len(entries))}.")
    return notes


def _by_value(values: dict[str, str], out_of: int) -> str:
    """ "20" where all agree, else "20 (a, b), 30 (c)"."""
    names_of: dict[str, list[str]] = {}
    for name, value in values.items():
        names_of.setdefault(value, []).append(name)
    if len(names_of) == 1 and len(values) == out_of:
        return next(iter(names_of))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in names_of.items())
