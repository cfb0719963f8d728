# SPDX-License-Identifier: Apache-2.0
"""One arm from one start: GRPO in plain torch around the project's own votes, rewards, schedule, average and metrics.

    rollouts → (teacher ← α teacher + (1 − α) student → its rollouts) → vote → rewards
    A = (reward − mean of the group) / (its standard deviation + 1e-6)           arXiv 2508.00410, Eq. 3-5
    loss = mean over responses of the mean over tokens of  −A π_θ / π_old + coefficient · k3
    k3 = r − log r − 1,  r = π_reference / π_θ

One update a step, so π_old is π_θ. The reference is the start, or the teacher if there is one. A group is a question
in one view; "rephrased" is the second view, in any wording.

Legend: B rollouts, T tokens, N rows.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from co_rewarding.algo.answers import extract_answer
from co_rewarding.algo.ema import TeacherAverage
from co_rewarding.algo.ema_schedule import DecaySchedule
from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.algo.methods import score_rollouts
from co_rewarding.algo.rewards import is_match
from co_rewarding.algo.rollouts import VIEWS, RewardInputs, Rollout, Same, Scores, Voter
from co_rewarding.algo.token_statistics import response_means
from co_rewarding.monitoring.collapse import LabelHistory, collapse_metrics, student_votes
from co_rewarding.monitoring.metrics import group_metrics

from .adapter import add_adapter
from .arms import NUM_QUESTIONS, NUM_ROLLOUTS, START_SHARE, STEPS, Arm
from .policy import MAX_TOKENS, Responses, respond, statistics
from .questions import Question, Split

VALIDATE_EVERY = 25


@dataclass(frozen=True)
class Curves:
    """Record of a run: metrics and groups per step, and verdicts on held-out questions per validation."""

    metrics: pd.DataFrame
    groups: pd.DataFrame
    verdicts: pd.DataFrame


def train(
    arm: Arm,
    start: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    parts: Split,
    seed: int,
    steps: int = STEPS,
    report: Callable[[Curves], None] = lambda so_far: None,
) -> Curves:
    """Train a copy of `start`; `report` is called at every validation after the first, with the record so far."""
    policy = Policy(arm, start, steps)
    student = policy.student
    generator, order = torch.Generator().manual_seed(seed), Random(f"order:{seed}")
    history = LabelHistory()
    metrics, groups, waiting = [], [], []
    verdicts = _validate(student, tokenizer, parts.held_out, 0, generator, sampled=True)

    def so_far() -> Curves:
        return Curves(pd.DataFrame(metrics), pd.DataFrame(groups), pd.DataFrame(verdicts))

    with Equivalence() as equivalence:
        same = equivalence.same
        for step in range(1, steps + 1):
            if len(waiting) < NUM_QUESTIONS:  # an epoch ends with whole batches, in a new order the next time
                waiting = order.sample(parts.trained, len(parts.trained))
            asked, waiting = waiting[:NUM_QUESTIONS], waiting[NUM_QUESTIONS:]
            responses = _answers(arm, student, tokenizer, asked, arm.num_votes, generator)
            rows = _rows(arm, asked, responses.texts, arm.num_votes, "student")
            if arm.method.needs_teacher:
                policy.move_teacher(step)
                texts = _answers(arm, policy.reference, tokenizer, asked, NUM_ROLLOUTS, generator).texts
                rows += _rows(arm, asked, texts, NUM_ROLLOUTS, "teacher")
            truth_of = {question.key: str(question.answer) for question in asked}
            truths = [truth_of[row.question] for row in rows]

            trained = [place for place, row in enumerate(rows) if row.trained]
            read = policy.read(_taken(responses, trained), NUM_ROLLOUTS)
            scores = score(arm, rows, truths, on_rows(read.means_B, trained, len(rows)), step, same)
            advantages_B = group_advantages([rows[i] for i in trained], [scores.rewards[i] for i in trained])
            kl = policy.learn(read, advantages_B)

            tokens = [np.array(tokens_T) for tokens_T in responses.tokens]
            students, lengths = rows[: len(tokens)], list(map(len, tokens))
            metrics.append(
                {"step": step, "actor/kl_loss": kl, "actor/entropy": fmean(read.means_B["entropy"])}
                | group_metrics(rows, scores, truths, same)
                | collapse_metrics(students, scores, tokens, MAX_TOKENS, same, history)
            )
            groups += _groups(step, students, lengths, scores, truth_of, same)
            if step % VALIDATE_EVERY == 0 or step == steps:
                verdicts += _validate(student, tokenizer, parts.held_out, step, generator, sampled=step == steps)
                report(so_far())
    return so_far()


@dataclass(frozen=True)
class Read:
    """A policy's statistics of B responses, of which each `num_rollouts` in a row share a prompt."""

    responses: Responses
    num_rollouts: int
    log_probs_B_T: torch.Tensor
    mask_B_T: torch.Tensor  # of the responses' tokens
    means_B: dict[str, list[float]]  # statistic → its means over the tokens of each response


