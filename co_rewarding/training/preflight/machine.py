# SPDX-License-Identifier: Apache-2.0
"""Checks of the machine: device, GPUs, and the CPU count by which Ray places verl's processes.

A run starts a private Ray (`ray_kwargs.ray_init.address: local`) unless RAY_ADDRESS names a cluster, which can only be
checked once it is joined (`check_cluster`).

Ray's CPUs are a count, not cores. verl 0.9.1 with TransferQueue 0.1.11 reserves for a whole run

    units + 1 + 3 · GPUs    TransferQueue's storage units and its controller (`num_cpus=1` each), and the bundles of the
                            workers ({CPU: 3, GPU: 1} each, verl's `max_colocate_count`)

and silently waits forever if Ray has fewer. All its other actors reserve none and need none to be free
(tests/e2e/test_own_ray.py). Reserved processes mostly wait for others and do not need cores.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

LOCAL = "local"  # Ray's word for a new Ray, which ends with the process that starts it
RESERVED_FOR_A_GPU = 3  # of a GPU's bundle; pinned in tests/training/test_verl_seams.py
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
CONNECT_S = 5.0  # to the head of a cluster


class UnfitCluster(ValueError):
    """A cluster has too little for a run, which would wait forever."""


def starts_own_ray(config: DictConfig) -> bool:
    return config.ray_kwargs.ray_init.address == LOCAL


def cgroup_limits(controller: str, *names: str) -> list[str]:
    """Contents of the files `names` in this process's control groups, from its own up to the root; all limits apply.

    /proc/self/cgroup has a line `0::/path` in version 2, `N:CONTROLLERS:/path` in version 1. In a container the path
    may be the host's, of which only the container's part is mounted as the root: missing folders are skipped.
    """
    found = []
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUPS / controller if controllers else CGROUPS
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            found += [file.read_text().strip() for name in names if (file := group / name).is_file()]
            if group == root:
                break
    return found


def cores() -> int:
    """Cores that this process may use, at least 1: its affinity (Slurm, taskset), or its container's share if less."""
    count = len(os.sched_getaffinity(0))
    for text in cgroup_limits("cpu", "cpu.max"):  # "quota period" in µs, or "max period"; version 2 alone
        quota, _, period = text.partition(" ")
        if quota.isdigit() and period.isdigit():
            count = min(count, int(quota) // int(period))
    return max(1, count)


def reserved_cpus(config: DictConfig) -> int:
    """Ray's CPUs that verl's processes reserve for the whole run, see above."""
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    return units + 1 + RESERVED_FOR_A_GPU * world_size(config)


def check_platform(config: DictConfig) -> None:
    """The requested devices exist, and verl loaded our plugin (it hides its import error)."""
    import torch
    from verl.plugin.platform import get_platform

    trainer = config.trainer
    if trainer.device == "cpu":
        if get_platform().device_name != "cpu":
            raise ValueError(
                "trainer.device='cpu': verl did not load this project's CPU platform; install the project (bash "
                "scripts/install_env.sh) and set VERL_PLATFORM=cpu if this machine has a GPU"
            )
    elif starts_own_ray(config):
        if not torch.cuda.is_available():
            raise ValueError(
                f"trainer.device={trainer.device!r}: no GPU here; use platform=cpu (PLATFORM=cpu in the run script) or "
                "connect to a cluster with RAY_ADDRESS"
            )
        visible = torch.cuda.device_count()  # subject to CUDA_VISIBLE_DEVICES
        if trainer.n_gpus_per_node > visible:
            shown = os.environ.get("CUDA_VISIBLE_DEVICES")
            which = "on this machine" if shown is None else f"with CUDA_VISIBLE_DEVICES={shown}"
            raise ValueError(
                f"trainer.n_gpus_per_node={trainer.n_gpus_per_node}: {visible} visible {which}; set "
                f"GPUS_PER_NODE={visible} in the run script, or connect to a cluster with RAY_ADDRESS"
            )


def check_ray(config: DictConfig) -> None:
    """A private Ray is one machine, with enough CPUs to place every process."""
    ray_init = config.ray_kwargs.ray_init
    if not ray_init.address:
        raise ValueError("RAY_ADDRESS is empty: set it to a Ray cluster's address, or unset it to start a private Ray")
    if not starts_own_ray(config):
        return
    if config.trainer.nnodes > 1:
        raise ValueError(
            f"trainer.nnodes={config.trainer.nnodes}: without RAY_ADDRESS a run has only this machine; set "
            "NUM_NODES=1, or RAY_ADDRESS to a cluster's address (docs/CLUSTER.md)"
        )
    needed = reserved_cpus(config)
    if ray_init.num_cpus is not None and ray_init.num_cpus < needed:
        raise ValueError(
            f"ray_kwargs.ray_init.num_cpus={ray_init.num_cpus}: verl's processes need {needed} (of Ray's count, not "
            "cores), or the run waits forever; set it to null, which fits it to the run"
        )


def check_address(config: DictConfig) -> None:
    """The cluster's address answers: Ray itself would retry for two minutes."""
    address = str(config.ray_kwargs.ray_init.address)
    host, is_pair, port = address.removeprefix("ray://").rpartition(":")
    if not is_pair or not port.isdecimal():
        return  # private, or found by Ray ("auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"RAY_ADDRESS={address}: no answer there ({error}); start the cluster (docs/CLUSTER.md), or unset it "
            "to start a private Ray"
        ) from error


def check_cluster(config: DictConfig, nodes: Sequence[Mapping[str, float]]) -> None:
    """The same for a joined cluster. The bundles of a `trainer.nnodes` stay on one machine (STRICT_PACK).

    Args:
        nodes: Ray's resources of each machine, in use or not (`ray.nodes()`).

    Raises:
        UnfitCluster: one line.
    """
    wanted, gpus, needed = config.trainer.nnodes, config.trainer.n_gpus_per_node, reserved_cpus(config)
    has = f"RAY_ADDRESS={config.ray_kwargs.ray_init.address}: the cluster has"
    room = sum(int(min(node.get("GPU", 0), node.get("CPU", 0) / RESERVED_FOR_A_GPU) // gpus) for node in nodes)
    if room < wanted:
        raise UnfitCluster(
            f"{has} room for {room} of trainer.nnodes={wanted} (each trainer.n_gpus_per_node={gpus} GPUs and "
            f"{RESERVED_FOR_A_GPU * gpus} CPUs of a machine); join more nodes, or start them with more of Ray's CPUs "
            "(ray start --num-cpus, a count and not cores)"
        )
    cpus = sum(node.get("CPU", 0) for node in nodes)
    if cpus < needed:
        raise UnfitCluster(
            f"{has} {cpus:g} CPUs, and verl's processes need {needed}; start a node with more (ray start --num-cpus, a "
            "count and not cores)"
        )


def world_size(config: DictConfig) -> int:
    """Processes that train, one a GPU."""
    return config.trainer.nnodes * config.trainer.n_gpus_per_node
