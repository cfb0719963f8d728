# SPDX-License-Identifier: Apache-2.0
"""How independent the errors of a start's two wordings are: the votes of both on the same questions, before any RL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.voting import majority_vote

from .policy import respond
from .questions import Question

NUM_ROLLOUTS = 8


def agreement_matrix(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    generator: torch.Generator,
) -> dict[str, float]:
    """Shares of the questions by what the majority answers to the original (first letter) and rephrased wording are.

    Returns:
        R right, W wrong: RR, RW, WR, and of WW those with one answer and with two; sampled and majority_right of each
        wording; both_wrong, and what it would be if the wordings erred independently.
    """
    answers, sampled = [], []
    for wording in (0, 1):
        texts = respond(model, tokenizer, [q.text(wording) for q in questions], NUM_ROLLOUTS, generator).texts
        given = [extract_answer(text) for text in texts]
        groups = [given[i : i + NUM_ROLLOUTS] for i in range(0, len(given), NUM_ROLLOUTS)]
        answers.append([majority_vote(answers_G, str.__eq__).pseudo_label for answers_G in groups])
        truths = [str(q.answer) for q in questions for _ in range(NUM_ROLLOUTS)]
        sampled.append(sum(a == t for a, t in zip(given, truths, strict=True)) / len(given))
    counts: Counter[str] = Counter()
    for question, original, rephrased in zip(questions, *answers, strict=True):
        letters = "".join("R" if answer == str(question.answer) else "W" for answer in (original, rephrased))
        counts[letters if letters != "WW" else "WW same" if original == rephrased else "WW different"] += 1
    share = {name: counts[name] / len(questions) for name in ("RR", "RW", "WR", "WW same", "WW different")}
    right = share["RR"] + share["RW"], share["RR"] + share["WR"]
    return share | {
        "sampled": sampled[0],
        "sampled_rephrased": sampled[1],
        "majority_right": right[0],
        "majority_right_rephrased": right[1],
        "both_wrong": share["WW same"] + share["WW different"],
        "both_wrong_if_independent": (1 - right[0]) * (1 - right[1]),
    }