class Policy:
    """A copy of the start that is trained, and its reference: the start, or the teacher if there is one."""

    def __init__(
        self,
        arm: Arm,
        start: LlamaForCausalLM,
        steps: int,
        learning_rate: float | None = None,
        k3_cap: float = math.inf,
    ) -> None:
        self.arm, self.student, self._k3_cap = arm, copy.deepcopy(start), k3_cap
        if arm.lora_rank:
            add_adapter(self.student, arm.lora_rank)
        self._trained = {name: weight for name, weight in self.student.named_parameters() if weight.requires_grad}
        self.reference = copy.deepcopy(self.student).requires_grad_(False)
        followed = {name: self.reference.get_parameter(name) for name in self._trained}
        self._average = TeacherAverage(followed) if arm.method.needs_teacher else None
        self._schedule = DecaySchedule(steps, start_share=START_SHARE)
        rate = arm.learning_rate if learning_rate is None else learning_rate
        self._optimizer = torch.optim.AdamW(self._trained.values(), lr=rate, weight_decay=0.01)

    def move_teacher(self, step: int) -> None:
        """For step `step`; an arm with a frozen teacher, or without one, keeps its reference."""
        if self._average is not None and self.arm.teacher_moves:
            self._average.update(self._trained, self._schedule.decay(step))

    def read(self, responses: Responses, num_rollouts: int) -> Read:
        names = tuple(dict.fromkeys(("log_probs", "entropy", *self.arm.method.statistics)))
        found_B_T, mask_B_T = statistics(self.student, responses, num_rollouts, names)
        means_B = {name: response_means(column, mask_B_T, name) for name, column in found_B_T.items()}
        return Read(responses, num_rollouts, found_B_T["log_probs"], mask_B_T, means_B)

    def learn(self, read: Read, advantages_B: torch.Tensor) -> float:
        """One step of the optimizer; returns the mean k3 of before, in nats a token."""
        with torch.no_grad():
            reference_B_T = statistics(self.reference, read.responses, read.num_rollouts)[0]["log_probs"]
        return update(
            self.student,
            self._optimizer,
            read.log_probs_B_T,
            reference_B_T,
            read.mask_B_T,
            advantages_B,
            self.arm.kl_coef,
            self._k3_cap,
        )


def score(
    arm: Arm,
    rows: Sequence[Rollout],
    truths: Sequence[str],
    statistics_of: Mapping[str, Sequence[float | None]],
    seed: int,
    same: Same,
) -> Scores:
    """Labels and rewards of N rows: the project's own (co_rewarding.algo.methods)."""
    inputs = RewardInputs(
        rows, same, arm.min_agreement, arm.payout,
        ground_truths=truths if arm.method.needs_labels else None, statistics=statistics_of, seed=seed,
    )  # fmt: skip
    return score_rollouts(arm.method, inputs)


def group_advantages(rows: Sequence[Rollout], rewards: Sequence[float]) -> torch.Tensor:
    """B: (reward − mean) / (standard deviation + 1e-6) inside each (question, view)."""
    places: dict[tuple, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.question, row.view].append(place)
    rewards_B = torch.tensor(rewards, dtype=torch.float32)
    advantages_B = torch.zeros_like(rewards_B)
    for group in places.values():
        rewards_G = rewards_B[group]
        advantages_B[group] = (rewards_G - rewards_G.mean()) / (rewards_G.std() + 1e-6)
    return advantages_B


