# SPDX-License-Identifier: Apache-2.0
"""Score a file of responses offline: what rewards would this method, threshold, payout or equivalence give?

    python -m co_rewarding.score FILE.jsonl --method co_rewarding_I --output OUT.jsonl
    python -m co_rewarding.score FILE.jsonl --method co_rewarding_I+0.1*brevity.py:short --output OUT.jsonl

FILE holds one JSON object a line, in any order:

    question      string or integer; the same for both views of a question
    view          "original" or "rephrased"
    voter         "student" or "teacher"
    response      string
    ground_truth  string, raw or boxed; may be empty, null or absent
    prompt        string, the user's message, and
    tokens        integer, the response's length: may be absent, for a reward that looks at neither
    step          string or integer, may be absent; a question forms a new group in each step
    answer_format, choices   answer format and the texts of the options (algo/answer_format.py); absent
                  or null: in a box, or as --answer_format says
    trained       boolean, may be absent; false: a student's row that only votes

Other fields are copied, so a training dump can be scored unchanged. OUT has the same rows in the same order with
answer, label and reward set: label null if there is none, reward null for a row that is never trained on (a teacher's,
or one with trained false); for a sum also rewards, one per term. Metrics (monitoring.metrics) go to standard output,
progress and errors to standard error. The exit code is 0, or 2 with one line that says what to change; OUT is then
unchanged.

The file is read twice, so only answers and not full responses are in memory. Needs neither verl nor a GPU.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.equivalence.relation import Equivalence, Mode, WorkerError
from co_rewarding.algo.methods import METHODS, Consensus, Method, method, score_rollouts
from co_rewarding.algo.payout import PAYOUTS, Payout
from co_rewarding.algo.rollouts import VIEWS, VOTERS, RewardInputs, Rollout, Scores, answers_by_question
from co_rewarding.monitoring.metrics import group_metrics
from co_rewarding.storage.files import atomic_write, json_line, jsonl_rows, short_json
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.tools.cli import UserError, command, progress
from co_rewarding.tools.options import REQUIRED, Options, option, parse

QUIET_S = 2.0  # faster work shows no progress


class Scoring(Options):
    """scoring"""

    file: Path = option(REQUIRED, "rows {question, view, voter, response, ...}", metavar="FILE.jsonl", positional=True)
    method: str = option(REQUIRED, ", ".join(METHODS) + ", FILE.py:FUNCTION, or a sum A+0.1*B (docs/OWN_REWARD.md)")
    output: Path = option(REQUIRED, "where the scored rows go", metavar="OUT.jsonl")
    min_agreement: float = option(0.0, "smallest share of votes for a label", ge=0, le=1)
    payout: Payout = option("hard", "what a vote pays: " + ", ".join(PAYOUTS))
    answer_format: str = option("", "answer format of rows that name none (docs/ANSWERS.md)")
    equivalence: Mode = option("math", "when two answers are the same")
    seed: int = option(0, "of rewards that draw random numbers")
    json_: bool = option(False, "print the metrics as one JSON object")

    @field_validator("method")
    @classmethod
    def _can_be_computed(cls, name: str) -> str:
        try:
            needs_logits = method(name).needs_logits
        except ValueError as error:
            raise ValueError(str(error).removeprefix(f"{name}: ")) from error
        if needs_logits:
            raise ValueError("needs the policy's logits, which no file of responses has: only training can compute it")
        return name

    @field_validator("answer_format")
    @classmethod
    def _is_one(cls, spec: str) -> str:
        answer_format(spec)
        return spec

    @model_validator(mode="after")
    def _pays(self) -> Scoring:
        if self.payout != "hard" and not method(self.method).is_consensus:
            raise ValueError(f"--payout {self.payout}: method {self.method} has no vote that could pay; leave it out")
        return self

    @model_validator(mode="after")
    def _files(self) -> Scoring:
        if not self.file.is_file():
            raise ValueError(f"{self.file} is {'not a file' if self.file.exists() else 'missing'}: name a JSONL file")
        if self.output.exists() and self.output.samefile(self.file):
            raise ValueError(f"--output {self.output} is the input: name another file")
        if self.output.is_dir() or not self.output.parent.is_dir():
            raise ValueError(f"--output {self.output}: its folder must exist, and it must not be a folder")
        return self


@command("co_rewarding.score")
def main(arguments: Sequence[str]) -> None:
    (options,) = parse(
        "python -m co_rewarding.score",
        "Label and reward the responses in a JSONL file by one of the methods, and print its metrics.",
        [Scoring],
        arguments,
    )
    chosen = method(options.method)
    read = _read(options.file, chosen, options.answer_format)
    rollouts = read.rollouts
    _check_needs(chosen, rollouts, options.file)
    try:
        scores, metrics = _score(options, read)
    except WorkerError as error:
        raise UserError(str(error)) from None
    _write(options.file, options.output, rollouts, scores)
    if options.json_:
        print(json.dumps(metrics))
    else:
        width = max(map(len, metrics))
        print(f"{chosen.name}: {len(rollouts):,} rows -> {options.output}")
        for name, value in metrics.items():
            print(f"  {name:<{width}}  {value:.4f}")
    if chosen.is_consensus and not any(scores.row_labels):
        every = "every reward" if isinstance(chosen.rule, Consensus) else "the vote's every reward"
        earned = "" if any(scores.rewards) else f", {every} is 0"  # the payout negative has others
        _remark(f"no group has a label{earned}: {_why_no_label(options, rollouts)}")


@dataclass
class Rows:
    """The fields of a row that scoring needs; those that only functions use are None for a vote, or if missing."""

    rollouts: list[Rollout] = field(default_factory=list)
    truths: list[str | None] = field(default_factory=list)
    texts: list[str] | None = None
    prompts: list[str] | None = None
    lengths: list[int] | None = None


def _score(options: Scoring, read: Rows) -> tuple[Scores, dict[str, float]]:
    """Labels, rewards and metrics of all rows; prints how many answers could not be compared by value.

    Raises:
        WorkerError: the installation cannot compare answers.
    """
    chosen, rollouts, truths = method(options.method), read.rollouts, read.truths
    by_step: dict[Any, list[tuple[Rollout, str | None]]] = defaultdict(list)
    for row, truth in zip(rollouts, truths, strict=True):
        by_step[row.question[0]].append((row, truth))
    compared = progress("co_rewarding.score: comparing", "pairs of answers", None, delay=QUIET_S)
    with Equivalence(mode=options.equivalence) as equivalence, compared:

        def same(a: str, b: str) -> bool:
            compared.update()
            return equivalence.same(a, b)

        for rows in by_step.values():  # as in training, workers get a new time budget in every step
            equivalence.prepare(answers_by_question(*zip(*rows, strict=True)))
        inputs = RewardInputs(
            rollouts,
            same,
            min_agreement=options.min_agreement,
            payout=options.payout,
            ground_truths=truths if chosen.needs_labels else None,
            texts=read.texts,
            prompts=read.prompts,
            lengths=read.lengths,
            seed=options.seed,
        )
        scores = score_rollouts(chosen, inputs)
        metrics = group_metrics(rollouts, scores, truths, same)
        counts = equivalence.counts
    if counts.failures or counts.parse_failures:
        _remark(
            f"compared by spelling only: {counts.parse_failures} answers that are no mathematics; abandoned: "
            f"{counts.timeouts + counts.over_budget} out of time, {counts.memory_kills} out of memory, "
            f"{counts.crashes} by a crash"
        )
    return scores, metrics


def _remark(text: str) -> None:
    print(f"co_rewarding.score: {text}", file=sys.stderr)


def _rows(path: Path, doing: str, total: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of every non-blank line; shows progress."""
    with path.open("rb") as file, progress(f"co_rewarding.score: {doing}", "rows", total, delay=QUIET_S) as bar:
        for numbered_row in jsonl_rows(file, str(path)):
            bar.update()
            yield numbered_row


