# SPDX-License-Identifier: Apache-2.0
"""Score a file of responses offline: what would this method, threshold or equivalence have rewarded?

    python -m co_rewarding.score FILE.jsonl --method co_rewarding_I --output OUT.jsonl

FILE holds one JSON object a line, in any order:

    question      string or integer; the same for both wordings of a question
    view          "original" or "rephrased"
    voter         "student" or "teacher"
    response      string
    ground_truth  string, raw or boxed; may be empty, null or absent
    step          string or integer, may be absent; the same question in another step is another group

Other fields are carried along, so that a training dump can be scored as it is. OUT holds the same rows in the same
order with answer, label and reward set: label null where there is none, reward null for a row that is never trained
on (a teacher's). Metrics (monitoring.metrics) go to standard output, progress and errors to standard error. The exit
code is 0, or 2 with one line that says what to change; then OUT is not touched.

The file is read twice, so that only answers and not whole responses are held in memory. Needs neither verl nor a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from co_rewarding.algo.answers import extract_answer, ground_truth_answer
from co_rewarding.algo.equivalence.relation import MODES, Equivalence, WorkerError
from co_rewarding.algo.methods import METHODS, Method, method, score_rollouts
from co_rewarding.algo.rollouts import VIEWS, VOTERS, RewardInputs, Rollout, Scores, answers_by_question
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.storage.files import atomic_write, json_line, short_json
from co_rewarding.tools.cli import Parser, UserError

PROGRESS_EVERY_S = 5.0


class _Progress:
    """A line on standard error every few seconds."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()

    def show(self, what: str) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S:
            self._last = now
            print(f"co_rewarding.score: {what} ({now - self._started:.0f} s)", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    try:
        _run(_parse_arguments(arguments))
    except (UserError, WorkerError) as error:
        print(f"co_rewarding.score: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m co_rewarding.score",
        description="Label and reward the responses in a JSONL file by one of the methods, and print its metrics.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.jsonl", help="rows {question, view, voter, response, ...}")
    parser.add_argument("--method", required=True, help=", ".join(name for name in METHODS))
    parser.add_argument("--output", required=True, type=Path, metavar="OUT.jsonl", help="where the scored rows go")
    parser.add_argument(
        "--min-agreement", type=float, default=0.0, help="0-1, smallest share of votes that makes a label (default 0)"
    )
    parser.add_argument("--equivalence", default="math", help=f"{', '.join(MODES)} (default math)")
    parser.add_argument("--seed", type=int, default=0, help="of the method random (default 0)")
    parser.add_argument("--json", action="store_true", help="print the metrics as one JSON object")
    options = parser.parse_args(arguments)
    try:
        options.method = method(options.method)
    except ValueError as error:
        raise UserError(f"--method: {error}") from None
    if options.method.needs_logits:
        raise UserError(
            f"--method {options.method.name} needs the policy's logits, which a file of responses does not hold: "
            "it can only be computed in training"
        )
    if options.equivalence not in MODES:
        raise UserError(f"--equivalence {options.equivalence!r} is unknown: use one of {', '.join(MODES)}")
    if not 0.0 <= options.min_agreement <= 1.0:
        raise UserError(f"--min-agreement {options.min_agreement} is out of range: use a share between 0 and 1")
    if not options.file.is_file():
        raise UserError(f"{options.file} is {'not a file' if options.file.exists() else 'missing'}: name a JSONL file")
    if options.output.exists() and options.output.samefile(options.file):
        raise UserError(f"--output {options.output} is the input: name another file")
    if options.output.is_dir() or not options.output.parent.is_dir():
        raise UserError(f"--output {options.output}: its folder must exist, and it must not be a folder itself")
    return options


def _run(options: argparse.Namespace) -> None:
    progress = _Progress()
    rollouts, truths, texts = _read(options.file, options.method, progress)
    _check_needs(options.method, rollouts, options.file)
    with Equivalence(mode=options.equivalence) as equivalence:

        def same(a: str, b: str) -> bool:
            progress.show(f"{equivalence.counts.calls:,} pairs of answers compared")
            return equivalence.same(a, b)

        equivalence.prepare(answers_by_question(rollouts, truths))
        inputs = RewardInputs(
            rollouts,
            same,
            min_agreement=options.min_agreement,
            ground_truths=truths if options.method.needs_labels else None,
            texts=texts,
            seed=options.seed,
        )
        scores = score_rollouts(options.method, inputs)
        metrics = group_metrics(rollouts, scores, truths, same)
        counts = equivalence.counts
    _write(options.file, options.output, rollouts, scores, progress)
    if options.json:
        print(json.dumps(metrics))
    else:
        width = max(map(len, metrics))
        print(f"{options.method.name}: {len(rollouts):,} rows -> {options.output}")
        for name, value in metrics.items():
            print(f"  {name:<{width}}  {value:.4f}")
    if options.method.is_consensus and not any(scores.row_labels):
        print(
            f"co_rewarding.score: no group has a label, every reward is 0: {_why_no_label(options, rollouts)}",
            file=sys.stderr,
        )
    if counts.failures or counts.parse_failures:
        print(
            f"co_rewarding.score: compared by their spelling only: {counts.parse_failures} answers that are no "
            f"mathematics; given up: {counts.timeouts + counts.over_budget} out of time, {counts.memory_kills} out of "
            f"memory, {counts.crashes} by a crash",
            file=sys.stderr,
        )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every line that is not blank."""
    try:
        lines = path.open("rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    with lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path}, line {number}: not JSON ({reason}): one object a line") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: {short_json(row)} is not an object: use {{...}}")
            yield number, row


def _read(path: Path, method: Method, progress: _Progress) -> tuple[list[Rollout], list[str | None], list[str] | None]:
    """What scoring needs of every row: the rollout, the ground truth, and the text unless the method is a vote."""
    rollouts: list[Rollout] = []
    truths: list[str | None] = []
    texts: list[str] | None = None if method.is_consensus else []
    for number, row in _rows(path):
        where = f"{path}, line {number}"
        question = _field(row, "question", (str, int), "a string or an integer", where)
        step = row.get("step")
        if step is not None:
            step = _field(row, "step", (str, int), "a string, an integer or null", where)
        view = _field(row, "view", (str,), f"one of {', '.join(VIEWS)}", where, VIEWS)
        voter = _field(row, "voter", (str,), f"one of {', '.join(VOTERS)}", where, VOTERS)
        response = _field(row, "response", (str,), "a string", where)
        truth = row.get("ground_truth")
        if truth is not None:
            truth = ground_truth_answer(_field(row, "ground_truth", (str,), "a string or null", where))
        rollouts.append(Rollout((step, question), view, voter, extract_answer(response)))
        truths.append(truth)
        if texts is not None:
            texts.append(response)
        progress.show(f"{len(rollouts):,} rows read")
    if method.needs_labels and rollouts and not any(truths):
        raise UserError(f"{path}: no row has a 'ground_truth', which method {method.name} rewards by")
    return rollouts, truths, texts


def _field(
    row: dict[str, Any], name: str, types: tuple[type, ...], wanted: str, where: str, allowed: tuple[str, ...] = ()
) -> Any:
    if name not in row:
        raise UserError(f"{where}: field {name!r} is missing: it must be {wanted}")
    value = row[name]
    if not isinstance(value, types) or isinstance(value, bool) or (allowed and value not in allowed):
        raise UserError(f"{where}: field {name!r} is {short_json(value)}: it must be {wanted}")
    return value


def _check_needs(method: Method, rollouts: list[Rollout], path: Path) -> None:
    """Refuse what could only give rewards of 0 throughout."""
    voters = {row.voter for row in rollouts}
    views = {row.view for row in rollouts}
    if "student" not in voters:
        raise UserError(f"{path} has no student row: there is nothing to reward")
    if method.needs_teacher and "teacher" not in voters:
        raise UserError(f"{path} has no teacher row: in method {method.name} the teacher votes")
    if method.needs_both_views and len(views) < len(VIEWS):
        raise UserError(
            f"{path} has only the view {views.pop()!r}: method {method.name} labels each view by the other one"
        )


def _why_no_label(options: argparse.Namespace, rollouts: list[Rollout]) -> str:
    voter = "teacher" if options.method.needs_teacher else "student"
    answers = [row.answer for row in rollouts if row.voter == voter]
    if any(answers):
        return f"no answer has --min-agreement {options.min_agreement} of its group's votes"
    return rf"none of the {voter}'s {len(answers):,} responses states an answer in \boxed{{...}}"


def _write(source: Path, target: Path, rollouts: list[Rollout], scores: Scores, progress: _Progress) -> None:
    """The rows of `source` with what was found out, into `target`, which appears only when it is complete."""
    try:
        with atomic_write(target) as part, part.open("wb") as out:
            found = zip(_rows(source), rollouts, scores.row_labels, scores.rewards, strict=True)
            for (number, row), rollout, label, reward in found:
                row |= {"answer": rollout.answer, "label": label, "reward": reward}
                out.write(json_line(row))
                progress.show(f"{number:,} rows written")
    except OSError as error:
        raise UserError(f"--output {target} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
