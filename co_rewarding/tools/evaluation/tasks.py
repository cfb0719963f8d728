# SPDX-License-Identifier: Apache-2.0
"""What is asked: the benchmarks of the paper's tables, in their order, and any parquet file in verl's schema.

    mathematics   MATH-500, GSM8K    one response a question
                  AMC                eight (avg@8; 83 questions, of which one response is too noisy a sample)
    code          LiveCodeBench      not run here: docs/EVALUATION.md has the recipe
                  CRUXEval           lm_eval
    general       MMLU-Pro, IFEval   lm_eval

Responses are sampled at temperature 0.8 (paper, Table 5: evaluation). The mathematics sets are the files that
scripts/data_preprocess/ writes; their prompts, system prompt included, are taken as they stand.

Degenerate cases: a question without a ground truth is asked and counted, and is in no accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.storage.rows import content_sha256, file_sha256, ground_truth, read_rows

TEMPERATURE = 0.8
MAX_TOKENS = 3072  # of a response (paper, Table 5)

TITLES = {
    "math500": "MATH-500",
    "gsm8k": "GSM8K",
    "amc": "AMC",
    "livecodebench": "LiveCodeBench",
    "cruxeval": "CRUXEval-O",
    "mmlu_pro": "MMLU-Pro",
    "ifeval": "IFEval",
}
"""Tasks in the order of the paper's tables; other sets follow in the order in which they were named."""

MATHS_SAMPLES = {"math500": 1, "gsm8k": 1, "amc": 8}
"""Responses a question, of the sets that are graded here."""


@dataclass(frozen=True)
class Question:
    """One row of a set."""

    index: int  # row of the file, from 0
    messages: list[dict[str, str]]
    ground_truth: str | None  # as the answer is compared with; None: there is none

    @property
    def text(self) -> str:
        """What the user says."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), "")


@dataclass(frozen=True)
class QuestionSet:
    """A file of questions, and how many responses each gets."""

    name: str
    path: Path
    samples: int
    questions: list[Question]  # those that are asked
    num_rows: int  # of the file
    content_sha256: str  # of all prompts and ground truths of the file
    file_sha256: str


def title(task: str) -> str:
    return TITLES.get(task, task)


def default_file(data_dir: Path, task: str) -> Path:
    """Where scripts/data_preprocess/TASK.py writes it."""
    return data_dir / task / "test.parquet"


def read_questions(name: str, path: Path, samples: int, limit: int | None = None) -> QuestionSet:
    """Read a parquet file in verl's schema.

    Args:
        limit: keep the first questions only.

    Raises:
        ValueError: one line naming the file, the row and what is wrong with it.
    """
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path}: has no rows")
    questions = [_question(index, row, path) for index, row in enumerate(rows)]
    return QuestionSet(
        name=name,
        path=path,
        samples=samples,
        questions=questions[:limit],
        num_rows=len(rows),
        content_sha256=content_sha256([q.messages, q.ground_truth] for q in questions),
        file_sha256=file_sha256(path),
    )


def _question(index: int, row: Mapping[str, Any], path: Path) -> Question:
    where = f"{path}, row {index}"
    prompt = row.get("prompt")
    if not isinstance(prompt, list) or not prompt:
        raise ValueError(f"{where}: column 'prompt' is {_short(prompt)}; must be a list of {{role, content}} messages")
    messages = []
    for message in prompt:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise ValueError(
                f"{where}: message {_short(message)} of 'prompt' must have a role and a content, both text"
            )
        messages.append({"role": role, "content": content})
    if not any(message["role"] == "user" for message in messages):
        raise ValueError(f"{where}: 'prompt' has no message of the user")
    reward_model = row.get("reward_model")
    if reward_model is not None and not isinstance(reward_model, dict):
        raise ValueError(f"{where}: column 'reward_model' is {_short(reward_model)}; must be {{style, ground_truth}}")
    return Question(index, messages, ground_truth_answer(ground_truth(row)))


def in_table_order(tasks: Sequence[str]) -> list[str]:
    """The paper's tasks in the paper's order, then the others as they come."""
    known = [task for task in TITLES if task in tasks]
    return known + [task for task in dict.fromkeys(tasks) if task not in TITLES]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
