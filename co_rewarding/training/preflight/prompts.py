# SPDX-License-Identifier: Apache-2.0
"""Checks of all prompts of all files before a run starts (see check.py and rendering.py).

Messages that the chat template drops or rejects are an error. Prompts over the limit are left out of training and
validation, as in verl, and reported; so are prompts that do not ask for the expected answer format.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from co_rewarding.algo.answer_format import BOXED
from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.storage.rows import MAX_NAMED, Row, question_id
from co_rewarding.storage.stated_as import stated_as
from co_rewarding.training.console import say
from co_rewarding.training.preflight.data import KEYS, DataFile, DataFiles, judge, rows_of
from co_rewarding.training.preflight.rendering import Asked, Measured, SlowTemplate, measure
from co_rewarding.training.settings import Settings

MAX_SHARE_TOO_LONG = 0.5
PLAIN = "recipes/chat_templates/plain.jinja"
_MODEL = "actor_rollout_ref.model.path"


def check_prompts(config: DictConfig, files: DataFiles, tokenizer: Any, vocabulary: int) -> None:
    """Render and count every prompt; then check the remaining questions and steps.

    Args:
        tokenizer: the model's, without `custom_chat_template`, which is set here.
        vocabulary: rows of the model's embedding.
    """
    model, limit = config.actor_rollout_ref.model, config.data.max_prompt_length
    if model.custom_chat_template:
        tokenizer.chat_template = model.custom_chat_template
    if tokenizer.chat_template is None:
        raise ValueError(
            f"co_rewarding.chat_template={config.co_rewarding.chat_template}: the tokenizer of {model.path} has no "
            f"chat template; name a file with one (CHAT_TEMPLATE in the run script; {PLAIN} is one for base models)"
        )
    check_thinking(config, str(tokenizer.chat_template))
    too_long: dict[str, list[int]] = {}
    num_merged = 0
    for key, of_key in files.items():
        measured = _joined([_measured(config, tokenizer, key, file) for file in of_key])
        num_merged += measured.num_merged
        if (highest := max(measured.highest_id, tokenizer.eos_token_id or 0)) >= vocabulary:
            raise ValueError(
                f"actor_rollout_ref.model.path={model.path}: its tokenizer makes token {highest} from {key}, but the "
                f"model has {vocabulary} (vocab_size); use the tokenizer that belongs to the model"
            )
        too_long[key] = [i for i, tokens in enumerate(measured.tokens_P) if tokens > limit]
        where, count, longest = f"{key}={OmegaConf.select(config, key)}", len(measured.tokens_P), max(measured.tokens_P)
        fate = "left out" if config.data.filter_overlong_prompts else "cut at their beginning"
        over = f"prompts over data.max_prompt_length={limit} tokens, {fate} (the longest has {longest})"
        judge(config, {over: too_long[key]}, count, where, bound=MAX_SHARE_TOO_LONG)
        formats = sorted({spec or BOXED for file in of_key for _, spec in _asked(config, file)})
        unasked = f"prompts that do not ask for the answer in its format ({', '.join(formats)})"
        judge(config, {unasked: measured.unasked}, count, where)
    if num_merged:
        say(
            "prompts: the chat template takes no system message: it is put before the user's, with a blank line "
            "between (training and validation alike)"
        )
    check_steps(config, _questions_left(config, rows_of(files), too_long))


def check_thinking(config: DictConfig, template: str) -> None:
    """Thinking is switched on or off only where the chat template reads the switch."""
    value = config.data.apply_chat_template_kwargs.get("enable_thinking")
    if value is not None and not re.search(r"\benable_thinking\b", template):
        raise ValueError(
            f"co_rewarding.enable_thinking={value}: the chat template of {config.actor_rollout_ref.model.path} does "
            "not read enable_thinking, which would change nothing; leave it out (ENABLE_THINKING in the run script)"
        )


def check_steps(config: DictConfig, questions: int) -> None:
    """There is at least one batch, and enough for the requested steps.

    Args:
        questions: number in an epoch, without those left out.
    """
    batch, trainer = config.data.train_batch_size, config.trainer
    if questions < batch:
        raise ValueError(
            f"data.train_batch_size={batch}: data.train_files has {questions} questions within data.max_prompt_length="
            f"{config.data.max_prompt_length} (MAX_PROMPT_LENGTH in the run script), less than one batch"
        )
    possible, steps = questions // batch * trainer.total_epochs, trainer.total_training_steps
    if steps is not None and steps > possible:
        raise ValueError(
            f"trainer.total_training_steps={steps}: {questions} questions in batches of {batch} for "
            f"trainer.total_epochs={trainer.total_epochs} epochs make {possible} steps; raise trainer.total_epochs"
        )
    allowed, visits = Settings.read(config).max_label_flips, -(-(steps or possible) // (questions // batch))
    if allowed >= 0 and visits < allowed + 2:
        raise ValueError(
            f"co_rewarding.max_label_flips={allowed}: cannot be exceeded in {visits} visits of a question; set -1 or "
            f"train for at least {allowed + 2} epochs (MAX_LABEL_FLIPS, TOTAL_EPOCHS in the run script)"
        )
    say(f"data: {questions:,} questions to train on, in batches of {batch}: {steps or possible:,} steps")


def _measured(config: DictConfig, tokenizer: Any, key: str, file: DataFile) -> Measured:
    """Measure one file; all its messages reach the model.

    Raises:
        ValueError: a row that the chat template rejects, or a message that it drops.
    """
    own = config.co_rewarding.get("chat_template")
    named = f"co_rewarding.chat_template={own}: this" if own else f"{_MODEL}={config.actor_rollout_ref.model.path}: its"
    named += " chat template"
    remedy = "(co_rewarding.chat_template=FILE; CHAT_TEMPLATE in the run script)"
    where, prompts = f"{key}={file.path}", _asked(config, file)
    kwargs = OmegaConf.to_container(config.data.apply_chat_template_kwargs, resolve=True)
    try:
        measured = measure(Path(file.path).expanduser(), prompts, tokenizer, kwargs)
    except SlowTemplate as error:
        raise ValueError(f"{named} is not usable, {error}; use another one {remedy}") from error
    if measured.failed:
        row, reason = measured.failed[0]
        raise ValueError(
            f"{named} rejects the messages of {where}, {_some([row for row, _ in measured.failed])} ({reason}); "
            f"use another one {remedy}"
        )
    if measured.lost:
        row, message = measured.lost[0]
        lost = prompts[row][0][message]
        raise ValueError(
            f"{named} leaves out the {lost['role']} message {lost['content'][:60]!r} of {where}, "
            f"{_some([row for row, _ in measured.lost])}; use one that renders it {remedy}"
        )
    return measured


def _asked(config: DictConfig, file: DataFile) -> list[Asked]:
    """The prompts of a file, each with its answer format."""
    usual = Settings.read(config).answer_format
    return [(row["prompt"], stated_as(row, usual)[0]) for row in file.rows]


def _joined(files: Sequence[Measured]) -> Measured:
    """Of several files, rows numbered continuously."""
    tokens_P, unasked = [], []
    for measured in files:
        unasked += [len(tokens_P) + row for row in measured.unasked]
        tokens_P += measured.tokens_P
    highest, num_merged = max(measured.highest_id for measured in files), sum(measured.num_merged for measured in files)
    return Measured(tokens_P, highest, unasked, [], [], num_merged)


def _questions_left(
    config: DictConfig, of_key: Mapping[str, Sequence[Row]], too_long: Mapping[str, Sequence[int]]
) -> int:
    """Questions of an epoch, in verl's order: it samples first, then drops too long prompts.

    Shuffled samples without a seed are not known in advance; then this is the smallest number that can remain.
    """
    data, count = config.data, len(of_key["data.train_files"])
    gone = {question_id(of_key[key][i]) for key in KEYS[: len(VIEWS)] for i in too_long.get(key, ())}
    is_left_P = [question_id(row) not in gone for row in of_key["data.train_files"]]
    sampled = data.get("train_max_samples", -1)
    if not config.data.filter_overlong_prompts:
        return sampled if 0 < sampled < count else count
    if not 0 < sampled < count:
        return sum(is_left_P)
    if not data.shuffle:
        return sum(is_left_P[:sampled])
    if data.seed is None:
        return max(0, sampled - is_left_P.count(False))
    return sum(is_left_P[i] for i in np.random.default_rng(data.seed).choice(count, size=sampled, replace=False))


def _some(rows: Sequence[int]) -> str:
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:MAX_NAMED]))}" + (
        f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
    )
