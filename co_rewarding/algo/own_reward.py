# SPDX-License-Identifier: Apache-2.0
"""A user's reward: one function in a file, named by its place (algo/own_function.py).

    def reward(inputs: RewardInputs) -> Sequence[float]      one number a row, in the order of inputs.rollouts

co_rewarding/algo/rollouts.py defines the rows and other inputs. For rows that are never trained on (a teacher's) the
number is ignored and may be None. A function that compares answers with labels may return Scores, so that metrics see
them. It gets no ground truths unless a line below it requests them:

    reward.needs_labels = True      then inputs.ground_truths has them as answers, None if missing

Degenerate cases: an exception, a wrong number of values, or a value that is no finite number up to MAX_REWARD ends the
run in one line with file and line. No fault ever counts as 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from co_rewarding.algo.own_function import OwnFunctionError, call, line_of, load_function
from co_rewarding.algo.rewards import trained_rows, truths, without_labels
from co_rewarding.algo.rollouts import RewardInputs, Scores

MAX_REWARD = 1e12
"""Times the largest weight of a sum it is 1e18, whose square GRPO's group deviation can hold in float32."""


@dataclass(frozen=True)
class OwnReward:
    """The function, with its result checked."""

    place: str
    function: Callable[[RewardInputs], Any]

    @classmethod
    def at(cls, place: str) -> OwnReward:
        """The function at `place`.

        Raises:
            ValueError: there is none that can be called with RewardInputs.
        """
        function = load_function(place)
        try:
            inspect.signature(function).bind(None)
        except (TypeError, ValueError):  # ValueError: some written in C
            raise ValueError(f"{place}: must take one argument: def {place.rpartition(':')[2]}(inputs)") from None
        return cls(place, function)

    @property
    def needs_labels(self) -> bool:
        return bool(getattr(self.function, "needs_labels", False))

    def __call__(self, inputs: RewardInputs) -> Scores:
        if self.needs_labels:
            inputs = replace(inputs, ground_truths=truths(inputs))
        result = call(self.function, self.place, inputs)
        if isinstance(result, Scores):
            self._check_length(result.row_labels, inputs, "labels")
            return replace(result, rewards=self._checked(result.rewards, inputs))
        return without_labels(inputs.rollouts, self._checked(result, inputs))

    def _checked(self, rewards: Any, inputs: RewardInputs) -> tuple[float | None, ...]:
        values = rewards.tolist() if hasattr(rewards, "tolist") else rewards  # of numpy or torch
        if not isinstance(values, list | tuple):
            kind = type(rewards).__name__
            raise OwnFunctionError(f"{self._line}: returned {kind}: must be a list of numbers, one a row, or Scores")
        self._check_length(values, inputs, "rewards")
        is_trained = [reward is not None for reward in trained_rows(inputs.rollouts, [0.0] * len(values))]
        for i, (value, matters) in enumerate(zip(values, is_trained, strict=True)):
            if matters and not (isinstance(value, Real) and abs(value) <= MAX_REWARD):
                raise OwnFunctionError(
                    f"{self._line}: reward {i} of {len(values)} is {repr(value)[:60]}: must be a finite number of at "
                    f"most {MAX_REWARD:g}"
                )
        rewards_N = [float(value) if matters else None for value, matters in zip(values, is_trained, strict=True)]
        return trained_rows(inputs.rollouts, rewards_N)

    def _check_length(self, values: Sequence[Any], inputs: RewardInputs, what: str) -> None:
        if len(values) != len(inputs.rollouts):
            raise OwnFunctionError(
                f"{self._line}: returned {len(values)} {what} for {len(inputs.rollouts)} rows of inputs.rollouts"
            )

    @property
    def _line(self) -> str:
        return line_of(self.function, self.place)
