# SPDX-License-Identifier: Apache-2.0
"""Every finished generation of a task, durably (co_rewarding.storage.journal).

    {"index", "sample", "question", "ground_truth", "response", "tokens", "finish"}

index is the question's row, sample counts its responses from 0. tokens includes the end-of-text token, as training's
response length does. finish is "stop", "length" (cut off at the limit) or "prompt_too_long" (never asked, no response).

How many questions and how many responses are wanted is no part of the settings, so a file made with --limit 20 or one
response is gone on with when more are wanted.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from co_rewarding.storage.journal import Journal, Record


@dataclass(frozen=True)
class Generation:
    """One response."""

    index: int
    sample: int
    question: str
    ground_truth: str | None
    response: str
    tokens: int | None  # None: not known (graded from a dump that does not say)
    finish: str | None


class Generations(Journal):
    """The open file of one task; `done` holds what it has by (index, sample)."""

    CANNOT_OPEN = "choose another --output_dir"
    IN_USE = "another evaluation: wait for it, or choose another --output_dir"
    OTHER_SETTINGS = "made with {}, now it is {}: choose another --output_dir, or throw it away with --restart"
    DAMAGED = "not a line of this tool; take it out, or start anew with --restart"

    def __init__(self, path: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
        super().__init__(path, settings, restart)
        self.done = {key: Generation(**record) for key, record in self.records.items()}

    @staticmethod
    def key(record: Record) -> Hashable:
        generation = Generation(**record)
        return (generation.index, generation.sample)

    def add(self, generation: Generation) -> None:
        if self.append(asdict(generation)):
            self.done[generation.index, generation.sample] = generation