def update(
    student: LlamaForCausalLM,
    optimizer: torch.optim.Optimizer,
    log_probs_B_T: torch.Tensor,
    reference_B_T: torch.Tensor,
    mask_B_T: torch.Tensor,
    advantages_B: torch.Tensor,
    kl_coef: float,
    k3_cap: float = math.inf,
) -> float:
    """One step of the optimizer; returns the mean k3 of before, in nats a token."""
    log_ratio_B_T = reference_B_T - log_probs_B_T
    k3_B_T = (log_ratio_B_T.exp() - log_ratio_B_T - 1).clamp(max=k3_cap)
    gain_B_T = (log_probs_B_T - log_probs_B_T.detach()).exp() * advantages_B[:, None]
    tokens_B = mask_B_T.sum(-1)
    kl = ((k3_B_T * mask_B_T).sum(-1) / tokens_B).mean()
    loss = -((gain_B_T * mask_B_T).sum(-1) / tokens_B).mean() + kl_coef * kl
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    optimizer.step()
    return kl.item()


def _answers(
    arm: Arm,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[Question],
    num_rollouts: int,
    generator: torch.Generator,
) -> Responses:
    texts = [question.text(wording) for wording in arm.wordings for question in asked]
    return respond(model, tokenizer, texts, num_rollouts, generator)


def _rows(arm: Arm, asked: Sequence[Question], texts: Sequence[str], num_rollouts: int, voter: Voter) -> list[Rollout]:
    """In the order of _answers. Of a group the first NUM_ROLLOUTS are trained on."""
    groups = [(question, view) for view in VIEWS[: len(arm.wordings)] for question in asked]
    return [
        Rollout(question.key, view, voter, extract_answer(texts[place * num_rollouts + i]), trained=i < NUM_ROLLOUTS)
        for place, (question, view) in enumerate(groups)
        for i in range(num_rollouts)
    ]


def _taken(responses: Responses, places: Sequence[int]) -> Responses:
    return Responses(
        *([column[i] for i in places] for column in (responses.prompts, responses.tokens, responses.texts))
    )


def on_rows(means_B: Mapping[str, Sequence[float]], trained: Sequence[int], num_rows: int) -> dict[str, list]:
    """Of the rows that are trained on, spread over all; None elsewhere."""
    columns = {}
    for name, means in means_B.items():
        column = columns[name] = [None] * num_rows
        for place, mean in zip(trained, means, strict=True):
            column[place] = mean
    return columns


def _groups(
    step: int,
    students: Sequence[Rollout],
    lengths: Sequence[int],
    scores: Scores,
    truth_of: Mapping[str, str],
    same: Same,
) -> list[dict[str, Any]]:
    """A line for each group: its label, the agreement behind it, and the student's own majority, right or wrong."""
    answers: dict[tuple, list[str | None]] = defaultdict(list)
    lengths_of: dict[tuple, list[int]] = defaultdict(list)
    for row, length in zip(students, lengths, strict=True):
        answers[row.question, row.view].append(row.answer)
        lengths_of[row.question, row.view].append(length)
    lines = []
    for (question, view), vote in student_votes(students, scores, same).items():
        truth, label = truth_of[question], scores.group_labels.get((question, view))
        lines.append(
            {
                "step": step,
                "question": question,
                "view": view,
                "majority": vote.pseudo_label,
                "agreement": vote.agreement,
                "majority_right": is_match(vote.pseudo_label, truth, same),
                "right": fmean(is_match(answer, truth, same) for answer in answers[question, view]),
                "label": label,
                "label_right": None if label is None else is_match(label, truth, same),
                "length": fmean(lengths_of[question, view]),
            }
        )
    return lines


def _validate(
    student: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    held_out: Sequence[Question],
    step: int,
    generator: torch.Generator,
    sampled: bool,
) -> list[dict[str, Any]]:
    """Greedy in both wordings, and sampled once in the original. Only the answer's exact spelling is right."""
    lines = []
    for how, wording in (("greedy", 0), ("greedy", 1), *[("sampled", 0)] * sampled):
        texts = [question.text(wording) for question in held_out]
        responses = respond(student, tokenizer, texts, 1, generator if how == "sampled" else None)
        for question, text, tokens in zip(held_out, responses.texts, responses.tokens, strict=True):
            answer = extract_answer(text)
            lines.append(
                {
                    "step": step,
                    "question": question.key,
                    "view": VIEWS[wording],
                    "how": how,
                    "answer": answer,
                    "right": answer == str(question.answer),
                    "length": len(tokens),
                }
            )
    return lines
