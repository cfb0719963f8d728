# SPDX-License-Identifier: Apache-2.0
"""Variables of the run script that started this process, parsed from its text, for error messages.

Run scripts put their path into CO_REWARDING_RUN_SCRIPT. Without one (`python -m co_rewarding_i.main …`) no variable is
named.
"""

import difflib
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from co_rewarding.storage.provenance import PROJECT

PATH = "CO_REWARDING_RUN_SCRIPT"
SCRIPTS = ("scripts/*.sh", "recipes/**/*.sh", "Co-rewarding-*/*.sh")  # of the project
LINE = re.compile(r"^(?:export )?([A-Z0-9_]+)=\$\{\1:?-", flags=re.MULTILINE)  # LEARNING_RATE=${LEARNING_RATE:-3e-6}
ARGUMENT = re.compile(r'^ +([a-z0-9_.]+)="\$([A-Z0-9_]+)"', flags=re.MULTILINE)  # actor.optim.lr="$LEARNING_RATE"
READ = re.compile(r"\$\{?!?([A-Z][A-Z0-9_]+)|\b([A-Z][A-Z0-9_]+)=")
ALIKE = 0.85  # difflib's ratio; SLURM_GPUS_PER_NODE and GPUS_PER_NODE have 0.81


@functools.cache
def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _own_text() -> str:
    return _text(os.environ[PATH]) if os.environ.get(PATH) else ""


def variable_of(key: str) -> str | None:
    """The variable whose value the run script gives to a key of the configuration, if any."""
    return dict(ARGUMENT.findall(_own_text())).get(key)


def unread(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that no script reads but that resemble one of the run script: name → the likely one."""
    settings = LINE.findall(_own_text())
    if not settings:
        return {}
    known = {
        name for pattern in SCRIPTS for file in PROJECT.glob(pattern) for pair in READ.findall(_text(str(file)))
        for name in pair
    }  # fmt: skip
    found = {}
    for name in sorted(environment.keys() - known):
        for meant in difflib.get_close_matches(name, settings, n=1, cutoff=ALIKE):
            found[name] = meant
    return found


def named(message: str) -> str:
    """A message about a key, `KEY=VALUE: …`, with the run script's variable, unless it names that already."""
    key, is_pair, _ = message.partition("=")
    variable = variable_of(key) if is_pair else None
    if variable is None or re.search(rf"\b{variable}\b", message):
        return message
    return f"{message} ({variable} in the run script)"
