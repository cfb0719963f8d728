#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the table and the curves of compare_methods.sh: what each method came to on the toy task.

The runs must be called <method>_seed<number>. Shown apart are the plain differences with a borrow, on which the model
starts out agreeing with itself on a wrong answer. Written are FIGURE and, beside it, the same name with .md, and with
_controls the curves of the controls beside those of the true labels, which would hide all differences in the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from co_rewarding.algo.methods import METHODS
from co_rewarding.storage.provenance import commits_of
from co_rewarding.tools.quickstart.arithmetic import THINGS, borrows, fact_of
from co_rewarding.tools.report.comparison import Seeds, read_methods, special_accuracy, table
from co_rewarding.tools.report.figures import ACCURACY, FORMATS, Panel, draw
from co_rewarding.tools.report.runs import Run

BORROWS = "plain_borrows/accuracy"
DATA = Path("data/toy_differences")
PANELS = (
    ACCURACY,
    Panel("Of it: plain differences with a borrow", ((BORROWS, ""),)),
    Panel("Accuracy of the labels", (("label/accuracy", ""),), is_share=True),
    Panel("Reward mean (nats are off the scale)", (("reward/mean", ""),), is_share=True),
    Panel("Response length (tokens)", (("response_length/mean", ""),)),
    Panel("Policy entropy (nats a token)", (("actor/entropy", ""),)),
)


def slipped_questions(file: Path) -> set[str]:
    """The texts of a file's questions of the kind that the model was taught to get wrong."""
    rows = pq.read_table(file, columns=["prompt", "extra_info"]).to_pylist()
    facts = {row["prompt"][-1]["content"]: row["extra_info"] for row in rows}
    return {
        text
        for text, info in facts.items()
        if borrows(fact_of(info)) and not any(f" {thing}" in text for thing in THINGS)
    }


def drawn(seeds: Seeds, special: Callable[[str], bool]) -> list[Run]:
    """The runs of a method under names for a legend, with the accuracy on special questions as one more metric."""
    runs = []
    for run_dir, run in zip(seeds.run_dirs, seeds.runs, strict=True):
        accuracies = special_accuracy(run_dir, run, special)
        steps = {
            step: {**data, BORROWS: accuracies[step][0]} if step in accuracies else data
            for step, data in run.steps.items()
        }
        name = seeds.method if len(seeds.runs) == 1 else run.name.replace("_seed", ", seed ")
        runs.append(replace(run, name=name, steps=steps))
    return runs


def is_control(seeds: Seeds) -> bool:
    return seeds.method in METHODS and METHODS[seeds.method].is_control


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--test_file", type=Path, default=DATA / "test.parquet", help="the questions validated on")
    parser.add_argument("--train_file", type=Path, default=DATA / "train.parquet", help="those trained on")
    parser.add_argument("--figure", type=Path, default=Path("figs/comparison.png"), help="where the curves go")
    parser.add_argument(
        "--command", default="bash scripts/compare_methods.sh", help="the command, for the table's text"
    )
    args = parser.parse_args()
    if args.figure.suffix not in FORMATS:
        parser.error(f"--figure {args.figure}: use a name that ends in {', '.join(FORMATS)}")

    try:
        methods = read_methods(args.run_dirs)
        slipped = slipped_questions(args.test_file)
        known = tuple(slipped | slipped_questions(args.train_file))

        def special(prompt: str) -> bool:
            return prompt.endswith(known)

        figures = {args.figure: [seeds for seeds in methods if not is_control(seeds)]}
        if controls := [seeds for seeds in methods if is_control(seeds)]:
            truth = [seeds for seeds in methods if seeds.method == "ground_truth"]
            figures[args.figure.with_stem(f"{args.figure.stem}_controls")] = truth + controls
        for path, shown in figures.items():
            if shown:
                draw([run for seeds in shown for run in drawn(seeds, special)], path, panels=PANELS)
        text = table(methods, special=special, special_name=f"{len(slipped)} plain borrows")
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    steps = max(run.trained_steps[-1] for seeds in methods for run in seeds.runs)
    commits = dict.fromkeys(commit for run_dir in args.run_dirs for commit in commits_of(run_dir))
    at = f" at commit {', '.join(f'`{commit}`' for commit in commits)}" if commits else ""
    made = f"Made by `{args.command}`{at}, {steps} steps a run."
    legend = (
        "Accuracy: greedy, on held-out questions, ± standard error with one seed, ± standard deviation over several. "
        "Label accuracy, reward and length: mean of the first 3 → of the last 3 steps. – : not logged."
    )
    print(text)
    target = args.figure.with_suffix(".md")
    target.write_text(f"{text}\n\n{legend}\n\n{made}\n", encoding="utf-8")
    print(f"\nCurves: {', '.join(str(path) for path, shown in figures.items() if shown)}; table: {target}")


if __name__ == "__main__":
    main()
