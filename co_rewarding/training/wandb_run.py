# SPDX-License-Identifier: Apache-2.0
"""One Weights & Biases run per run, however often it is started.

verl's logger calls `wandb.init` in the process that trains, which reads everything else from the environment. That
process may be on another machine, in a cluster without the user's variables: it gets all of them, and the key that
wandb finds here (`wandb login`, ~/.netrc, WANDB_API_KEY). Only that process gets them; the configuration, which is
printed, recorded and sent to wandb, does not.
"""

import os
import re
from uuid import uuid4

from omegaconf import DictConfig

from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.run_dir import RunDir

LOGGER = "wandb"  # in trainer.logger
NEED_A_KEY = ("online", "run", "shared")
FOLDER = re.compile(r"(?:offline-)?run-\d{8}_\d{6}-(.+)")  # of one start, in wandb's folder


def logs_to_wandb(config: DictConfig) -> bool:
    logger = config.trainer.logger
    return LOGGER in ([logger] if isinstance(logger, str) else logger or [])


def environment(run: RunDir) -> dict[str, str]:
    """Environment of wandb for the process that trains; creates the run's id, so the run directory must exist.

    Raises:
        ValueError: the run would be online without a key.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
    ours = {"WANDB_DIR": str(run.path)}
    if "WANDB_RUN_ID" not in given:
        ours |= {"WANDB_RUN_ID": _run_id(run), "WANDB_RESUME": "allow"}
    key = _key()
    if key:
        ours["WANDB_API_KEY"] = key
    elif "WANDB_IDENTITY_TOKEN_FILE" not in given:
        ours["WANDB_MODE"] = "offline"
        if (mode := given.get("WANDB_MODE")) in NEED_A_KEY:
            raise ValueError(f"WANDB_MODE={mode}: not logged in; run `wandb login`, or set WANDB_MODE=offline")
    return ours | given


def _key() -> str | None:
    """The key that `wandb.init` would find on this machine, without asking for one.

    Raises:
        ValueError: the stored text is no key.
    """
    import wandb
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib.wbauth import AuthApiKey, authenticate_session

    host = wandb_setup.singleton().settings.base_url  # `wandb.setup` would start wandb's service in this process
    try:
        found = authenticate_session(host=host, source="", prompt=False, update_session=False)
    except wandb.errors.AuthenticationError as error:
        raise ValueError(f"wandb: {error}; run `wandb login`, or set WANDB_MODE=offline") from error
    return found.api_key if isinstance(found, AuthApiKey) else None


def _run_id(run: RunDir) -> str:
    """The stored id; of older runs, the one of their last start."""
    if run.wandb_id.is_file() and (kept := run.wandb_id.read_text(encoding="utf-8").strip()):
        return kept
    names = sorted(path.name.removeprefix("offline-") for path in run.wandb.glob("*run-*") if path.is_dir())
    ids = [match[1] for name in names if (match := FOLDER.fullmatch(name))]
    new = ids[-1] if ids else uuid4().hex[:12]
    atomic_write_text(run.wandb_id, f"{new}\n")
    return new
