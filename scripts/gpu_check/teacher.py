# SPDX-License-Identifier: Apache-2.0
"""The teacher of a Co-rewarding-II run: the average of its students, in vLLM only during its rollouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from rows import Rows
from safetensors.torch import load_file
from weights import shard_of

from co_rewarding.storage.run_dir import ACTOR, TEACHER, RunDir, checkpoint_folder
from co_rewarding.tools.report.runs import Run

AVERAGE_LIMIT = 1e-6  # of the teacher's size: fp32's spacing is 1.2e-7 of a weight
GAP_LIMIT = 0.03  # mean difference of a token's probability; bf16 gives some 1e-3 to 1e-2
PERPLEXITY_LIMIT = 0.03  # of a response's mean log-probability, in nats: seen where all probabilities are small
SAME_LIMIT = 0.95  # share of greedy responses; bf16 batches of another order may break a tie


def check_average(rows: Rows, run: Run, run_dir: RunDir, toy_model: Path) -> None:
    """teacher_k = α_k · teacher_{k−1} + (1 − α_k) · student_{k−1} in float64, from the saved students."""
    start = load_file(toy_model / "model.safetensors")
    student, teacher = start, {name: value.double() for name, value in start.items()}
    steps = run.trained_steps
    for step in steps:
        decay = run.steps[step]["teacher/decay"]
        teacher = {name: decay * old + (1 - decay) * student[name].double() for name, old in teacher.items()}
        student = shard_of(checkpoint_folder(run_dir.checkpoints, step) / ACTOR)
    saved = shard_of(checkpoint_folder(run_dir.checkpoints, steps[-1]) / TEACHER)
    moved = _size({name: teacher[name] - start[name].double() for name in teacher}) / _size(teacher)
    error = _size({name: saved[name].double() - value for name, value in teacher.items()}) / _size(teacher)
    rows.check(
        "the teacher moved, and is the average of its students",
        error < AVERAGE_LIMIT < moved,
        f"moved by {moved:.1e} of its size in {len(steps)} steps, off by {error:.1e} (limit {AVERAGE_LIMIT:.0e})",
    )


def check_engines(rows: Rows, run: Run) -> None:
    """vLLM sampled with the probabilities of the intended weights."""
    metrics = {"student": "training/rollout_probs_diff_mean", "teacher": "teacher/rollout_probs_diff_mean"}
    worst = {who: max(run.series(name)[1]) for who, name in metrics.items() if run.series(name)[1]}
    nats = max(run.series("rollout_corr/log_ppl_abs_diff")[1], default=math.inf)
    rows.check(
        "vLLM samples with the trainer's probabilities",
        bool(worst) and max(worst.values()) < GAP_LIMIT and nats < PERPLEXITY_LIMIT,
        "mean difference of a token's probability at most "
        + ", ".join(f"{gap:.1e} ({who})" for who, gap in worst.items())
        + f" (limit {GAP_LIMIT}), of a response's mean log-probability {nats:.1e} nats (student, {PERPLEXITY_LIMIT})",
    )


def check_restored(rows: Rows, validations: list[dict[str, Any]]) -> None:
    """Greedy responses of the student, of the teacher, and of the student again."""
    by_who = {entry["who"]: entry for entry in validations}
    student, teacher, again = (by_who[who] for who in ("student", "teacher", "student again"))
    back, other = (_share_alike(student["responses"], entry["responses"]) for entry in (again, teacher))
    rows.check(
        "the student is back in vLLM after the teacher",
        back >= SAME_LIMIT and other < back,
        f"of {len(student['responses'])} greedy responses {back:.1%} are the student's again (limit {SAME_LIMIT:.0%}), "
        f"{other:.1%} the same from the teacher; accuracy {student['accuracy']:.3f}, {teacher['accuracy']:.3f}, "
        f"{again['accuracy']:.3f}",
    )


def _share_alike(one: list[str], other: list[str]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def _size(weights: dict[str, torch.Tensor]) -> float:
    return sum(float(value.double().pow(2).sum()) for value in weights.values()) ** 0.5
