# SPDX-License-Identifier: Apache-2.0
"""What Ray itself says to the numbers and names by which a run gets a Ray of its own: Ray, without training."""

import os
import subprocess
import sys

import pytest
from omegaconf import DictConfig

from co_rewarding.training.launch import _prepare_weight_sync
from co_rewarding.training.preflight.machine import reserved_cpus
from co_rewarding.training.weight_sync import TAG

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# verl's own pool and TransferQueue's own start; then actors like all the others, which reserve nothing
PLACE = """
import os, sys, threading, ray, transfer_queue
from omegaconf import OmegaConf
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from verl.single_controller.ray.base import ResourcePoolManager

@ray.remote
class Other:
    def where(self):
        return "placed"

cpus, gpus, units = map(int, sys.argv[1:])
ray.init(address="local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, object_store_memory=100_000_000)

transfer_queue.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": units}}}))
manager = ResourcePoolManager({"pool": [gpus]}, {})
manager.create_resource_pool()
pool = manager.resource_pool_dict["pool"]
thread = threading.Thread(target=pool.get_placement_groups, kwargs={"device_name": "cpu"}, daemon=True)
thread.start()  # it would wait for ever
thread.join(30)
if thread.is_alive():
    print("waits, free:", ray.available_resources().get("CPU", 0), flush=True)
else:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    others = [Other.options(scheduling_strategy=strategy).remote() for strategy in ("DEFAULT", "SPREAD", here)]
    print(*ray.get([other.where.remote() for other in others]), flush=True)
ray.shutdown()
os._exit(0)
"""

# the trainer's end of the socket, in a worker of a private Ray's first job
NAME = """
import os, ray
from types import SimpleNamespace

@ray.remote
class Trainer:
    def socket(self):
        from co_rewarding.training.weight_sync_vllm import WeightSender
        os.environ.update(RANK="0", RAY_LOCAL_WORLD_SIZE="1")
        sizes = dict(tensor_model_parallel_size=1, data_parallel_size=1, pipeline_model_parallel_size=1)
        return WeightSender(SimpleNamespace(layered_summon=False, **sizes), None, None).zmq_handle

tag = os.environ.pop("TAG")
ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100_000_000,
         runtime_env={"env_vars": {"CO_REWARDING_WEIGHT_SYNC_TAG": tag}})
socket = ray.get(Trainer.remote().socket.remote())
print(ray.get_runtime_context().get_job_id(), socket, flush=True)
input()
"""


def python(code: str, *arguments: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=os.environ | environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("gpus", "units"), [(1, 1), (2, 3)])
def test_every_process_is_placed_with_the_cpus_we_count_and_not_with_one_less(
    config: DictConfig, gpus: int, units: int
) -> None:
    config.trainer.n_gpus_per_node = gpus
    config.transfer_queue.backend.SimpleStorage.num_data_storage_units = units
    needed = reserved_cpus(config)
    # with one less the units and the controller have theirs, and the workers' bundles wait with all but one of theirs
    for cpus, said in ((needed, "placed placed placed"), (needed - 1, f"waits, free: {3 * gpus - 1}.0")):
        out, _ = python(PLACE, cpus, gpus, units).communicate(timeout=300)
        assert out.splitlines()[-1] == said, f"{cpus} CPUs"


def test_two_runs_at_once_have_the_same_job_and_not_the_same_socket(config: DictConfig) -> None:
    runs = []
    for _ in range(2):
        _prepare_weight_sync(config)
        runs.append(python(NAME, TAG=config.ray_kwargs.ray_init.runtime_env.env_vars[TAG]))
    try:  # between the lines that Ray passes on; both are alive
        lines = [next(line for line in run.stdout if ".sock" in line) for run in runs]
        (job, socket), (other_job, other_socket) = (line.split() for line in lines)
    finally:
        for run in runs:
            run.communicate("\n", timeout=120)
    assert job == other_job == "01000000"
    assert socket.endswith(f"{job}-replica-0-rank-0.sock") and other_socket.endswith(f"{job}-replica-0-rank-0.sock")
    assert socket != other_socket
