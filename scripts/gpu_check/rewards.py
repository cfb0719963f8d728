# SPDX-License-Identifier: Apache-2.0
"""Recomputes the rewards of a run from its dumps, independently of the run's own code."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import Rows
from weights import shard_of

from co_rewarding import score
from co_rewarding.algo import methods
from co_rewarding.storage.files import parse_jsonl
from co_rewarding.storage.run_dir import ACTOR, RunDir, checkpoint_folder
from co_rewarding.tools.quickstart.policy import log_distributions
from co_rewarding.tools.report.runs import Run

CERTAINTY_LIMIT = {"cpu": 1e-4, "gpu": 0.05}  # relative; the policy computes in fp32 there and in bf16 here
MAX_RESPONSES = 24  # of a step, whose certainty is computed again, in float64 on the CPU
MAX_RESPONSE_LENGTH = 32  # tokens, of the toy runs (gpu_check.sh)


def check(
    rows: Rows, run: Run, run_dir: RunDir, method: str, steps: Sequence[int], toy_model: Path, platform: str
) -> None:
    """Check the rewards of `steps`, all of `method`, and that verl trained on them.

    Args:
        rows: where the result goes.
        run: its logs.
        run_dir: directory of its rollout dumps.
        toy_model: folder of the starting model.
        platform: "gpu" or "cpu".
    """
    dumped = [row for step in steps for row in _rows_of(run_dir.rollouts_file(step))]
    student = [row for row in dumped if row["voter"] == "student"]
    if methods.method(method).needs_logits:
        _check_certainty(rows, run_dir, method, steps, toy_model, CERTAINTY_LIMIT[platform])
    else:
        _check_score(rows, run_dir, method, dumped)
    for step in steps:
        mean = _mean([row["reward"] for row in student if row["step"] == step])
        trained = run.steps[step]["critic/score/mean"]
        if not math.isclose(mean, trained, rel_tol=1e-5, abs_tol=1e-6):
            rows.check(
                f"{method}: verl trains on these rewards", False, f"step {step}: {trained:.6g}, dumped {mean:.6g}"
            )
            return
    rows.check(f"{method}: verl trains on these rewards", True, f"means of {len(steps)} steps agree")


def _check_score(rows: Rows, run_dir: RunDir, method: str, dumped: list[dict[str, Any]]) -> None:
    source, scored = run_dir.path / f"{method}.jsonl", run_dir.path / f"{method}_scored.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in dumped), encoding="utf-8")
    code = score.main([str(source), "--method", method, "--output", str(scored), "--json"])
    if code != 0:
        raise ValueError(f"co_rewarding.score ended with {code}")
    again = _rows_of(scored)
    wrong = [
        old
        for old, new in zip(dumped, again, strict=True)
        if any(old[field] != new[field] for field in ("answer", "label", "reward"))
    ]
    rewards = [row["reward"] for row in dumped if row["reward"] is not None]
    first = f"; the first: {json.dumps(wrong[0])[:200]}" if wrong else ""
    rows.check(
        f"{method}: rewards computed again by co_rewarding.score",
        bool(rewards) and not wrong,
        f"{len(wrong)} of {len(dumped)} responses differ in answer, label or reward; mean reward {_mean(rewards):.3f}"
        + first,
    )


def _check_certainty(
    rows: Rows, run_dir: RunDir, method: str, steps: Sequence[int], toy_model: Path, limit: float
) -> None:
    """Check the responses of the last step, by the policy saved in the previous step."""
    step = steps[-1]
    policy = shard_of(checkpoint_folder(run_dir.checkpoints, step - 1) / ACTOR)
    # a response with a broken character does not re-tokenize to its tokens
    readable = [row for row in _rows_of(run_dir.rollouts_file(step)) if "\ufffd" not in row["response"]]
    chosen = readable[:: max(1, len(readable) // MAX_RESPONSES)]
    worst = 0.0
    for row, log_pi_T_V in log_distributions(toy_model, policy, chosen, MAX_RESPONSE_LENGTH):
        match method:
            case "self_certainty":  # KL(U ‖ π), mean over the response's tokens
                expected = -float((log_pi_T_V + math.log(log_pi_T_V.shape[-1])).mean())
            case "entropy":
                expected = float((log_pi_T_V.exp() * log_pi_T_V).sum(dim=-1).mean())
        worst = max(worst, abs(row["reward"] - expected) / abs(expected))
    rows.check(
        f"{method}: rewards computed again in float64 from the saved policy",
        bool(chosen) and worst < limit,
        f"{len(chosen)} responses of step {step}, off by at most {worst:.1e} of the reward (limit {limit:.0e})",
    )


def _rows_of(path: Path) -> list[dict[str, Any]]:
    return parse_jsonl(path.read_bytes(), path.name)[0]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
