# SPDX-License-Identifier: Apache-2.0
"""Reports missing ground truths before a run starts (see check.py).

A self-rewarding method needs none. One line says what depends on them: accuracy, diagnostics, a supervised reward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from co_rewarding.algo.answers import ground_truth_answer
from co_rewarding.algo.methods import METHODS, method
from co_rewarding.storage.rows import ground_truths
from co_rewarding.training.console import say

LABEL_FREE = "val-label-free/… (docs/METRICS.md)"


def check_truths(config: DictConfig, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print what the run does without the missing ground truths.

    Args:
        rows: of each key of the configuration that names data files.

    Raises:
        ValueError: the method needs ground truths and there are none, or one is no text.
    """
    _check_training(config, _known(rows["data.train_files"], f"data.train_files={config.data.train_files}"))
    if "data.val_files" not in rows:
        if config.trainer.get("val_only", False):
            raise ValueError(
                f"trainer.val_only=True: nothing to validate on, data.val_files={config.data.val_files}; name "
                "a file (VAL_FILE in the run script)"
            )
        say("data.val_files: none, so nothing is validated")
        return
    known_P = _known(rows["data.val_files"], f"data.val_files={config.data.val_files}")
    if not any(known_P):
        validation = config.actor_rollout_ref.rollout.val_kwargs
        advice = "; VAL_NUM_ROLLOUTS=8 VAL_TEMPERATURE=0.8 would measure agreement, too" if validation.n == 1 else ""
        say(f"data.val_files: no question has a ground truth; instead of accuracy there is {LABEL_FREE}{advice}")
    elif not all(known_P):
        say(f"data.val_files: {_some(known_P)}; accuracy covers these, {LABEL_FREE} all")


def _check_training(config: DictConfig, known_P: Sequence[bool]) -> None:
    chosen = method(config.co_rewarding.method)
    if all(known_P):
        return
    if not chosen.needs_labels:
        share = _some(known_P) if any(known_P) else "no question has a ground truth, and none is needed"
        say(f"data.train_files: {share}; metrics such as label/accuracy cover only those")
        return
    if not any(known_P):
        raise ValueError(
            f"data.train_files={config.data.train_files}: no row has a reward_model.ground_truth, which "
            f"co_rewarding.method={chosen.name} rewards by; use labelled data or another method"
        )
    without = "rewards all responses to the others 0 and learns nothing from them"
    if chosen.name not in METHODS:
        without = "gets None for the others"
    say(
        f"{'WARNING: ' if sum(known_P) < len(known_P) / 2 else ''}data.train_files: {_some(known_P)}; "
        f"co_rewarding.method={chosen.name} {without}"
    )


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> list[bool]:
    return [ground_truth_answer(truth) is not None for truth in ground_truths(rows, name)]


def _some(known_P: Sequence[bool]) -> str:
    return f"{sum(known_P):,} of {len(known_P):,} questions have a ground truth"
