# SPDX-License-Identifier: Apache-2.0
"""Our configuration blocks as dataclasses: keys, types, defaults and ranges, each in one place.

Hydra composes them beside the YAML (config/__init__.py registers them) and refuses wrong types and unknown keys; ranges
are checked when a block is read. `--cfg job` of a run script shows all keys with their values.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.equivalence.relation import MODES, TIMEOUT_S
from co_rewarding.algo.methods import method
from co_rewarding.algo.payout import PAYOUTS

B = TypeVar("B", bound="ConfigBlock")
SUSPECT_DATA = ("refuse", "warn")
OLD_LOG_PROBS = ("auto", "always")
MAX_TEMPERATURE = 2.0
"""vLLM refuses requests above it, which would end a run at its first rollouts."""
MAX_ROLLOUTS = 4096
"""Per question; more is taken for a typing error."""


@dataclass(frozen=True)
class ConfigBlock:
    """One block of the configuration; a subclass names it, lists its keys as fields, and checks their ranges."""

    NAME: ClassVar[str]  # dotted path in the configuration

    @classmethod
    def register(cls) -> None:
        """Make the block available to defaults lists in YAML."""
        ConfigStore.instance().store(name=cls.NAME, node=cls.schema(), package=cls.NAME)

    @classmethod
    def schema(cls) -> DictConfig:
        """The typed defaults, writable: OmegaConf would make a frozen dataclass read-only."""
        schema = OmegaConf.structured(cls)
        OmegaConf.set_readonly(schema, False)
        return schema

    @classmethod
    def read(cls: type[B], config: DictConfig) -> B:
        """The block of a configuration; missing keys have their defaults.

        Unknown keys are refused here again: Hydra's `+` can add one even to a dataclass.

        Raises:
            ValueError: names the key, the value and what is allowed.
        """
        block = OmegaConf.select(config, cls.NAME)
        if not isinstance(block, DictConfig):
            raise ValueError(f"{cls.NAME}={block}: must be a block; {cls.known_keys()}")
        written = OmegaConf.to_container(block)
        try:
            values = OmegaConf.to_container(block, resolve=True)
            return OmegaConf.to_object(OmegaConf.merge(cls.schema(), values))
        except OmegaConfBaseException as error:
            reason = str(error).partition("\n")[0]
            if isinstance(error, ConfigKeyError) and error.key in written:
                reason = f"unknown key; {cls.known_keys()}"
            raise ValueError(f"{cls.NAME}.{error.key}={written.get(error.key)}: {reason}") from error

    @classmethod
    def known_keys(cls) -> str:
        return "known keys are " + ", ".join(sorted(field.name for field in fields(cls)))

    def require(self, key: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise ValueError(f"{self.NAME}.{key}={getattr(self, key)}: must be {allowed}")


@dataclass(frozen=True)
class Settings(ConfigBlock):
    """The block `co_rewarding`, of every method."""

    NAME = "co_rewarding"

    method: str  # what rewards an answer: a name, FILE.py:FUNCTION or a weighted sum (docs/OWN_REWARD.md)
    num_votes: int = 0  # 0–4096, student's rollouts of a prompt that vote, rollout.n of them trained on; 0: rollout.n
    min_agreement: float = 0.0  # 0–1, least share of a group's rollouts for a pseudo-label; 0: any plurality (paper)
    payout: str = "hard"  # what a vote pays: hard (1 or 0, paper), soft (shares) or negative (rare answers -1)
    max_label_flips: int = -1  # -1: off; N >= 0: more than N changes of its pseudo-label in a row leave a question out
    answer_format: str = ""  # of rows that name none: boxed, choice, number, tag, regex:PATTERN, FILE.py:FUNCTION
    equivalence: str = "math"  # when answers are one: math (same value), string (same spelling) or exact (same text)
    verify_timeout_s: float = TIMEOUT_S  # > 0, CPU seconds that math-verify may spend on one answer
    verify_workers: int = 1  # 1–1024, processes that read answers with math-verify, one answer each at a time
    poll_interval_s: float = 0.2  # > 0, seconds between looks for finished rollouts (verl: 2, in II twice a step)
    old_log_probs: str = "auto"  # auto: no pass for them in a step with one update; always: one in every step
    seed: int = 0  # of the control `random`, and of your own rewards that draw random numbers
    chat_template: str | None = None  # a Jinja file instead of the model's chat template; null or "": the model's own
    enable_thinking: bool | None = None  # of a model that can think before it answers; null: its template's default
    watch_window: int = 5  # >= 2, steps over which alarms of collapse are computed (docs/METRICS.md)
    suspect_data: str = "refuse"  # if too much of the data looks wrong (preflight/data.py): refuse, or warn and train
    early_stop_after: int = 0  # >= 0, steps in a row with an alarm after which a run ends; 0: alarms only warn

    def __post_init__(self) -> None:
        infinity = float("inf")
        try:
            method(self.method)
        except ValueError as error:
            reason = str(error).removeprefix(f"{self.method}: ")
            raise ValueError(f"{self.NAME}.method={self.method}: {reason}") from error
        self.require("num_votes", 0 <= self.num_votes <= MAX_ROLLOUTS, f"0, or at most {MAX_ROLLOUTS}")
        self.require("min_agreement", 0 <= self.min_agreement <= 1, "a share from 0 to 1")
        self.require("payout", self.payout in PAYOUTS, "one of " + ", ".join(PAYOUTS))
        self.require("max_label_flips", self.max_label_flips >= -1, "a whole number from 0, or -1 to leave nothing out")
        try:
            answer_format(self.answer_format)
        except ValueError as error:
            raise ValueError(f"{self.NAME}.answer_format={self.answer_format}: {error}") from error
        self.require("equivalence", self.equivalence in MODES, "one of " + ", ".join(MODES))
        self.require("verify_timeout_s", 0 < self.verify_timeout_s < infinity, "seconds above 0")
        self.require("verify_workers", 1 <= self.verify_workers <= 1024, "a whole number from 1 to 1024")
        self.require("poll_interval_s", 0 < self.poll_interval_s < infinity, "seconds above 0")
        self.require("suspect_data", self.suspect_data in SUSPECT_DATA, "one of " + ", ".join(SUSPECT_DATA))
        self.require("old_log_probs", self.old_log_probs in OLD_LOG_PROBS, " or ".join(OLD_LOG_PROBS))
        self.require("watch_window", self.watch_window >= 2, "a whole number of steps from 2")
        self.require("early_stop_after", self.early_stop_after >= 0, "a whole number of steps, 0 for never")
