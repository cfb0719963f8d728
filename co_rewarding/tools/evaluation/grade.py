# SPDX-License-Identifier: Apache-2.0
r"""Responses -> verdicts -> the scores of a task, by the same two functions as training.

    answer  = the response's answer in the row's format (co_rewarding.algo.answer_format), by default in the last
              closed \boxed{...}, or by the task's protocol
    correct = the answer is equivalent to the ground truth (co_rewarding.algo.equivalence.relation)

training.reward_manager does the same in validation, so both agree on the same text. (A ground truth \boxed{x} is read
as x here; validation leaves that to the equivalence, which also reads boxes.)

`read_saved` reads saved responses to grade again: training's validation dump {input, output, gts, score}, or a file of
this tool; stored verdicts are compared with ours.

A response without an answer is wrong; a question without a ground truth is in no accuracy; an abandoned comparison
counts as wrong and is counted.

Legend: P question, G response to a question.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from co_rewarding.algo.answer_format import AnswerFormat, answer_format
from co_rewarding.algo.voting import majority_vote
from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.stated_as import CHOICES, stated_as
from co_rewarding.tools.cli import UserError, printable
from co_rewarding.tools.evaluation.estimates import (
    Estimate,
    avg_at_n,
    ks_up_to,
    maj_at_k,
    mean_of_questions,
    pass_at_k,
)
from co_rewarding.tools.evaluation.generate import Generation
from co_rewarding.tools.evaluation.protocols import TRAINING, Protocol

EQUIVALENCE = "math"  # as in training's settings
Same = Callable[[str, str], bool]


@dataclass(frozen=True)
class Graded:
    """A response with its verdict."""

    generation: Generation
    answer: str | None
    correct: bool | None  # None: no ground truth

    def as_row(self) -> dict[str, Any]:
        """A line of graded/TASK.jsonl."""
        return {**asdict(self.generation), "answer": self.answer, "correct": self.correct}


def grade(generations: Sequence[Generation], same: Same, protocol: Protocol = TRAINING) -> list[Graded]:
    if protocol.answers is not None:
        answers = protocol.answers([generation.response for generation in generations])
    else:
        answers = [answer_format(g.answer_format).extract(g.response, g.choices) for g in generations]
    return [
        Graded(g, answer, None if g.ground_truth is None else answer is not None and same(answer, g.ground_truth))
        for g, answer in zip(generations, answers, strict=True)
    ]


def group(graded: Iterable[Graded]) -> list[list[Graded]]:
    """Responses by question, in the order of their numbers."""
    groups: dict[int, list[Graded]] = {}
    for row in graded:
        groups.setdefault(row.generation.index, []).append(row)
    return [sorted(groups[index], key=lambda row: row.generation.sample) for index in sorted(groups)]


def scores(graded_P_G: Sequence[Sequence[Graded]], same: Same) -> dict[str, Any]:
    """The numbers of one task, as in results.json.

    Returns:
        questions, without_ground_truth, responses: counts; samples: responses a question (the fewest);
        accuracy: name -> {value, standard_error}: avg@n (n the samples, if several), pass@k, maj@k; empty without a
        ground truth; primary: the accuracy in the table, pass@1 for one response and avg@n for several; boxed_rate
        (share of responses with an answer) and tokens: {value, standard_error}, tokens None if unknown; agreement (mean
        share of a question's responses that give its majority answer, with or without ground truths;
            None for one response a question): {value, standard_error};
        tokens_median, cut_off (share of responses that hit the limit), prompt_too_long and refused (missing responses,
        because the prompt leaves no room or a server refused; not in any length).

    Raises:
        ValueError: no responses.
    """
    rows = [row for graded_G in graded_P_G for row in graded_G]
    if not rows:
        raise ValueError("no responses to score")
    labelled_P_G = [graded_G for graded_G in graded_P_G if graded_G[0].correct is not None]
    samples = min(len(graded_G) for graded_G in labelled_P_G or graded_P_G)
    correct_P_G = [[bool(row.correct) for row in graded_G] for graded_G in labelled_P_G]
    answers_P_G = [[row.answer for row in graded_G] for graded_G in labelled_P_G]
    accuracy: dict[str, Estimate] = {}
    if labelled_P_G:
        if samples > 1:
            accuracy[f"avg@{samples}"] = avg_at_n(correct_P_G)
        accuracy |= {f"pass@{k}": pass_at_k(correct_P_G, k) for k in ks_up_to(samples)}
        accuracy |= {f"maj@{k}": maj_at_k(answers_P_G, correct_P_G, k, same) for k in ks_up_to(samples) if k > 1}
    not_asked = ("prompt_too_long", "refused")
    asked_P_G = [[row for row in graded_G if row.generation.finish not in not_asked] for graded_G in graded_P_G]
    asked_P_G = [asked_G for asked_G in asked_P_G if asked_G]
    tokens = [row.generation.tokens for asked_G in asked_P_G for row in asked_G]
    tokens_known = bool(tokens) and None not in tokens
    finished = [row.generation.finish for row in rows]
    return {
        "questions": len(graded_P_G),
        "without_ground_truth": len(graded_P_G) - len(labelled_P_G),
        "responses": len(rows),
        "samples": samples,
        "primary": (f"avg@{samples}" if samples > 1 else "pass@1") if labelled_P_G else None,
        "accuracy": {name: asdict(estimate) for name, estimate in accuracy.items()},
        "boxed_rate": asdict(_mean(graded_P_G, lambda row: row.answer is not None)),
        "agreement": _agreement(graded_P_G, same),
        "tokens": asdict(_mean(asked_P_G, lambda row: row.generation.tokens)) if tokens_known else None,
        "tokens_median": statistics.median(tokens) if tokens_known else None,
        "cut_off": finished.count("length") / len(rows) if set(finished) != {None} else None,
        **{name: finished.count(name) for name in not_asked},
    }


def _agreement(graded_P_G: Sequence[Sequence[Graded]], same: Same) -> dict[str, float] | None:
    votes = [majority_vote([row.answer for row in graded_G], same) for graded_G in graded_P_G if len(graded_G) > 1]
    return asdict(mean_of_questions([vote.agreement for vote in votes])) if votes else None


def _mean(graded_P_G: Sequence[Sequence[Graded]], value: Callable[[Graded], float]) -> Estimate:
    return mean_of_questions([statistics.fmean(map(value, graded_G)) for graded_G in graded_P_G])


# --- saved responses


@dataclass(frozen=True)
class Saved:
    """A file of responses with stored verdicts and settings."""

    generations: list[Generation]
    verdicts: list[bool | None]  # stored with each; None if missing
    settings: Mapping[str, Any]  # of a file of this tool; else empty


def read_saved(path: Path) -> Saved:
    """Responses from a validation dump of training or from generations/ or graded/ of an evaluation.

    Responses to one question share verl's uid, or else the prompt and the ground truth.

    Raises:
        UserError: names the file, the line and the fault.
    """
    if not path.is_file():
        raise UserError(f"--regrade {path}: {'not a file' if path.exists() else 'no such file'}; name a JSONL file")
    rows, _ = parse_jsonl(path.read_bytes(), str(path))
    settings: Mapping[str, Any] = {}
    if rows and rows[0].get("kind") == "header":
        settings = rows.pop(0).get("settings") or {}
    if not rows:
        raise UserError(f"--regrade {path}: has no responses")
    index_of: dict[Any, int] = {}
    samples: Counter[int] = Counter()  # by index
    generations, verdicts = [], []
    for number, row in enumerate(rows, start=1):
        try:
            spec, choices = _saved_format(row)
            question, prompt, text, truth, verdict = _saved_row(row, answer_format(spec), choices)
        except (TypeError, ValueError) as error:
            raise UserError(f"--regrade {path}, response {number}: {error}") from None
        index = index_of.setdefault(question, len(index_of))
        finish = row.get("finish")
        generations.append(
            Generation(index, samples[index], prompt, truth, text, row.get("tokens"), finish, spec, list(choices))
        )
        samples[index] += 1
        verdicts.append(verdict if truth is not None else None)
    return Saved(generations, verdicts, settings)


def _saved_format(row: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Answer format and options; a validation dump has the options as JSON text."""
    choices = row.get(CHOICES)
    return stated_as({**row, CHOICES: json.loads(choices or "[]") if isinstance(choices, str) else choices})


