# SPDX-License-Identifier: Apache-2.0
"""The `co_rewarding:` block of the configuration as a typed, range-checked value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from co_rewarding.equivalence import MODES


@dataclass(frozen=True)
class Settings:
    """What the group reward needs to know. Ranges are checked when the value is made.

    Raises:
        ValueError: one line that names the key, the value and what is allowed.
    """

    min_agreement: float = 0.0  # 0–1, share of a group's rollouts that a label needs; 0 = any plurality (paper)
    equivalence: str = "math"  # when two answers are one vote: math (math-verify), string (normalised), exact
    verify_timeout_s: float = 5.0  # > 0, CPU time that one comparison of two answers may take
    verify_workers: int = 1  # >= 1, processes that compare answers
    poll_interval_s: float = 2.0  # > 0, how often the replay buffer looks for finished rollouts

    def __post_init__(self) -> None:
        def require(key: str, types: tuple[type, ...], allowed: str, ok: Callable[[Any], bool]) -> None:
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, types) or not ok(value):
                raise ValueError(f"co_rewarding.{key}={value!r}: must be {allowed}")

        require("min_agreement", (int, float), "a share from 0 to 1", lambda share: 0.0 <= share <= 1.0)
        require("equivalence", (str,), "one of " + ", ".join(MODES), MODES.__contains__)
        require("verify_timeout_s", (int, float), "seconds above 0", lambda seconds: 0 < seconds < float("inf"))
        require("verify_workers", (int,), "a whole number from 1", lambda number: number >= 1)
        require("poll_interval_s", (int, float), "seconds above 0", lambda seconds: 0 < seconds < float("inf"))

    @classmethod
    def from_mapping(cls, block: Mapping[str, Any]) -> "Settings":
        """Settings from the configuration block; an unknown key is an error, never ignored."""
        known = {field.name for field in fields(cls)}
        for key, value in block.items():
            if key not in known:
                raise ValueError(
                    f"co_rewarding.{key}={value!r}: unknown key; known keys are {', '.join(sorted(known))}"
                )
        return cls(**block)
