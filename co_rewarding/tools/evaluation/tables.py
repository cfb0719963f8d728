# SPDX-License-Identifier: Apache-2.0
"""Results side by side, in the order of the paper's tables: Markdown to read, CSV to compute with, PNG to show.

A row is a model, a column a task: percent ± standard error. Below, or in details.csv: the other accuracies, share of
boxed answers, response length. What makes two numbers of one column unlike (other questions, another temperature ...)
is told in a note; a part of a set is marked with a dagger. The best number of a column is bold where there are several;
beside whole sets a part does not count.

Degenerate cases: a task that a model was not asked is "–"; two results of one name get their folders' names.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.evaluation.results import METHOD_TITLES, Result, settings_of
from co_rewarding.tools.evaluation.tasks import in_table_order, title

ABSENT = "–"
PARTIAL = "†"
LEGEND = "Percent ± standard error over questions."
DETAILS = ("task", "metric", "percent", "standard error", "questions", "responses each", "temperature")


@dataclass(frozen=True)
class Cell:
    """One number of the table, in percent."""

    value: float
    standard_error: float | None
    is_partial: bool  # not all questions of the set were asked

    @property
    def text(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        return f"{self.value:.2f}{error}{f' {PARTIAL}' if self.is_partial else ''}"


@dataclass(frozen=True)
class Table:
    """Names of rows and columns, and cells by row and column."""

    rows: list[str]
    columns: list[str]
    cells: list[list[Cell | None]]
    notes: list[str]
    results: list[Result]

    def is_best(self, row: int, column: int) -> bool:
        cells = [cells[column] for cells in self.cells if cells[column] is not None]
        rivals = [cell for cell in cells if not cell.is_partial] or cells
        cell = self.cells[row][column]
        return cell in rivals and len(rivals) > 1 and cell.value == max(rival.value for rival in rivals)


def make_table(named: Sequence[tuple[Path, Result]]) -> Table:
    """A table of results, in the order given."""
    results = [result for _, result in named]
    rows = _row_names(named)
    tasks = in_table_order([task for result in results for task in result["tasks"]])
    keys = list(
        dict.fromkeys(
            (task, result["tasks"][task]["primary"])
            for task in tasks
            for result in results
            if task in result["tasks"] and result["tasks"][task]["primary"] is not None
        )
    )
    cells = [[_cell(result, *key) for key in keys] for result in results]
    return Table(
        rows, [f"{title(task)} {metric}" for task, metric in keys], cells, _notes(rows, results, keys, tasks), results
    )


def markdown(table: Table) -> str:
    """The table, its notes and the details."""
    body = [
        [
            name,
            *(
                ABSENT if cell is None else f"**{cell.text}**" if table.is_best(i, j) else cell.text
                for j, cell in enumerate(cells)
            ),
        ]
        for i, (name, cells) in enumerate(zip(table.rows, table.cells, strict=True))
    ]
    parts = [_grid(["model", *table.columns], body), "", f"- {LEGEND}"]
    parts += [f"- {note}" for note in table.notes]
    details = [[cell if cell is not None else ABSENT for cell in row] for row in _detail_rows(table)]
    lengths = [[cell if cell is not None else ABSENT for cell in row] for row in _length_rows(table)]
    parts += ["", "All accuracies:", "", _grid(["model", *DETAILS], details)]
    if lengths:
        head = ["model", "task", "boxed %", "mean tokens", "median tokens", "cut off %", "prompt too long"]
        parts += ["", "Responses:", "", _grid(head, lengths)]
    return "\n".join(parts) + "\n"


def csv_table(table: Table) -> str:
    """A row a model; two columns a task, percent and its standard error; empty where there is no number."""
    head = ["model", "method", "base_model", *(f"{c}{s}" for c in table.columns for s in ("", " standard error"))]
    body = [
        [
            name,
            result.get("method"),
            result.get("base_model"),
            *(x for cell in cells for x in ((cell.value, cell.standard_error) if cell else (None, None))),
        ]
        for name, result, cells in zip(table.rows, table.results, table.cells, strict=True)
    ]
    return _csv([head, *body])


def csv_details(table: Table) -> str:
    return _csv([["model", *DETAILS], *_detail_rows(table, rounded=False)])


def draw(table: Table, path: Path) -> None:
    """The table as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    texts = [["model", *table.columns]] + [
        [name, *(cell.text if cell else ABSENT for cell in cells)]
        for name, cells in zip(table.rows, table.cells, strict=True)
    ]
    texts[0] = [texts[0][0], *(column.replace(" ", "\n", 1) for column in table.columns)]
    inches = [
        0.085 * max(len(line) for row in texts for line in row[j].split("\n")) + 0.3 for j in range(len(texts[0]))
    ]
    row_height, head_height = 0.3, 0.5
    notes = [LEGEND, *table.notes]
    width = max(sum(inches), 4.5)
    wrapped = [line for note in notes for line in _wrapped(note, int(width / 0.072))]
    height = head_height + row_height * len(table.rows) + 0.19 * len(wrapped) + 0.35
    with plt.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = plt.figure(figsize=(width, height))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set_xlim(0, width)
        axis.set_ylim(0, height)
        axis.axis("off")
        top = height - 0.1
        edges = [sum(inches[:j]) for j in range(len(inches))]

        def rule(y: float, thick: float) -> None:
            axis.plot([0.08, sum(inches) - 0.08], [y, y], color="black", lw=thick, solid_capstyle="butt")

        rule(top, 1.2)
        for i, row in enumerate(texts):
            y = top - head_height / 2 if i == 0 else top - head_height - row_height * (i - 0.5)
            for j, text in enumerate(row):
                bold = i == 0 or (j > 0 and table.is_best(i - 1, j - 1))
                x, align = (edges[0] + 0.12, "left") if j == 0 else (edges[j] + inches[j] / 2, "center")
                axis.text(x, y, text, ha=align, va="center", fontweight="bold" if bold else "normal", linespacing=1.3)
        rule(top - head_height, 0.7)
        bottom = top - head_height - row_height * len(table.rows)
        rule(bottom, 1.2)
        for i, line in enumerate(wrapped):
            axis.text(0.12, bottom - 0.17 - 0.19 * i, line, ha="left", va="center", fontsize=7.5, color="#444444")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=200, metadata={"Software": None})
        plt.close(figure)


