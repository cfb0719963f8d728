# SPDX-License-Identifier: Apache-2.0
"""The server's start and end, and the Ray that uses it."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.forking import client
from co_rewarding.training.preflight.machine import starts_own_ray

SERVER = "co_rewarding.training.forking.server"
MODULES = (  # of verl's and vLLM's processes
    "co_rewarding.training.forking.environment",  # before vLLM, which reads its level of logging on import
    "verl.trainer.main_ppo",
    "verl.trainer.ppo.v1",
    "verl.workers.engine_workers",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "co_rewarding.training.weight_sync_vllm",
)
OTHER_PYTHONS = ("py_executable", "pip", "uv", "conda", "image_uri")  # of Ray's runtime_env
# numpy and OpenCV start threads on import, which a fork would lack
FOR_THE_SERVER = {"OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class ForkServer:
    """A running server."""

    address: str
    process: subprocess.Popen

    @property
    def pid(self) -> int:
        return self.process.pid

    def serve_ray(self, config: DictConfig, folder: Path) -> None:
        """Make the Ray that starts with `config` start its workers through the server, by a script in `folder`. If that
        is mounted noexec, Python starts Ray's workers."""
        executable = folder / "python"
        command = shlex.join([sys.executable, "-I", "-S", client.__file__, self.address])
        executable.write_text(f'#!/bin/sh\nexec {command} "$0" "$@"\n')
        executable.chmod(0o700)
        if os.access(executable, os.X_OK):
            quoted = shlex.quote(str(executable))  # Ray puts it into a line for a shell
            OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.py_executable", quoted, force_add=True)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def fork_server(config: DictConfig, *modules: str) -> Iterator[ForkServer | None]:
    """Within the block, a server that imports MODULES and `modules`; None if the run uses none.

    Its environment is this process's, plus the variables that the configuration has for Ray.
    """
    if not _is_wanted(config):
        yield None
        return
    variables = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars") or {}
    address = f"co-rewarding-{uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-m", SERVER, str(os.getpid()), address, *MODULES, *modules],
        env=os.environ | {name: str(value) for name, value in variables.items()} | FOR_THE_SERVER | rays(),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
    )
    server = ForkServer(address, process)
    try:
        yield server
    finally:
        server.end()


def _is_wanted(config: DictConfig) -> bool:
    if config.trainer.device != "cpu" or not starts_own_ray(config):
        return False
    if config.actor_rollout_ref.rollout.full_determinism:  # each process has its own hash seed, a fork its parent's
        return False
    of_users = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env") or {}
    return not any(of_users.get(name) for name in OTHER_PYTHONS)


def rays() -> dict[str, str]:
    """Variables that Ray's library reads when it is loaded, and forks cannot read again.

    A worker ends when the process RAY_RAYLET_PID does. The raylet's number is not known before Ray is on; this process
    starts it and ends with it.
    """
    return {
        "RAY_JOB_ID": client.FIRST_JOB,
        "RAY_RAYLET_PID": str(os.getpid()),
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),  # Ray's default for a private Ray
    }
