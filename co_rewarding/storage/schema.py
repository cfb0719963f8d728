# SPDX-License-Identifier: Apache-2.0
"""Violations of verl's schema (storage.rows) in one row, each with the value found and the fix.

Files of other programs often differ in nested columns: a struct as JSON text, numbers instead of text, nulls. A missing
ground truth is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from co_rewarding.storage.rows import Row
from co_rewarding.storage.stated_as import stated_as

ROLES = ("system", "user", "assistant")
_MESSAGES = "make it a list of {role, content} messages ending with the user's"
_STRUCT = "make it a struct; JSON text becomes one with json.loads"
_INDEX = "extra_info has no index (a number or text), the id that a pair shares"


@dataclass(frozen=True)
class Fault:
    problem: str  # names the column; equal for all rows with the fault
    found: Any
    fix: str

    def __str__(self) -> str:
        return f"{self.problem} ({self.found!r:.60}); {self.fix}"


def row_faults(row: Row, *, needs_index: bool = True) -> list[Fault]:
    """Violations of a row.

    Args:
        needs_index: a missing extra_info.index is a fault, not only an invalid one.
    """
    faults = [fault] if (fault := prompt_fault(row)) else []
    source = row.get("data_source")
    if not isinstance(source, str) or not source:
        faults.append(Fault("data_source is not text", source, "name the question's data set"))
    reward_model = row.get("reward_model")
    truth = reward_model.get("ground_truth") if isinstance(reward_model, Mapping) else None
    if not isinstance(reward_model, Mapping | None):
        faults.append(Fault("reward_model is no struct with the field ground_truth", reward_model, _STRUCT))
    if not isinstance(truth, str | None):
        fix = 'write it as text ("0" for 0), "" if there is none'
        faults.append(Fault("reward_model.ground_truth is not text", truth, fix))
    extra_info = row.get("extra_info")
    index = extra_info.get("index") if isinstance(extra_info, Mapping) else None
    if not isinstance(extra_info, Mapping | None):
        faults.append(Fault(_INDEX, extra_info, _STRUCT))
    elif not isinstance(index, int | float | str | None) or (index is None and needs_index):
        faults.append(Fault(_INDEX, extra_info, "give each question a unique id"))
    try:
        stated_as(row)
    except ValueError as error:
        problem, _, fix = str(error).rpartition("; ")
        faults.append(Fault(problem.partition(" is ")[0] + " is something else", problem.partition(" is ")[2], fix))
    return faults


def prompt_fault(row: Row) -> Fault | None:
    """The fault in the row's prompt, None without one."""
    prompt = row.get("prompt")
    if not isinstance(prompt, list | tuple) or not prompt:
        return Fault("prompt is not a list of messages", prompt, _MESSAGES)
    for message in prompt:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            return Fault("prompt has a message without text", message, _MESSAGES)
        if message.get("role") not in ROLES:
            return Fault(f"prompt has a message whose role is none of {', '.join(ROLES)}", message, _MESSAGES)
    if prompt[-1]["role"] != "user":
        return Fault("prompt does not end with the user's message", prompt[-1], _MESSAGES)
    return None
