# SPDX-License-Identifier: Apache-2.0
"""The command scripts/report.py: results of runs as a table, curves and a page of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.provenance import commits_of
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import UserError, command
from co_rewarding.tools.options import REQUIRED, Options, option, parse
from co_rewarding.tools.report import comparison, summary
from co_rewarding.tools.report.figures import FORMATS, PANEL_SETS, WINDOW, Panel, draw
from co_rewarding.tools.report.page import page, sample_rollouts
from co_rewarding.tools.report.questions import with_questions
from co_rewarding.tools.report.runs import Run, dumped_steps, read_rollouts, read_run
from co_rewarding.tools.report.subsets import asks_one_of, with_subset
from co_rewarding.tools.tables import to_latex, to_markdown

DESCRIPTION = """Print the results of runs and one example of rewards, and draw their curves.

    report.py RUN_DIR                                        curves to RUN_DIR/curves.png
    report.py RUN_DIR --html page.html                       and a page: curves, table, a random sample of rollouts
    report.py RUN_I RUN_II --figure compare.pdf              runs side by side, and on top of each other
    report.py *_seed* --by_method --figure m.png --table m.md    methods over their seeds
"""
TABLES = (".md", ".csv", ".tex")


class Runs(Options):
    """runs"""

    run_dirs: list[Path] = option(REQUIRED, "e.g. runs/co-rewarding/my_run", metavar="RUN_DIR", positional=True)
    by_method: bool = option(False, "group runs called METHOD_seedN: rows and curves are means over seeds")
    reference: str = option(
        "", f"with --by_method: method to compare with (default: {comparison.REFERENCE} if present)", metavar="METHOD"
    )
    questions: bool = option(False, "make RUN_DIR/questions.csv from the dumps: learned and corrupted questions")
    subset: list[str] = option([], "also the accuracy on the questions in a file", metavar="NAME=FILE")


class Curves(Options):
    """curves"""

    figure: Path | None = option(None, f"{', '.join(FORMATS)}; with one run by default RUN_DIR/curves.png")
    title: str = option("", "of figure and page")
    panels: Literal["main", "methods", "all"] = option(
        "all", "main: six panels; methods: those that differ between methods"
    )
    metric: list[str] = option([], "more metrics, a panel each", metavar="NAME")
    window: int = option(WINDOW, "steps in a mean; 1: as logged", ge=1)


class Table(Options):
    """table"""

    table: Path | None = option(None, f"also write the table: {', '.join(TABLES)}")
    made_by: str = option("", "a command to cite, with the runs' commits, under a Markdown table", metavar="COMMAND")


class Page(Options):
    """page"""

    html: Path | None = option(None, "write a self-contained page", metavar="PAGE.html")
    num_steps: int = option(6, "steps sampled for the page", ge=1)
    num_questions: int = option(8, "questions sampled of each step", ge=1)
    seed: int = option(0, "seed of the sample")


@command("report.py")
def main(arguments: Sequence[str]) -> None:
    chosen, curves, output, paged = parse("report.py", DESCRIPTION, [Runs, Curves, Table, Page], arguments)
    if len(chosen.run_dirs) > 1 and curves.figure is None:
        raise UserError("several run directories: name the figure, e.g. --figure compare.png")
    if chosen.reference and not chosen.by_method:
        raise UserError(f"--reference {chosen.reference}: give --by_method, too")
    if output.table and output.table.suffix not in TABLES:
        raise UserError(f"--table {output.table}: the name must end in {', '.join(TABLES)}")
    figure = curves.figure or chosen.run_dirs[0] / "curves.png"
    runs = _read(chosen)
    panels = _panels(runs, curves)
    figures = {figure: runs}
    if chosen.by_method:
        methods = comparison.by_method(chosen.run_dirs, runs)
        reference = comparison.reference_of(methods, chosen.reference)
        table, legend = comparison.table(methods, reference), comparison.methods_legend(methods)
        figures = _figures_of_methods(methods, figure)
    else:
        table, legend = summary.table(runs), summary.legend(runs)
    written = []  # before printing, which a closed pipe would end
    for path, shown in figures.items():
        draw(shown, path, title=curves.title, panels=panels, window=curves.window)
        written.append(f"Curves: {path}")
    if output.table:
        _write_table(output.table, table, legend, _made_by(output.made_by, chosen.run_dirs, runs))
        written.append(f"Table: {output.table}")
    if paged.html:
        samples = [
            sample_rollouts(run_dir, run, paged.num_steps, paged.num_questions, paged.seed)
            for run_dir, run in zip(chosen.run_dirs, runs, strict=True)
        ]
        atomic_write_text(paged.html, page(runs, samples, curves.title, panels, curves.window))
        written.append(f"Page: {paged.html}")
    if chosen.questions:
        written += [f"Questions: {RunDir(run_dir).questions}" for run_dir in chosen.run_dirs]
    notes = [f"note: {note}" for run in runs for note in run.notes]
    examples = [] if chosen.by_method else _examples(chosen.run_dirs, runs)
    print("\n".join([summary.as_text(table), legend, *notes, *examples, "", *written]))


def _read(chosen: Runs) -> list[Run]:
    runs = [with_questions(read_run(run_dir), run_dir, chosen.questions) for run_dir in chosen.run_dirs]
    for text in chosen.subset:
        name, _, file = text.partition("=")
        if not name or not file:
            raise UserError(f"--subset {text}: must be NAME=FILE")
        asks = asks_one_of(Path(file))
        runs = [with_subset(run, run_dir, name, asks) for run_dir, run in zip(chosen.run_dirs, runs, strict=True)]
        if not any(run.subsets[name].num_questions for run in runs):
            raise UserError(f"--subset {text}: no validation dump of these runs has a question of that file")
    return runs


def _panels(runs: Sequence[Run], curves: Curves) -> list[Panel]:
    """The chosen set, with the subsets' accuracies after its first panel and more metrics last."""
    logged = {name for run in runs for name in run.metrics}
    if unknown := [name for name in curves.metric if name not in logged]:
        raise UserError(f"--metric {unknown[0]}: no run logged it; docs/METRICS.md lists all metrics")
    accuracy, *others = PANEL_SETS[curves.panels]
    apart = [Panel(f"Of these: {name}", {subset.metric: ""}) for name, subset in (runs[0].subsets or {}).items()]
    return [accuracy, *apart, *others, *(Panel(name, {name: ""}) for name in curves.metric)]


