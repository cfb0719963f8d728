# SPDX-License-Identifier: Apache-2.0
"""How prompts are built: this project's settings, copied to where verl and the dataset read them, before anything else.

    co_rewarding.chat_template     a Jinja file      → its text in actor_rollout_ref.model.custom_chat_template
    co_rewarding.enable_thinking   True, False       → data.apply_chat_template_kwargs.enable_thinking
    co_rewarding.method            majority_voting_both_views → data.train_aug_files=data.train_files

verl takes the template as text, which is too long for a command line. Everything in a run then builds prompts alike:
the filter of long prompts, rollouts, validation. Checkpoints and exports keep the template with their tokenizer.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from co_rewarding.algo.methods import method
from co_rewarding.storage.messages import template_in
from co_rewarding.training.console import say
from co_rewarding.training.settings import Settings

TEMPLATE, THINKING = "actor_rollout_ref.model.custom_chat_template", "data.apply_chat_template_kwargs.enable_thinking"


def settle(config: DictConfig) -> None:
    """Copy them into the keys that verl and the dataset read.

    Raises:
        ValueError: the file is no template, or verl's key has another value.
    """
    settings = Settings.read(config)
    if method(settings.method).repeats_original:
        _repeat_original(config)
    found = {}
    if settings.chat_template:
        found[TEMPLATE] = ("chat_template", _text(settings.chat_template))
    if settings.enable_thinking is not None:
        found[THINKING] = ("enable_thinking", settings.enable_thinking)
    for key, (name, value) in found.items():
        if OmegaConf.select(config, key) not in (None, value):
            raise ValueError(f"{settings.NAME}.{name}={getattr(settings, name)}: {key} has another value; leave it out")
        with open_dict(config):
            OmegaConf.update(config, key, value, force_add=True)


def _repeat_original(config: DictConfig) -> None:
    """Use the original questions as both views; the run script's rephrased file is ignored."""
    original, rephrased = (OmegaConf.select(config, f"data.{name}") for name in ("train_files", "train_aug_files"))
    if "train_aug_files" not in config.data.keys() or not original:  # noqa: SIM118 - "in" is False for ???, too
        return  # refused later: only one view, or no questions
    if rephrased and rephrased != original:
        say(
            f"data.train_aug_files={rephrased}: is ignored, since {config.co_rewarding.method} uses each question of "
            "data.train_files twice"
        )
    config.data.train_aug_files = original


def _text(path: str) -> str:
    where = f"{Settings.NAME}.chat_template={path}"
    try:
        text = template_in(Path(path).expanduser())
    except ValueError as error:
        raise ValueError(f"{where}: {error} (CHAT_TEMPLATE in the run script)") from None
    if "${" in text:
        raise ValueError(
            f"{where}: has ${{, which the configuration reads as a reference to a value; write the $ as {{{{ '$' }}}}"
        )
    return text
