# SPDX-License-Identifier: Apache-2.0
"""How the model is asked: settings of this project, put where verl and the data set read them, once and before anything
else.

    co_rewarding.chat_template     a Jinja file      → its text in actor_rollout_ref.model.custom_chat_template
    co_rewarding.enable_thinking   True, False       → data.apply_chat_template_kwargs.enable_thinking
    co_rewarding.method            one that asks the original question twice → data.train_aug_files=data.train_files

verl has the template as a text, which no command line can hold. From there on, all of a run asks alike: the filter of
long prompts, rollouts, validation; checkpoints keep the template with their tokenizer, and so do their exports.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from co_rewarding.algo.methods import method
from co_rewarding.storage.messages import template_in
from co_rewarding.training.console import say
from co_rewarding.training.settings import Settings

TEMPLATE, THINKING = "actor_rollout_ref.model.custom_chat_template", "data.apply_chat_template_kwargs.enable_thinking"


def settle(config: DictConfig) -> None:
    """Write them into the keys that are read.

    Raises:
        ValueError: one line: the file is no template, or verl's key says something else.
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
            raise ValueError(
                f"{settings.NAME}.{name}={getattr(settings, name)}: {key} is set to something else; leave that out"
            )
        with open_dict(config):
            OmegaConf.update(config, key, value, force_add=True)


def _repeat_original(config: DictConfig) -> None:
    """Both views are the original questions, whatever the run script has as the rephrased ones, which all have."""
    original, rephrased = (OmegaConf.select(config, f"data.{name}") for name in ("train_files", "train_aug_files"))
    if "train_aug_files" not in config.data.keys() or not original:  # noqa: SIM118 - "in" is False for ???, too
        return  # refused later: one view is asked here, or there are no questions
    if rephrased and rephrased != original:
        say(
            f"data.train_aug_files={rephrased}: is not read, since {config.co_rewarding.method} asks each question of "
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
            f"{where}: has ${{, with which the configuration refers to a value; write the $ as {{{{ '$' }}}}"
        )
    return text