def _saved_row(
    row: Mapping[str, Any], stated: AnswerFormat, choices: Sequence[str]
) -> tuple[Any, str, str, str | None, bool | None]:
    """Question, prompt, response, ground truth and stored verdict."""
    if "output" in row and "gts" in row:
        text, truth, prompt, verdict = row["output"], row["gts"], row.get("input"), row.get("acc", row.get("score"))
        uid = row.get("uid")
        question = uid.split("_")[0] if isinstance(uid, str) and uid else json.dumps([prompt, truth])
    elif {"index", "response", "ground_truth"} <= row.keys():
        text, truth, prompt, verdict = row["response"], row["ground_truth"], row.get("question"), row.get("correct")
        question = row["index"]
    else:
        raise ValueError(
            f"must have output and gts (a validation dump) or index, response and ground_truth (an evaluation); it has "
            f"{', '.join(sorted(row))[:80]}; training rollouts: python -m co_rewarding.score"
        )
    for name, value, kinds in (
        ("response", text, str),
        ("ground truth", truth, str | int | float | None),
        ("index", question, str | int),
        ("stored verdict", verdict, bool | int | float | None),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"the {name} is {printable(json.dumps(value), 40)}")
    truth = None if truth is None else stated.truth(str(truth), choices)
    return question, str(prompt or ""), text, truth, None if verdict is None else bool(verdict)
