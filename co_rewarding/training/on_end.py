# SPDX-License-Identifier: Apache-2.0
"""ON_END, a user's command at the end of a run: send a notification, stop a machine, start the next job.

bash runs it once, however the run ended: done, refused, failed, Ctrl-C or SIGTERM, but not SIGKILL. It gets the exit
code as $1 and EXIT_CODE, and RUN_DIR, which is empty if the run was refused before it was known. It does not get
RUN_NAME, which a run that it starts would take as its own. Its result does not change the run's exit code.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

VARIABLE = "ON_END"
_run = {"RUN_DIR": ""}
_is_started = False


def about_to_run(config: DictConfig) -> None:
    """From here on the process is a run, not a printed configuration."""
    global _is_started
    _is_started = True
    with suppress(OmegaConfBaseException):  # an unchecked configuration need not resolve
        _run["RUN_DIR"] = str(Path(str(config.co_rewarding_run_dir)).absolute())


@contextmanager
def on_end() -> Iterator[None]:
    """Run the command after the body; the body's exception propagates."""
    signal.signal(signal.SIGTERM, _exit_at)  # Ray has one that does so, too, from its start on
    code, users = 0, os.environ.copy()  # without what the run sets for its own processes
    try:
        yield
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        raise
    except BaseException:
        code = 1
        raise
    finally:
        command = users.get(VARIABLE)
        if command and (_is_started or code):
            _shut_down_ray()
            _call(command, code, users)


def _exit_at(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _shut_down_ray() -> None:
    """Free the GPU now and not at exit: the command may need it."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _call(command: str, code: int, environment: Mapping[str, str]) -> None:
    # without variables that must not reach a run that it starts
    environment = {name: value for name, value in environment.items() if name not in (VARIABLE, "RUN_NAME")}
    environment |= {**_run, "EXIT_CODE": str(code)}
    try:
        status = subprocess.run(["bash", "-c", command, VARIABLE, str(code)], env=environment, check=False).returncode
    except (OSError, KeyboardInterrupt, SystemExit) as error:
        status = repr(error)
    if status != 0:
        print(f"{VARIABLE}: the command ended with {status}", file=sys.stderr, flush=True)
