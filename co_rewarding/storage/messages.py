# SPDX-License-Identifier: Apache-2.0
"""Messages for a model's chat template: without a system role, the system message is merged into the user's.

    {system: S} {user: U} …   →   {user: S, blank line, U} …

A template may refuse the role (Gemma's says "System role not supported") or silently drop its message. A probe with two
fixed messages finds out, with the same result in training, validation, evaluation, rewriting and the usage text of an
export.

Nothing is merged if the template shows the system message, if it loses the merged message too (other checks refuse
that), or if the messages do not begin with a system and a user message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Messages = Sequence[Mapping[str, Any]]
MAX_TEMPLATE_BYTES = 1 << 20  # the longest of known models has 20 thousand
NOT_THE_TEMPLATES = ("tokenize", "return_dict", "return_tensors")
PROBE = ({"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "Which colour has the sky?"})


def template_in(path: Path) -> str:
    """The text of a chat template's file. Raises ValueError: the reason, without the file's name."""
    if not path.is_file():
        raise ValueError("no such file; name a Jinja file")
    if path.stat().st_size > MAX_TEMPLATE_BYTES:
        raise ValueError(f"has {path.stat().st_size:,} bytes, too large for a chat template; name a Jinja file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8; name a Jinja file") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); name a Jinja file") from None
    if not text.strip():
        raise ValueError("is empty; name a Jinja file with a chat template")
    return text


def merged(messages: Messages) -> list[dict[str, Any]]:
    """The messages with the leading system message merged into the following user message."""
    kept = [dict(message) for message in messages]
    if [message["role"] for message in kept[:2]] != ["system", "user"]:
        return kept
    system, user, *rest = kept
    return [user | {"content": f"{system['content']}\n\n{user['content']}"}, *rest]


def takes_no_system(render: Callable[[Messages], str]) -> bool:
    """Whether a chat template drops or refuses a system message, but keeps it within the user's.

    Args:
        render: messages → the prompt; may raise anything.
    """
    return not _shows(render, PROBE) and _shows(render, merged(PROBE))


def arguments(template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`data.apply_chat_template_kwargs` without the arguments on the form of the result, which verl drops, too."""
    return {name: value for name, value in template_kwargs.items() if name not in NOT_THE_TEMPLATES}


def _shows(render: Callable[[Messages], str], messages: Messages) -> bool:
    try:
        text = render([dict(message) for message in messages])
    except Exception:  # any error of a template
        return False
    return all(message["content"] in text for message in messages)
