# SPDX-License-Identifier: Apache-2.0
"""Independence of the errors on a start's two wordings: both votes on the same questions, before any RL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.voting import majority_vote

from .policy import answers_of_groups
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
        asked = [question.text(wording) for question in questions]
        groups = answers_of_groups(model, tokenizer, asked, NUM_ROLLOUTS, generator)
        answers.append([majority_vote(answers_G, str.__eq__).pseudo_label for answers_G in groups])
        right = [answers_G.count(str(q.answer)) for q, answers_G in zip(questions, groups, strict=True)]
        sampled.append(sum(right) / (len(right) * NUM_ROLLOUTS))
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
