# SPDX-License-Identifier: Apache-2.0
"""A Ray whose workers are forks of the server: Ray itself, without training."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]
CHILD = """
import os, sys, torch

def spawned(pipe):
    pipe.send((os.getppid(), "vllm" in sys.modules, float(torch.ones(300, 300).matmul(torch.ones(300, 300))[0, 0])))
"""
PLACE = """
import os, sys, tempfile, time
from pathlib import Path
from omegaconf import OmegaConf
from co_rewarding.training.forking.start import fork_server

config = OmegaConf.create({
    "trainer": {"device": "cpu"},
    "actor_rollout_ref": {"rollout": {"full_determinism": False}},
    "ray_kwargs": {"ray_init": {
        "address": "local", "num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 10 ** 8,
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "2", "VERL_PLATFORM": "cpu"}},
    }},
})

if __name__ == "__main__":
    with fork_server(config, "co_rewarding.cpu.engine") as server, tempfile.TemporaryDirectory() as folder:
        server.serve_ray(config, Path(folder))
        import ray
        ray.init(**OmegaConf.to_container(config.ray_kwargs.ray_init))

        @ray.remote
        class Worker:
            def look(self):
                import multiprocessing, torch
                from child import spawned
                here, there = multiprocessing.Pipe()
                child = multiprocessing.get_context("spawn").Process(target=spawned, args=(there,))
                child.start()
                found = here.recv()
                child.join()
                product = torch.ones(300, 300).matmul(torch.ones(300, 300))[0, 0]
                return {
                    "parent": os.getppid(), "verl": "verl.trainer.ppo.v1" in sys.modules, "own": os.environ["OWN"],
                    "threads": torch.get_num_threads(), "product": float(product), "child": found, "pid": os.getpid(),
                }

        workers = [Worker.options(runtime_env={"env_vars": {"OWN": str(i)}}).remote() for i in range(2)]
        print([server.pid, ray.get([worker.look.remote() for worker in workers])])
        ray.shutdown()
"""


def test_rays_workers_and_their_children_are_forks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PLACE)
    (tmp_path / "child.py").write_text(CHILD)
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO), str(tmp_path)])},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    lines = [line for line in run.stdout.splitlines() if line.startswith("[") and "parent" in line]
    server, workers = ast.literal_eval(lines[-1])
    assert [worker["own"] for worker in workers] == ["0", "1"]
    assert len({worker["pid"] for worker in workers}) == 2
    for worker in workers:
        assert worker["parent"] == server and worker["verl"] and worker["threads"] == 2
        assert worker["product"] == 300  # 300 products of 1; threads of a matrix product start in a fork, too
        assert worker["child"] == (server, True, 300)