def _read(path: Path, method: Method, usual_format: str = "") -> Rows:
    read, texts, prompts, lengths = Rows(), [], [], []
    for number, row in _rows(path, "reading"):
        where = f"{path}, line {number}"
        question = _field(row, "question", (str, int), "a string or an integer", where)
        step = row.get("step")
        if step is not None:
            step = _field(row, "step", (str, int), "a string, an integer or null", where)
        view = _field(row, "view", (str,), f"one of {', '.join(VIEWS)}", where, VIEWS)
        voter = _field(row, "voter", (str,), f"one of {', '.join(VOTERS)}", where, VOTERS)
        response = _field(row, "response", (str,), "a string", where)
        try:
            spec, choices = stated_as(row, usual_format)
            stated = answer_format(spec)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        truth = row.get("ground_truth")
        if truth is not None:
            truth = stated.truth(_field(row, "ground_truth", (str,), "a string or null", where), choices)
        trained = row.get("trained", True)
        if not isinstance(trained, bool):
            raise UserError(f"{where}: field 'trained' is {short_json(trained)}: it must be true or false")
        stopped = row.get("stopped", False)
        if not isinstance(stopped, bool):
            raise UserError(f"{where}: field 'stopped' is {short_json(stopped)}: it must be true or false")
        answer = None if stopped else stated.extract(response, choices)  # as in the run: its answer does not count
        read.rollouts.append(Rollout((step, question), view, voter, answer, trained, stopped))
        read.truths.append(truth)
        if isinstance(method.rule, Consensus):
            continue
        texts.append(response)
        prompts.append(row.get("prompt"))
        lengths.append(row.get("tokens"))
    if method.needs_labels and read.rollouts and not any(read.truths):
        raise UserError(f"{path}: no row has a 'ground_truth', which method {method.name} needs")
    if texts:
        read.texts = texts
        read.prompts = prompts if all(isinstance(prompt, str) for prompt in prompts) else None
        read.lengths = lengths if all(type(length) is int for length in lengths) else None
    return read


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
    """Refuse input whose rewards would all be 0."""
    voters = {row.voter for row in rollouts}
    views = {row.view for row in rollouts}
    if "student" not in voters:
        raise UserError(f"{path} has no student row: nothing to reward")
    if not any(row.trained for row in rollouts):
        raise UserError(f"{path}: every row has trained false: nothing to reward")
    if method.needs_teacher and "teacher" not in voters:
        raise UserError(f"{path} has no teacher row: in method {method.name} the teacher votes")
    if method.needs_both_views and len(views) < len(VIEWS):
        raise UserError(f"{path} has only the view {views.pop()!r}: method {method.name} needs votes on two views")


def _why_no_label(options: Scoring, rollouts: list[Rollout]) -> str:
    voter = "teacher" if method(options.method).needs_teacher else "student"
    answers = [row.answer for row in rollouts if row.voter == voter]
    if any(answers):
        return f"no answer reaches --min_agreement {options.min_agreement} of its group's votes"
    return f"none of the {voter}'s {len(answers):,} responses states an answer in its format (--answer_format)"


def _write(source: Path, target: Path, rollouts: list[Rollout], scores: Scores) -> None:
    """Write the rows of `source` with their results to `target`, which appears only when complete."""
    with atomic_write(target) as part, part.open("wb") as out:
        found = zip(_rows(source, "writing", len(rollouts)), rollouts, scores.row_labels, scores.rewards, strict=True)
        for i, ((_, row), rollout, label, reward) in enumerate(found):
            row |= {"answer": rollout.answer, "label": label, "reward": reward}
            row |= {"rewards": scores.terms_of_row(i)} if scores.rewards_of_term else {}
            out.write(json_line(row))


if __name__ == "__main__":
    sys.exit(main())
