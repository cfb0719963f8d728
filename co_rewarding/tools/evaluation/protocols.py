# SPDX-License-Identifier: Apache-2.0
r"""Prompts of a set and extraction of answers: training's way, and lighteval's.

    training    the row's messages, system prompt included; the answer in the row's format, usually the last closed
                \boxed{...} (algo/answer_format.py)
    lighteval   lighteval's own prompt without a system message; an answer anywhere in the text

The paper's numbers for MATH-500 and GSM8K are lighteval's (its appendix C.3), so only the second is comparable.
Prompts, lengths and the order of extraction are those of lighteval 0.10.0 (MIT licence), the version of the paper's
time: tasks lighteval|math_500 and lighteval|gsm8k. As with its --use-chat-template, which 0.13 sets by default for a
tokenizer that has one, the prompt is a user message, and GSM8K's stop "Question:" is not used. Extracted answers are
compared as everywhere here (co_rewarding.algo.equivalence), not by lighteval's call of math-verify. lighteval's
few-shot variants are not supported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from co_rewarding.tools.evaluation.extraction import extract_anywhere

Messages = list[dict[str, str]]

# lighteval/tasks/default_prompts.py: math_500 (there adapted from OpenAI's simple-evals) and gsm8k
MATH_500 = (
    "Solve the following math problem efficiently and clearly.  The last line of your response should be of the "
    "following format: 'Therefore, the final answer is: $\\boxed{{ANSWER}}$. I hope it is correct' (without quotes) "
    "where ANSWER is just the final number or expression that solves the problem. Think step by step before "
    "answering.\n\n{question}"
)
GSM8K = "Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Protocol:
    """Prompt and answer extraction."""

    name: str
    template: str | None = None  # template of the user's message; None: the row's messages
    max_tokens: int | None = None  # tokens of a response; None: the user's option
    answers: Callable[[Sequence[str]], list[str | None]] | None = None  # in responses; None: in the rows' formats

    def messages(self, messages: Messages) -> Messages:
        if self.template is None:
            return messages
        question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
        return [{"role": "user", "content": self.template.format(question=question)}]


TRAINING = Protocol("training")
LIGHTEVAL_MATH = Protocol("lighteval", MATH_500, 32_768, partial(extract_anywhere, boxed_priority=55))
LIGHTEVAL_GSM8K = Protocol("lighteval", GSM8K, 256, partial(extract_anywhere, boxed_priority=0))
