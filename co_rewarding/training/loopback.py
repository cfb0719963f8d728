# SPDX-License-Identifier: Apache-2.0
"""A run on one machine listens on the loopback interface alone: no other machine can reach its ports.

TransferQueue unpickles what arrives at its ports, vLLM's server answers anybody, and Ray's metrics, gloo and torch's
stores have no password either. Where each takes its address from, in the pinned versions:

    Ray, TransferQueue, verl, vLLM's server   Ray's address of the machine. Ray has a switch for loopback, meant for
                                              systems whose firewall asks; `_node_ip_address="127.0.0.1"` of ray.init
                                              would be turned back into the network's address
    gloo, NCCL                                the interface that is named to them
    vLLM between its processes                unix sockets, and the host that is named to it
    torch's TCPStore                          every interface, whatever its host is called: loopback_store.py

A run that joins a cluster (RAY_ADDRESS) is unchanged. tests/e2e_runs.py checks every socket of every run.
"""

import os

from omegaconf import DictConfig

from co_rewarding.training.preflight.machine import starts_own_ray

ENVIRONMENT = {  # of the process that starts Ray, whose processes inherit it
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "VLLM_HOST_IP": "127.0.0.1",
}


def stay_on_this_machine(config: DictConfig) -> None:
    """Before Ray starts: make a private Ray and everything in it listen on loopback alone."""
    if starts_own_ray(config):
        os.environ.update(ENVIRONMENT)
        # Ray reads its switch when it is imported; in this process Hydra did that, to find the YAML of verl
        from ray._private import ray_constants

        ray_constants.ENABLE_RAY_CLUSTER = False
