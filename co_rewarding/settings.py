# SPDX-License-Identifier: Apache-2.0
"""The `co_rewarding:` block of the configuration as a typed, range-checked value."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

EQUIVALENCES = ("math", "string", "exact")


@dataclass(frozen=True)
class Settings:
    """What the group reward needs to know. Ranges are checked when the value is made.

    Raises:
        ValueError: one line that names the key, the value and what is allowed.
    """

    min_agreement: float = 0.0  # 0–1, share of a group's rollouts that a label needs; 0 = any plurality (paper)
    equivalence: str = "math"  # when two answers are one vote: math (math-verify), string (normalised), exact
    verify_timeout_s: float = 5.0  # > 0, wall time that one comparison of two answers may take
    verify_workers: int = 1  # >= 1, processes that compare answers
    poll_interval_s: float = 2.0  # > 0, how often the replay buffer looks for finished rollouts

    def __post_init__(self) -> None:
        checks = {
            "min_agreement": (0.0 <= self.min_agreement <= 1.0, "a share from 0 to 1"),
            "equivalence": (self.equivalence in EQUIVALENCES, "one of " + ", ".join(EQUIVALENCES)),
            "verify_timeout_s": (self.verify_timeout_s > 0, "seconds above 0"),
            "verify_workers": (int(self.verify_workers) == self.verify_workers >= 1, "a whole number from 1"),
            "poll_interval_s": (self.poll_interval_s > 0, "seconds above 0"),
        }
        for key, (ok, allowed) in checks.items():
            if not ok:
                raise ValueError(f"co_rewarding.{key}={getattr(self, key)!r}: must be {allowed}")

    @classmethod
    def from_mapping(cls, block: Mapping[str, Any]) -> "Settings":
        """Settings from the configuration block; an unknown key is an error, never ignored."""
        known = {field.name: field.type for field in fields(cls)}
        for key, value in block.items():
            if key not in known:
                raise ValueError(
                    f"co_rewarding.{key}={value!r}: unknown key; known keys are {', '.join(sorted(known))}"
                )
        try:
            return cls(**block)
        except TypeError as error:
            raise ValueError(f"co_rewarding: a value of the wrong type in {dict(block)}: {error}") from error
