# SPDX-License-Identifier: Apache-2.0
"""Private sockets for each run, over which weights reach vLLM.

verl 0.9.1 names them /tmp/rl-colocate-zmq-JOB-replica-R-rank-N.sock, JOB being Ray's number of the job, and removes an
existing one before it binds its own. The first job of every Ray is 01000000, so two runs on one machine, each with a
private Ray, would receive each other's weights. Here the name contains a tag, drawn at the start of a run and passed to
all its processes. Both ends name the socket, so both are replaced (co_rewarding.training.weight_sync_vllm): the sender
in verl's registry, below; the receiver by `engine_kwargs.vllm.worker_extension_cls`, which launch.py sets. Remove this
once verl's names differ between clusters.

Imported with the engine (training.engine), in every process that builds one.
"""

import os

from verl.workers.rollout import base

TAG = "CO_REWARDING_WEIGHT_SYNC_TAG"  # environment variable of every process of a run
SENDER = "co_rewarding.training.weight_sync_vllm.WeightSender"
RECEIVER = "co_rewarding.training.weight_sync_vllm.WeightReceiver"
PREFIX = "ipc:///tmp/rl-colocate-zmq-"  # verl's


def own_socket(address: str) -> str:
    """verl's address of a socket, with this run's tag in it.

    Raises:
        ValueError: verl's socket names have changed.
        KeyError: this process does not belong to one of our runs.
    """
    if not address.startswith(PREFIX):
        raise ValueError(f"{address}: not an address as of verl 0.9.1 ({PREFIX}…)")
    return f"{PREFIX}{os.environ[TAG]}-{address.removeprefix(PREFIX)}"


base._ROLLOUT_REGISTRY["vllm", "async"] = SENDER
