# SPDX-License-Identifier: Apache-2.0
"""Time and card memory of a watched run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from gpu_check_notes import card_mib
from rows import Rows

from co_rewarding.tools.report.runs import STEP_TIME, Run

GROWTH_LIMIT = 0.05  # of memory held while vLLM sleeps, from the second step on: the first allocates the optimizer
FREED_SHARE = 0.5  # share of vLLM's memory that it must free when it sleeps
LEFT_MIB = 1024  # that may still be in use after the run, beyond that before it
PHASES = ("gen", "teacher_update", "teacher_sync", "teacher_gen", "old_log_prob", "ref", "adv", "update_actor")


def report_start(rows: Rows, notes: Sequence[dict[str, Any]]) -> None:
    """Times at which the run reached each `notes` entry."""
    reached = ", ".join(f"{entry['seconds']:.0f} {entry['note']}" for entry in notes)
    rows.measured("seconds after the command", reached or "the configuration was not composed")


def report_phases(rows: Rows, run: Run, method: str, steps: Sequence[int]) -> None:
    """Median seconds of each phase, without the warm-up step at the start of the method's turn."""
    timed = steps[1:]

    def seconds(name: str) -> float:
        return median(run.steps[step].get(name, 0.0) for step in timed)

    parts = {phase: seconds(f"timing_s/{phase}") for phase in (*PHASES, "update_weights")}
    whole, tokens = seconds(STEP_TIME), seconds("perf/total_num_tokens")
    rows.measured(
        f"{method}: a step",
        f"{whole:.2f} s: " + ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if value)
        + f"; {tokens:,.0f} tokens with prompts, {1e6 * parts['update_actor'] / tokens:.1f} µs a token in update_actor",
    )  # fmt: skip


def check_memory(rows: Rows, notes: Sequence[dict[str, Any]], before_mib: int | None, vllm_share: float) -> None:
    """Card memory while vLLM is awake and asleep, per step, and after the run.

    Args:
        notes: those of the run's memory.
        before_mib: in use before the run; None without a card.
        vllm_share: of the card, 0-1.
    """
    if before_mib is None:
        rows.not_run("memory of the card, vLLM awake and asleep", "no card")
        return
    vllm_mib = vllm_share * card_mib("total")
    awake, asleep = ([entry[f"{state}_mib"] for entry in notes] for state in ("awake", "asleep"))
    freed = min(before - after for before, after in zip(awake, asleep, strict=True))
    growth = asleep[-1] / asleep[1] - 1
    states = ", ".join(f"{a / 1024:.1f} / {b / 1024:.1f}" for a, b in zip(awake, asleep, strict=True))
    rows.check(
        "vLLM frees its memory when it sleeps",
        freed >= FREED_SHARE * vllm_mib,
        f"GiB awake / asleep of each step: {states}; at least {freed / 1024:.1f} freed of {vllm_mib / 1024:.1f}",
    )
    rows.check(
        "no leak: memory asleep does not grow from step to step",
        growth <= GROWTH_LIMIT,
        f"{growth:+.1%} from step 2 to step {len(asleep)} (limit {GROWTH_LIMIT:.0%})",
    )
    left = card_mib() - before_mib
    rows.check("the run leaves nothing on the card", left <= LEFT_MIB, f"{left:+d} MiB (limit {LEFT_MIB})")
