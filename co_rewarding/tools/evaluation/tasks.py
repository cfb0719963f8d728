# SPDX-License-Identifier: Apache-2.0
"""Tasks: the benchmarks of the paper's tables, in their order, and any file of questions.

    mathematics   MATH-500, GSM8K    one response a question, in training's way and in lighteval's (protocols.py)
                  AMC                eight (avg@8; 83 questions, of which one response is too noisy a sample)
    code          LiveCodeBench      not run here: docs/EVALUATION.md has the recipe
                  CRUXEval           lm_eval
    general       MMLU-Pro, IFEval   lm_eval

Responses are sampled at temperature 0.8 (paper, Table 5: evaluation). The mathematics sets are the files that
scripts/data_preprocess/ writes.

A question without a ground truth is answered and counted, but is in no accuracy; a set without any is reported before
generation.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.storage.rows import content_sha256, ground_truth
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.tools.cli import UserError, printable
from co_rewarding.tools.data.questions import files_sha256, read_rows
from co_rewarding.tools.evaluation.protocols import LIGHTEVAL_GSM8K, LIGHTEVAL_MATH, TRAINING, Protocol

TEMPERATURE = 0.8
MAX_TOKENS = 3072  # of a response (paper, Table 5)


@dataclass(frozen=True)
class Task:
    """A set of mathematics questions with its prompt settings."""

    file: str  # folder below --data_dir
    samples: int = 1  # responses a question
    protocol: Protocol = TRAINING


MATHS = {
    "math500": Task("math500"),
    "math500_lighteval": Task("math500", protocol=LIGHTEVAL_MATH),
    "gsm8k": Task("gsm8k"),
    "gsm8k_lighteval": Task("gsm8k", protocol=LIGHTEVAL_GSM8K),
    "amc": Task("amc", samples=8),
}
TITLES = {
    "math500": "MATH-500",
    "math500_lighteval": "MATH-500 (lighteval)",
    "gsm8k": "GSM8K",
    "gsm8k_lighteval": "GSM8K (lighteval)",
    "amc": "AMC",
    "livecodebench": "LiveCodeBench",
    "cruxeval": "CRUXEval-O",
    "mmlu_pro": "MMLU-Pro",
    "ifeval": "IFEval",
}
"""Tasks in the order of the paper's tables; other sets follow in the order in which they were named."""


@dataclass(frozen=True)
class Question:
    """One row of a set."""

    index: int  # row of the file, from 0
    messages: list[dict[str, str]]  # the prompt
    text: str  # the user's message in the file
    ground_truth: str | None  # the answer's reference; None: there is none
    answer_format: str = ""  # answer format (algo/answer_format.py); "": the default
    choices: tuple[str, ...] = ()  # texts of its options


@dataclass(frozen=True)
class QuestionSet:
    """A file of questions, with the number of responses each."""

    name: str
    path: Path
    samples: int
    protocol: Protocol
    questions: list[Question]  # the selected ones
    num_rows: int  # of the file
    content_sha256: str  # of all prompts and ground truths of the file
    file_sha256: str


def title(task: str) -> str:
    return TITLES.get(task, task)


def in_table_order(tasks: Sequence[str]) -> list[str]:
    """The paper's tasks in the paper's order, then the others in order of appearance."""
    known = [task for task in TITLES if task in tasks]
    return known + [task for task in dict.fromkeys(tasks) if task not in TITLES]


def default_file(data_dir: Path, task: str) -> Path:
    """Its path from scripts/data_preprocess/."""
    return data_dir / MATHS[task].file / "test.parquet"


def read_questions(
    name: str, path: Path, samples: int | None, limit: int | None = None, usual_format: str = ""
) -> QuestionSet:
    """Read a file of questions (storage/questions.py).

    Args:
        samples: responses a question; None: the task's own number.
        limit: keep the first questions only.
        usual_format: answer format of rows that name none (algo/answer_format.py).

    Raises:
        ValueError: names the file, the row and its fault.
    """
    task = MATHS.get(name, Task(name))
    rows = read_rows(path, usual_format)
    if not rows:
        raise UserError(f"{path}: has no rows")
    questions = [_question(index, row, path, usual_format) for index, row in enumerate(rows)]
    asked = questions[:limit]
    if not any(question.ground_truth for question in asked):
        print(f"note: {path}: no question has a ground truth, so there is no accuracy", file=sys.stderr)
    return QuestionSet(
        name=name,
        path=path,
        samples=samples or task.samples,
        protocol=task.protocol,
        questions=[_asked(question, task.protocol) for question in asked],
        num_rows=len(rows),
        content_sha256=content_sha256(
            [q.messages, q.ground_truth, *([q.answer_format, q.choices] if q.answer_format or q.choices else [])]
            for q in questions
        ),
        file_sha256=files_sha256(path),
    )


def _asked(question: Question, protocol: Protocol) -> Question:
    return replace(question, messages=protocol.messages(question.messages))


def _question(index: int, row: Mapping[str, Any], path: Path, usual_format: str) -> Question:
    where = f"{path}, row {index}"
    prompt = row.get("prompt")
    if not isinstance(prompt, list) or not prompt:
        shown = printable(repr(prompt), 60)
        raise UserError(f"{where}: column 'prompt' is {shown}; must be a list of {{role, content}} messages")
    messages = []
    for message in prompt:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            shown = printable(repr(message), 60)
            raise UserError(f"{where}: message {shown} of 'prompt' must have a role and a content, both text")
        messages.append({"role": role, "content": content})
    text = next((message["content"] for message in reversed(messages) if message["role"] == "user"), None)
    if text is None:
        raise UserError(f"{where}: 'prompt' has no message of the user")
    reward_model = row.get("reward_model")
    if reward_model is not None and not isinstance(reward_model, dict):
        shown = printable(repr(reward_model), 60)
        raise UserError(f"{where}: column 'reward_model' is {shown}; must be {{style, ground_truth}}")
    try:
        spec, choices = stated_as(row, usual_format)
        truth = answer_format(spec).truth(ground_truth(row), choices)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return Question(index, messages, text, truth, spec, choices)
