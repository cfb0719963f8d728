# SPDX-License-Identifier: Apache-2.0
"""How the model is asked: two settings of this project, put where verl reads them, once and before anything else.

    co_rewarding.chat_template     a Jinja file      → its text in actor_rollout_ref.model.custom_chat_template
    co_rewarding.enable_thinking   True, False       → data.apply_chat_template_kwargs.enable_thinking

verl has the template as a text, which no command line can hold. From there on, all of a run asks alike: the filter of
long prompts, rollouts, validation; checkpoints keep the template with their tokenizer, and so do their exports.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from co_rewarding.training.settings import Settings

TEMPLATE, THINKING = "actor_rollout_ref.model.custom_chat_template", "data.apply_chat_template_kwargs.enable_thinking"
MAX_BYTES = 1 << 20  # of a template; the longest of known models has 20 thousand


def settle(config: DictConfig) -> None:
    """Write both into verl's keys.

    Raises:
        ValueError: one line: the file is no template, or verl's key says something else.
    """
    settings = Settings.read(config)
    found = {}
    if settings.chat_template:
        found[TEMPLATE] = ("chat_template", template_in(settings.chat_template))
    if settings.enable_thinking is not None:
        found[THINKING] = ("enable_thinking", settings.enable_thinking)
    for key, (name, value) in found.items():
        if OmegaConf.select(config, key) not in (None, value):
            raise ValueError(
                f"{settings.NAME}.{name}={getattr(settings, name)}: {key} is set to something else; leave that out"
            )
        with open_dict(config):
            OmegaConf.update(config, key, value, force_add=True)


def template_in(path: str) -> str:
    """The text of a chat template's file. Raises ValueError with one line."""
    where, file = f"{Settings.NAME}.chat_template={path}", Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"{where}: no such file; name a Jinja file (CHAT_TEMPLATE in the run script)")
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"{where}: has {file.stat().st_size:,} bytes, which no chat template has; name a Jinja file")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{where}: is not UTF-8; name a Jinja file") from None
    if not text.strip():
        raise ValueError(f"{where}: is empty; a chat template writes messages as the model reads them")
    if "${" in text:
        raise ValueError(
            f"{where}: has ${{, with which the configuration refers to a value; write the $ as {{{{ '$' }}}}"
        )
    return text
