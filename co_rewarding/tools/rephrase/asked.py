# SPDX-License-Identifier: Apache-2.0
"""Prompts and answer extraction for both views of a question, as in training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from co_rewarding.algo.answer_format import AnswerFormat, answer_format
from co_rewarding.storage.rows import SYSTEM_PROMPT


@dataclass(frozen=True)
class Asked:
    """A question's prompt settings besides its text."""

    system: str = SYSTEM_PROMPT  # "": no system message
    spec: str = ""  # the answer format (algo/answer_format.py)
    choices: tuple[str, ...] = ()  # texts of the options

    @property
    def format(self) -> AnswerFormat:
        return answer_format(self.spec)

    def messages(self, text: str) -> list[dict[str, str]]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": text}]

    def name_of(self, text: str) -> str:
        """A short name of a text with these settings; with the default settings, of the text alone."""
        return digest(text if self == Asked() else json.dumps([text, asdict(self)]))


def digest(text: str) -> str:
    """A short name of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
