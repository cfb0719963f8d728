# SPDX-License-Identifier: Apache-2.0
"""Our configuration blocks as typed, range-checked values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from co_rewarding.algo.equivalence.relation import MODES, TIMEOUT_S
from co_rewarding.algo.methods import METHODS

C = TypeVar("C", bound="ConfigBlock")
MAX_TEMPERATURE = 2.0
"""vLLM refuses a request above it, which would end a run at its first rollouts."""


@dataclass(frozen=True)
class ConfigBlock:
    """One block of the configuration; a subclass names it and lists its keys as fields."""

    NAME: ClassVar[str]  # dotted path in the configuration

    @classmethod
    def from_mapping(cls: type[C], block: Mapping[str, Any]) -> C:
        """Its value; an unknown key is an error, never ignored.

        Raises:
            ValueError: one line that names the key, the value and what is allowed.
        """
        for key, value in block.items():
            if key not in cls.names():
                raise ValueError(
                    f"{cls.NAME}.{key}={value!r}: unknown key; known keys are {', '.join(sorted(cls.names()))}"
                )
        return cls(**block)

    @classmethod
    def names(cls) -> set[str]:
        return {field.name for field in fields(cls)}

    def require(self, key: str, types: type | tuple[type, ...], allowed: str, ok: Callable[[Any], bool]) -> None:
        """Check one value; a bool is a number only where a bool is asked for."""
        value = getattr(self, key)
        if (isinstance(value, bool) and types is not bool) or not isinstance(value, types) or not ok(value):
            raise ValueError(f"{self.NAME}.{key}={value!r}: must be {allowed}")


@dataclass(frozen=True)
class Settings(ConfigBlock):
    """What the group reward needs to know. Ranges are checked when the value is made."""

    NAME = "co_rewarding"

    method: str = "co_rewarding_I"  # one of co_rewarding.algo.methods
    min_agreement: float = 0.0  # 0–1, share of a group's rollouts that a label needs; 0 = any plurality (paper)
    equivalence: str = "math"  # when two answers are one vote: math (their values), string (their spelling), exact
    verify_timeout_s: float = TIMEOUT_S  # > 0, CPU time that reading one answer with math-verify may take
    verify_workers: int = 1  # >= 1, processes that do, as many answers at a time
    poll_interval_s: float = 0.2  # > 0, how often the replay buffer looks for finished rollouts
    seed: int = 0  # of the control `random`
    watch_window: int = 5  # >= 2, steps over which signs of collapse are looked for (co_rewarding.monitoring.alarms)
    early_stop_after: int = 0  # >= 0, steps in a row with such a sign after which a run ends; 0: only warn

    def __post_init__(self) -> None:
        number = (int, float)
        self.require("method", str, "one of " + ", ".join(METHODS), METHODS.__contains__)
        self.require("min_agreement", number, "a share from 0 to 1", lambda share: 0.0 <= share <= 1.0)
        self.require("equivalence", str, "one of " + ", ".join(MODES), MODES.__contains__)
        self.require("verify_timeout_s", number, "seconds above 0", lambda seconds: 0 < seconds < float("inf"))
        self.require("verify_workers", int, "a whole number from 1", lambda count: count >= 1)
        self.require("poll_interval_s", number, "seconds above 0", lambda seconds: 0 < seconds < float("inf"))
        self.require("seed", int, "a whole number", lambda _: True)
        self.require("watch_window", int, "a whole number of steps from 2", lambda steps: steps >= 2)
        self.require("early_stop_after", int, "a whole number of steps, 0 for never", lambda steps: steps >= 0)
