# SPDX-License-Identifier: Apache-2.0
"""Shared by a watched run and its checks: notes, the plan of the run's methods, the memory of the card.

A note is one JSON object a line, {"note": NAME, "seconds": …, …}, with the seconds since the stage was started
(GPU_CHECK_STARTED, in seconds since 1970).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Literal

from co_rewarding.storage.files import parse_jsonl


def note(name: str, **values: Any) -> None:
    """Append to the file GPU_CHECK_NOTES."""
    seconds = round(time.time() - float(os.environ["GPU_CHECK_STARTED"]), 1)
    with open(os.environ["GPU_CHECK_NOTES"], "a", encoding="utf-8") as file:
        file.write(json.dumps({"note": name, "seconds": seconds, **values}, ensure_ascii=False) + "\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """All notes, in order; empty if the run did not reach the first."""
    return parse_jsonl(path.read_bytes(), path.name)[0] if path.is_file() else []


def methods_of_plan(plan: str) -> list[str]:
    """The method of each step, from "METHOD:STEPS METHOD:STEPS"."""
    turns = [turn.split(":") for turn in plan.split()]
    return [name for name, steps in turns for _ in range(int(steps))]


def card_mib(what: Literal["used", "total"] = "used") -> int | None:
    """MiB of the card GPU_CHECK_CARD (index or UUID), used by all processes together; None without a card."""
    card = os.environ.get("GPU_CHECK_CARD")
    if not card:
        return None
    query = ["nvidia-smi", "-i", card, f"--query-gpu=memory.{what}", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout)
