# SPDX-License-Identifier: Apache-2.0
"""A run of one machine and the network. (tests/e2e_runs.py looks at the sockets of real runs.)"""

import os
import socket
import subprocess
import sys

import psutil
import pytest
from omegaconf import DictConfig
from ray._private import ray_constants
from torch.distributed import rendezvous

from co_rewarding.training import loopback
from co_rewarding.training.loopback_store import LoopbackStore


def listening() -> set[str]:
    return {
        connection.laddr.ip
        for connection in psutil.Process().net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:{}", "tcp://localhost:{}", "tcp://localhost:{}?use_libuv=0"])
def test_a_store_on_loopback_cannot_be_reached_from_elsewhere(url: str) -> None:
    before = listening()
    store, rank, world_size = next(rendezvous(url.format(free_port()), rank=0, world_size=1))
    assert isinstance(store, LoopbackStore)
    assert listening() - before <= {"127.0.0.1"}
    store.set("key", "value")
    other = LoopbackStore(store.host, store.port, is_master=False)  # as another rank's
    assert other.get("key") == b"value" and (rank, world_size) == (0, 1)


def test_a_store_for_several_machines_is_torchs() -> None:
    before = listening()
    store = LoopbackStore("0.0.0.0", free_port(), is_master=True, wait_for_workers=False)
    assert listening() - before == {"::"}, store


# what Ray takes for the address of its machine, here and in a process of this one; Hydra has imported Ray by then
ADDRESS = """
import subprocess, sys
import ray
from omegaconf import OmegaConf
from co_rewarding.training import launch
launch.stay_on_this_machine(OmegaConf.create({"ray_kwargs": {"ray_init": {"address": sys.argv[1]}}}))
print(ray._private.services.get_node_ip_address(), flush=True)
subprocess.run([sys.executable, "-c", "import ray; print(ray._private.services.get_node_ip_address())"], check=True)
"""


@pytest.mark.e2e  # imports verl and Ray in processes of its own: 10 s each
@pytest.mark.parametrize(("address", "is_loopback"), [("local", True), ("192.0.2.1:6379", False)])
def test_rays_address_is_loopback_unless_a_cluster_is_joined(address: str, is_loopback: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in loopback.ENVIRONMENT}
    found = subprocess.run(
        [sys.executable, "-c", ADDRESS, address], capture_output=True, text=True, env=environment, check=True
    )
    if is_loopback:
        assert found.stdout.split() == ["127.0.0.1", "127.0.0.1"]
    else:  # a machine without a network has no other one
        expected = subprocess.run(
            [sys.executable, "-c", "import ray; print(ray._private.services.get_node_ip_address())"],
            capture_output=True, text=True, env=environment, check=True,
        )  # fmt: skip
        assert found.stdout == 2 * expected.stdout


def test_a_cluster_keeps_the_interfaces_that_its_users_set(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"NCCL_SOCKET_IFNAME": "eth1"})
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)  # put back after the test
    config.ray_kwargs.ray_init.address = "192.0.2.1:6379"
    loopback.stay_on_this_machine(config)
    assert os.environ == {"NCCL_SOCKET_IFNAME": "eth1"} and ray_constants.ENABLE_RAY_CLUSTER
    config.ray_kwargs.ray_init.address = "local"
    loopback.stay_on_this_machine(config)
    assert os.environ["NCCL_SOCKET_IFNAME"] == "lo"