def _figures_of_methods(methods: comparison.Methods, figure: Path) -> dict[Path, list[Run]]:
    """The controls in a separate panel with the true labels: they would hide the differences between the others."""
    shown = {method: comparison.mean_run(method, runs) for method, runs in methods.items()}
    controls = [run for method, run in shown.items() if comparison.is_control(method)]
    others = [run for method, run in shown.items() if not comparison.is_control(method)]
    if not controls or not others:
        return {figure: [*others, *controls]}
    truth = [shown["ground_truth"]] if "ground_truth" in shown else []
    return {figure: others, figure.with_stem(f"{figure.stem}_controls"): truth + controls}


def _examples(run_dirs: Sequence[Path], runs: Sequence[Run]) -> list[str]:
    found = []
    for run_dir, run, name in zip(run_dirs, runs, summary.distinct_names(runs), strict=True):
        for step in dumped_steps(run_dir, run)[-1:]:
            if text := summary.example(step, read_rollouts(run_dir, step)):
                found.append(f"\n{f'[{name}] ' if len(runs) > 1 else ''}{text}")
    return found


def _made_by(words: str, run_dirs: Sequence[Path], runs: Sequence[Run]) -> str:
    if not words:
        return ""
    steps = max((step for run in runs for step in run.trained_steps), default=0)
    commits = dict.fromkeys(commit for run_dir in run_dirs for commit in commits_of(run_dir))
    at = f" at commit {', '.join(f'`{commit}`' for commit in commits)}" if commits else ""
    return f"\nMade by `{words}`{at}, {steps} steps a run.\n"


def _write_table(path: Path, table: pd.DataFrame, legend: str, made_by: str) -> None:
    if path.suffix == ".csv":
        text = table.to_csv(index=False)
    else:
        text = to_latex(table) if path.suffix == ".tex" else f"{to_markdown(table)}\n\n{legend}\n{made_by}"
    atomic_write_text(path, text)