def write_tables(folder: Path, table: Table) -> list[Path]:
    """table.md, table.csv, details.csv and table.png."""
    paths = [folder / name for name in ("table.md", "table.csv", "details.csv", "table.png")]
    for path, text in zip(paths, (markdown(table), csv_table(table), csv_details(table)), strict=False):
        atomic_write_text(path, text)
    draw(table, paths[-1])
    return paths


def _row_names(named: Sequence[tuple[Path, Result]]) -> list[str]:
    several_bases = len({result.get("base_model") for _, result in named}) > 1
    names = []
    for _, result in named:
        name = METHOD_TITLES.get(result.get("method") or "", result["name"])
        base = result.get("base_model")
        names.append(f"{base}: {name}" if several_bases and base else name)
    by_method = Counter(names)
    names = [
        name if by_method[name] == 1 or result["name"] in name else f"{name} ({result['name']})"
        for name, (_, result) in zip(names, named, strict=True)
    ]
    again = Counter(names)
    return [
        name if again[name] == 1 else f"{name} ({_owner(path)})" for name, (path, _) in zip(names, named, strict=True)
    ]


def _owner(path: Path) -> str:
    """A result's run directory, or its own folder."""
    parts = path.parent.parts
    of_a_run = len(parts) > 3 and path.parents[1] == RunDir(path.parents[2]).evaluation
    return parts[-3] if of_a_run else "/".join(parts[-2:])


def _cell(result: Result, task: str, metric: str) -> Cell | None:
    entry = result["tasks"].get(task)
    if entry is None or entry["primary"] != metric:
        return None
    score = entry["accuracy"][metric]
    error = score["standard_error"]
    return Cell(100 * score["value"], None if error is None else 100 * error, _is_partial(entry))


def _is_partial(entry: dict[str, Any]) -> bool:
    rows = entry.get("num_rows")
    return rows is not None and entry["questions"] < rows


def _notes(
    rows: Sequence[str], results: Sequence[Result], keys: Sequence[tuple[str, str]], tasks: Sequence[str]
) -> list[str]:
    notes = []
    for task in tasks:
        entries = {name: r["tasks"][task] for name, r in zip(rows, results, strict=True) if task in r["tasks"]}
        partial = {n: f"{e['questions']:,} of {e['num_rows']:,}" for n, e in entries.items() if _is_partial(e)}
        if partial:
            notes.append(f"{PARTIAL} {title(task)}: {_by_value(partial, len(entries))} questions.")
        missing = {n: str(e["without_ground_truth"]) for n, e in entries.items() if e.get("without_ground_truth")}
        if missing:
            notes.append(
                f"{title(task)}: {_by_value(missing, len(entries))} questions have no ground truth and are in no "
                "accuracy."
            )
        for setting in settings_of(next(iter(entries.values()))):
            values = {name: str(settings_of(entry)[setting]) for name, entry in entries.items()}
            if len(set(values.values())) > 1:
                notes.append(f"{title(task)}: not alike in {setting}: {_by_value(values, len(entries))}.")
    return notes


def _by_value(values: dict[str, str], out_of: int) -> str:
    """ "20" where all agree, else "20 (a, b), 30 (c)"."""
    names_of: dict[str, list[str]] = {}
    for name, value in values.items():
        names_of.setdefault(value, []).append(name)
    if len(names_of) == 1 and len(values) == out_of:
        return next(iter(names_of))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in names_of.items())


def _detail_rows(table: Table, rounded: bool = True) -> list[list[Any]]:
    out = []
    for name, result in zip(table.rows, table.results, strict=True):
        for task in in_table_order(list(result["tasks"])):
            entry = result["tasks"][task]
            for metric, score in entry["accuracy"].items():
                percent, error = 100 * score["value"], score["standard_error"]
                error = None if error is None else 100 * error
                if rounded:
                    percent, error = f"{percent:.2f}", None if error is None else f"{error:.2f}"
                temperature = (entry.get("sampling") or {}).get("temperature")
                out.append(
                    [name, title(task), metric, percent, error, entry["questions"], entry["samples"], temperature]
                )
    return out


def _length_rows(table: Table) -> list[list[Any]]:
    def percent(share: float | None) -> str | None:
        return None if share is None else f"{100 * share:.1f}"

    out = []
    for name, result in zip(table.rows, table.results, strict=True):
        for task in in_table_order(list(result["tasks"])):
            entry = result["tasks"][task]
            if "boxed_rate" not in entry:
                continue
            tokens = entry["tokens"]
            out.append(
                [
                    name,
                    title(task),
                    percent(entry["boxed_rate"]["value"]),
                    None if tokens is None else f"{tokens['value']:.0f}",
                    None if tokens is None else f"{entry['tokens_median']:.0f}",
                    percent(entry["cut_off"]),
                    entry["prompt_too_long"],
                ]
            )
    return out


def _grid(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    rows = [[_cell_text(cell) for cell in row] for row in [head, *body]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _cell_text(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]
