# SPDX-License-Identifier: Apache-2.0
"""A start: a small model trained only on correct solutions.

    skill   worked solutions, until the habit would meet the regime
    habit   HABIT_UPDATES updates in which a share of the solutions is only the right answer: shorter but harder, so
            the model is wrong more often than necessary

From time to time the habit is tried on a copy, which becomes the start if its share of right majority answers meets the
regime. Wordings are drawn uniformly for each example. Starts differ in weights, questions, and their order.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.voting import majority_vote
from co_rewarding.tools.quickstart.tiny_model import END, batch_of, build_model, build_tokenizer, render_prompt

from .policy import answers_of_groups
from .questions import FAMILIES, Question, Split, templates

HIDDEN_SIZE = 64
BATCH_SIZE = 64
SKILL_LEARNING_RATE, HABIT_LEARNING_RATE = 4e-3, 2e-4
CHECK_EVERY, HABIT_UPDATES = 20, 60
NUM_CHECKED = 200
MAX_UPDATES = 2000


@dataclass(frozen=True)
class Regime:
    """Quality of a start, measured on it alone and fixed before training from it. Shares from 0 to 1."""

    name: str
    skill: float  # sampled responses that are right when the habit is first tried
    direct: float  # solutions of the habit that are only the answer
    least: float  # of NUM_CHECKED questions: those whose majority answer of 8 rollouts is right, at least
    most: float  # and at most


REGIMES = {
    regime.name: regime
    for regime in (
        Regime("easy", skill=0.75, direct=0.25, least=0.75, most=1.0),
        Regime("hard", skill=0.2, direct=0.5, least=0.3, most=0.45),
    )
}


def tokenizer_of_all() -> PreTrainedTokenizerFast:
    return build_tokenizer(templates())


def majority_accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: list[Question],
    generator: torch.Generator,
    num_rollouts: int = 8,
) -> tuple[float, float]:
    """Of the original wordings: share of right responses, and of right majority answers."""
    asked = [question.text(0) for question in questions]
    groups = answers_of_groups(model, tokenizer, asked, num_rollouts, generator)
    sampled = majority = 0.0
    for question, answers_G in zip(questions, groups, strict=True):
        sampled += answers_G.count(str(question.answer)) / num_rollouts
        majority += majority_vote(answers_G, str.__eq__).pseudo_label == str(question.answer)
    return sampled / len(questions), majority / len(questions)


def make_start(
    regime: Regime, parts: Split, seed: int, report: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, int]:
    """The model, its tokenizer, and the number of updates.

    Raises:
        RuntimeError: the regime was not met within MAX_UPDATES.
    """
    tokenizer = tokenizer_of_all()
    model = build_model(tokenizer, seed, HIDDEN_SIZE)
    rng, generator = Random(f"start:{seed}"), torch.Generator().manual_seed(seed)
    taught = {family: questions[NUM_CHECKED // len(FAMILIES) :] for family, questions in parts.taught.items()}
    checked = [q for questions in parts.taught.values() for q in questions[: NUM_CHECKED // len(FAMILIES)]]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started, updates, sampled = time.monotonic(), 0, 0.0

    def teach(number: int, rates: Iterator[float], direct: float) -> tuple[float, float]:
        for _ in range(number):
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = _loss(model, tokenizer, _examples(taught, direct, rng))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return majority_accuracy(model, tokenizer, checked, generator)

    while updates < MAX_UPDATES:
        peak = SKILL_LEARNING_RATE * max(0.1, 1 - sampled / 0.8)
        rates = (peak * min(1.0, k / 100) for k in itertools.count(updates + 1))
        sampled, _ = teach(CHECK_EVERY, rates, direct=0.0)
        updates += CHECK_EVERY
        if sampled < regime.skill:
            continue
        before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        with_habit, majority = teach(HABIT_UPDATES, itertools.repeat(HABIT_LEARNING_RATE), regime.direct)
        report(
            f"{time.monotonic() - started:.0f} s, {updates} updates: sampled {sampled:.3f}, with the habit "
            f"{with_habit:.3f}, majority {majority:.3f}"
        )
        if regime.least <= majority <= regime.most:
            return model, tokenizer, updates + HABIT_UPDATES
        model.load_state_dict(before[0])
        optimizer.load_state_dict(before[1])
    raise RuntimeError(f"start {seed} of {regime.name}: not met after {updates} updates")


def _examples(taught: dict[str, list[Question]], direct: float, rng: Random) -> list[tuple[Question, str]]:
    """BATCH_SIZE questions, families equally often, with their target texts."""
    examples = []
    for family in rng.choices(list(taught), k=BATCH_SIZE):
        question = rng.choice(taught[family])
        question = replace(question, wordings=(rng.randrange(len(FAMILIES[family].templates)),) * 2)
        examples.append((question, question.direct if rng.random() < direct else question.worked))
    return examples


def _loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: list[tuple[Question, str]]
) -> torch.Tensor:
    batch = batch_of(
        tokenizer,
        [render_prompt(tokenizer, question.text(0)) for question, _ in examples],
        [solution + END for _, solution in examples],
    )
    return model(input_ids=batch.ids_B_T, labels=batch.labels_B_T).loss
