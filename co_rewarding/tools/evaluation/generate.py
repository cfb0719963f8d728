# SPDX-License-Identifier: Apache-2.0
"""Responses from the engine, each recorded when finished, so a killed evaluation resumes (storage.journal).

A record is {"index", "sample", "question", "ground_truth", "response", "tokens", "finish"}: index is the row of the
question, sample counts its responses from 0. tokens includes the end-of-text token, as training's response length does
(null if a server does not report it). finish is "stop", "length" (cut off at the limit), or the reason for no response:
"prompt_too_long", "refused". The numbers of questions and responses are not part of the settings, so a file made with
--limit 20 or one response is extended when more are requested.

Randomness: each request has its own seed, derived from seed, task, question and number of the response, so a response
does not depend on concurrent or earlier requests (up to the rounding of batched kernels). vLLM's CPU engine cannot take
request seeds, so there the engine gets the seed, mixed with the number of finished generations: a resumed evaluation
must not draw the same noise again.

A failed request is not recorded; the same command retries it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.journal import Journal, Record
from co_rewarding.tools.cli import progress
from co_rewarding.tools.evaluation.tasks import QuestionSet
from co_rewarding.tools.generation.engine import Completion, Engine, Request, Sampling, seed_of


@dataclass(frozen=True)
class Generation:
    """One response."""

    index: int
    sample: int
    question: str
    ground_truth: str | None
    response: str
    tokens: int | None  # None: unknown
    finish: str | None
    answer_format: str = ""  # answer format (algo/answer_format.py); "": the default
    choices: list[str] = field(default_factory=list)  # texts of its options


def record_key(record: Record) -> tuple[int, int]:
    generation = Generation(**record)
    return generation.index, generation.sample


def of_set(journal: Journal, asked: QuestionSet) -> list[Generation]:
    """The requested responses that exist, in the order of the file."""
    indices = {question.index for question in asked.questions}
    found = (Generation(**record) for record in journal.records.values())
    return [g for g in found if g.index in indices and g.sample < asked.samples]


def missing(sets: Sequence[QuestionSet], journals: Mapping[str, Journal]) -> list[tuple[QuestionSet, Any, int]]:
    """(set, question, number of the response) of every missing response."""
    return [
        (asked, question, sample)
        for asked in sets
        for question in asked.questions
        for sample in range(asked.samples)
        if (question.index, sample) not in journals[asked.name].records
    ]


def sampling_of(asked: QuestionSet, sampling: Sampling) -> Sampling:
    """With the length of the set's protocol."""
    return replace(sampling, max_tokens=asked.protocol.max_tokens or sampling.max_tokens)


def generate(
    engine: Engine,
    wanted: Sequence[tuple[QuestionSet, Any, int]],
    journals: Mapping[str, Journal],
    sampling: Sampling,
    seed: int,
) -> int:
    """Generate missing responses; return the number of requests on which a server failed.

    Raises:
        EngineDown: finished responses are recorded.
    """
    for asked, question, sample in wanted:
        key = (asked.name, question, sample)
        request_seed = None if sampling.temperature == 0 else seed_of(seed, asked.name, question.index, sample)
        engine.submit(Request(key, question.messages, sampling_of(asked, sampling), request_seed))
    tokens = failed = 0
    with progress("generating", "responses", len(wanted)) as bar:
        while completions := engine.collect():
            for completion in completions:
                (name, question, sample) = completion.key
                if completion.failure == "server_error":
                    failed += 1
                else:
                    journals[name].append(asdict(_generation(completion, question, sample)))
                tokens += completion.tokens or 0
                bar.update()
                bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):,.0f} tokens/s", refresh=False)
    return failed


def _generation(completion: Completion, question: Any, sample: int) -> Generation:
    finish = completion.failure or ("length" if completion.reached_limit else "stop")
    tokens = 0 if completion.failure else completion.tokens
    return Generation(
        question.index,
        sample,
        question.text,
        question.ground_truth,
        completion.text,
        tokens,
        finish,
        question.answer_format,
        list(question.choices),
    )


def engine_seed(seed: int, journals: Mapping[str, Journal]) -> int:
    """The seed of vLLM's engine, see the module docstring."""
    num_done = sum(len(journal.records) for journal in journals.values())
    return seed_of(seed, "engine", num_done) if is_cpu() else seed
