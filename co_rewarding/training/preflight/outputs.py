# SPDX-License-Identifier: Apache-2.0
"""Checks that a run's folders can be written and its loggers are installed.

verl creates its loggers last, after all processes and vLLM.
"""

import errno
import importlib.util
import os
import tempfile
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from co_rewarding.storage.provenance import PROJECT

FOLDERS = {  # each with how it is set
    "co_rewarding_run_dir": "RUNS_DIR",
    "trainer.default_local_dir": "it",
    "trainer.rollout_data_dir": "it",
    "trainer.validation_data_dir": "it",
}
PACKAGES = {  # of the loggers that need one of another name than theirs, or none
    "console": None,
    "file": None,
    "vemlp_wandb": "volcengine_ml_platform",
}
WANDB_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")


def check_run_dir(config: DictConfig) -> None:
    """A run begun in the current folder, as in older versions, does not silently start over."""
    if os.environ.get("RUNS_DIR") == "":
        raise ValueError("RUNS_DIR is empty: set it to a folder for runs, or unset it")
    if not isinstance(config.co_rewarding_run_dir, str):
        raise ValueError(f"co_rewarding_run_dir={config.co_rewarding_run_dir}: must be a folder")
    name = Path("runs", config.trainer.project_name, config.trainer.experiment_name)
    run_dir, here = Path(config.co_rewarding_run_dir).absolute(), name.absolute()
    if run_dir == PROJECT / name and here != run_dir and here.is_dir() and not run_dir.exists():
        raise ValueError(
            f"co_rewarding_run_dir={run_dir}: does not exist, but {here} does; to resume that run move it there or set "
            "RUNS_DIR=runs; for a new run choose another RUN_NAME"
        )


def check_folders(config: DictConfig) -> None:
    """Raises: ValueError, a folder cannot be created or written."""
    for key, setting in FOLDERS.items():
        value = OmegaConf.select(config, key)
        if not isinstance(value, str):
            continue  # none; another type is refused elsewhere
        folder = Path(value).absolute()
        while not folder.exists():
            folder = folder.parent
        try:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(4096))
        except OSError as error:
            raise ValueError(
                f"{key}={value}: cannot be written ({error.strerror}); set {setting} to a writable folder"
            ) from error


def check_loggers(config: DictConfig) -> None:
    """Raises: ValueError, a logger that is unknown to verl or not installed, or an unknown wandb mode."""
    from verl.utils.tracking import Tracking

    logger, known = config.trainer.logger, Tracking.supported_backend
    names = [logger] if isinstance(logger, str) else logger
    if not isinstance(names, list | ListConfig) or not all(name in known for name in names):
        raise ValueError(
            f"trainer.logger={logger}: must be a list of {', '.join(known)}, as in LOGGER='[console,file,tensorboard]' "
            "in the run script"
        )
    for name in names:
        package = PACKAGES.get(name, name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(
                f"trainer.logger={logger}: {name} needs the package {package}, which is not installed; install it or "
                f"leave {name} out (LOGGER in the run script)"
            )
    mode = os.environ.get("WANDB_MODE")
    if "wandb" in names and mode is not None and mode not in WANDB_MODES:
        raise ValueError(f"WANDB_MODE={mode}: must be one of {', '.join(WANDB_MODES)}; or unset it")
