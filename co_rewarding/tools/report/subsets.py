# SPDX-License-Identifier: Apache-2.0
"""Results on a subset of the questions, given by a file.

A prompt matches a question if it ends in its text, or in its text and a few characters of a chat template. White space
is ignored. Accuracy comes from the validation dumps; labels are those of the original views in training, compared with
the truth like answers in a vote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.rows import question_text
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.data.questions import read_rows
from co_rewarding.tools.report.runs import Run, Subset, dumped_steps, read_rollouts
from co_rewarding.tools.report.verdicts import right_shares, start_of

TEMPLATE_CHARS = 40
"""Characters allowed after a question: "<|im_end|>\\n<|im_start|>assistant\\n" has 32 characters."""


def asks_one_of(file: Path) -> Callable[[str], bool]:
    """Whether a prompt matches a question of `file`.

    Raises:
        ValueError: the file is not readable (storage/questions.py), or has no question.
    """
    texts = {" ".join(text.split()) for row in read_rows(file) if (text := question_text(row))}
    if not texts:
        raise ValueError(f"{file}: no row has a question (a user message in the column prompt)")

    @cache
    def asks(prompt: str) -> bool:
        asked = " ".join(prompt.split())
        places = (asked.rfind(text, max(0, len(asked) - len(text) - TEMPLATE_CHARS)) for text in texts)
        return any(place >= 0 and not asked[place - 1 : place].isalnum() for place in places)  # 5 - 3 is not 25 - 3

    return asks


def with_subset(run: Run, run_dir: Path, name: str, asks: Callable[[str], bool]) -> Run:
    """`run` with the accuracy on questions where `asks` is true as a further metric, and its Subset."""
    layout, metric = RunDir(run_dir), f"subset/{name}/accuracy"
    steps = {step: dict(data) for step, data in run.steps.items()}
    verdicts: dict[int, dict[str, dict[str, float]]] = {}
    for accuracy in list(run.accuracy_metrics.values())[:1]:
        for step, shares in right_shares(layout, run.series(accuracy)[0]).items():
            if apart := {question: share for question, share in shares.items() if asks(question)}:
                steps[step][metric] = fmean(apart.values())
                verdicts[step] = {start_of(run.name): apart}
    same, right, total = Equivalence().same, 0, 0
    for step in dumped_steps(run_dir, run):
        labels = {
            rollout.question: rollout
            for rollout in read_rollouts(run_dir, step)
            if rollout.view == "original" and rollout.label is not None and asks(rollout.prompt)
        }
        right += sum(same(one.label, one.ground_truth) for one in labels.values() if one.ground_truth is not None)
        total += sum(one.ground_truth is not None for one in labels.values())
    run = replace(run, steps=steps, verdicts={**run.verdicts, metric: verdicts})
    subset = Subset(metric, run.num_questions(metric) or 0, right, total)
    return replace(run, subsets={**(run.subsets or {}), name: subset})
