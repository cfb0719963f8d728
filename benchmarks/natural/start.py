# SPDX-License-Identifier: Apache-2.0
"""A start: a small model that was taught right solutions only, and no wrong one.

    skill   worked solutions, until sampled responses to unseen questions are right on a share of them
    habit   HABIT_UPDATES more updates in which a share of the solutions is the right answer at once: shorter, and the
            harder way, so that the model is wrong more often than it would have to be

Both shares are the regime's, and so is the promise that its majority answers keep. Wordings are drawn anew for each
example, all alike. A start differs from another one in its weights, in its questions, and in their order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.voting import majority_vote
from co_rewarding.tools.quickstart.tiny_model import END, build_model, build_tokenizer, render_prompt

from .policy import respond
from .questions import FAMILIES, Question, Split, templates

HIDDEN_SIZE = 64
BATCH_SIZE = 64
SKILL_LEARNING_RATE, HABIT_LEARNING_RATE = 4e-3, 2e-4
HABIT_UPDATES = 60
NUM_CHECKED = 200
MAX_UPDATES = 2000


@dataclass(frozen=True)
class Regime:
    """How good a start is, told from it alone and fixed before anything was trained from it. Shares from 0 to 1."""

    name: str
    skill: float  # sampled responses that are right before the habit
    direct: float  # solutions of the habit that are the answer at once
    least: float  # questions whose majority answer is right, of 8 rollouts of the original wording; of NUM_CHECKED,
    most: float  # a little more strictly than is promised of others


REGIMES = {
    regime.name: regime
    for regime in (
        Regime("easy", skill=0.75, direct=0.25, least=0.78, most=1.0),
        Regime("hard", skill=0.4, direct=0.5, least=0.0, most=0.42),
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
    texts = respond(model, tokenizer, [q.text(0) for q in questions], num_rollouts, generator).texts
    answers = [extract_answer(text) for text in texts]
    sampled = majority = 0.0
    for place, question in enumerate(questions):
        answers_G = answers[place * num_rollouts : (place + 1) * num_rollouts]
        sampled += answers_G.count(str(question.answer)) / num_rollouts
        majority += majority_vote(answers_G, str.__eq__).pseudo_label == str(question.answer)
    return sampled / len(questions), majority / len(questions)


def make_start(
    regime: Regime, parts: Split, seed: int, report: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, int]:
    """The model, its tokenizer, and the updates that it took.

    Raises:
        RuntimeError: a share was not reached within MAX_UPDATES.
    """
    tokenizer = tokenizer_of_all()
    model = build_model(tokenizer, seed, HIDDEN_SIZE)
    rng, generator = Random(f"start:{seed}"), torch.Generator().manual_seed(seed)
    taught = {family: questions[NUM_CHECKED // len(FAMILIES) :] for family, questions in parts.taught.items()}
    checked = [q for questions in parts.taught.values() for q in questions[: NUM_CHECKED // len(FAMILIES)]]
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    started, updates = time.monotonic(), 0

    def teach(number: int, rates: Iterator[float], direct: float) -> tuple[float, float]:
        nonlocal updates
        for _ in range(number):
            optimizer.param_groups[0]["lr"] = next(rates)
            loss = _loss(model, tokenizer, _examples(taught, direct, rng))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            updates += 1
        sampled, majority = majority_accuracy(model, tokenizer, checked, generator)
        report(
            f"{time.monotonic() - started:4.0f} s, {updates} updates: sampled {sampled:.3f}, majority {majority:.3f}"
        )
        if updates > MAX_UPDATES:
            raise RuntimeError(f"start {seed} of {regime.name}: {sampled:.3f} sampled after {updates} updates")
        return sampled, majority

    sampled = majority = 0.0
    while sampled < regime.skill:
        peak = SKILL_LEARNING_RATE * max(0.1, 1 - sampled / 0.8)
        sampled, majority = teach(25, (peak * min(1.0, k / 100) for k in itertools.count(updates + 1)), 0.0)
    sampled, majority = teach(HABIT_UPDATES, itertools.repeat(HABIT_LEARNING_RATE), regime.direct)
    while not regime.least <= majority <= regime.most:
        sampled, majority = teach(10, itertools.repeat(HABIT_LEARNING_RATE), regime.direct)
    return model, tokenizer, updates


def _examples(taught: dict[str, list[Question]], direct: float, rng: Random) -> list[tuple[Question, str]]:
    """BATCH_SIZE questions, each family as often as any other, with what is to be said."""
    examples = []
    for family in rng.choices(list(taught), k=BATCH_SIZE):
        question = rng.choice(taught[family])
        question = replace(question, wordings=(rng.randrange(len(FAMILIES[family].templates)),) * 2)
        examples.append((question, question.direct if rng.random() < direct else question.worked))
    return examples


def _loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, examples: list[tuple[Question, str]]
) -> torch.Tensor:
    prompts = tokenizer([render_prompt(tokenizer, question.text(0)) for question, _ in examples])["input_ids"]
    solutions = tokenizer([solution + END for _, solution in examples])["input_ids"]
    width = max(len(p) + len(s) for p, s in zip(prompts, solutions, strict=True))
    ids = torch.full((len(examples), width), tokenizer.pad_token_id)
    labels = torch.full((len(examples), width), -100)
    for row, (prompt, solution) in enumerate(zip(prompts, solutions, strict=True)):
        ids[row, : len(prompt) + len(solution)] = torch.tensor(prompt + solution)
        labels[row, len(prompt) : len(prompt) + len(solution)] = torch.tensor(solution)
    return model(input_ids=ids, labels=labels).loss
