# SPDX-License-Identifier: Apache-2.0
"""Co-rewarding-II on a Ray cluster of two nodes, which here share one machine, with the scripts for real clusters."""

import os
import secrets
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from e2e_runs import QUESTIONS, REPO, ROLLOUTS, TIMEOUT_S, finish, rows_of, start
from ray._common.utils import get_ray_address_file

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture(scope="module")
def cluster(toy: Path):
    """Environment with which a run joins a cluster of two nodes with a logical device each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    settings = {
        "RAY_PORT": port,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "GPUS_PER_NODE": "1",
        "RAY_NODE_ARGS": "--num-cpus=8 --object-store-memory=200000000",
    }

    def node(*arguments: str) -> subprocess.Popen:
        with (toy / "cluster.log").open("ab") as log:
            return subprocess.Popen(
                ["bash", str(REPO / "recipes/cluster/ray_node.sh"), *arguments],
                env=os.environ | settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    nodes = [node("head"), node("worker", "127.0.0.1")]
    try:
        waiting = node("wait", "127.0.0.1", "2")
        assert waiting.wait(TIMEOUT_S) == 0, (toy / "cluster.log").read_text()[-3000:]
        yield settings | {"RAY_ADDRESS": f"127.0.0.1:{port}", "NUM_NODES": "2"}
    finally:
        for process in reversed(nodes):
            process.send_signal(signal.SIGTERM)  # `ray start --block` ends what it started
        for process in nodes:
            process.wait(60)
        last = Path(get_ray_address_file(None))  # outlives the cluster, and Ray would join it without being asked
        if last.is_file() and last.read_text().endswith(f":{port}"):
            last.unlink()


def test_two_nodes_train_and_save_together(toy: Path, cluster: dict[str, str]) -> None:
    run_dir = toy / "runs/co-rewarding/nodes"
    run = start(
        "II", toy, "nodes", "trainer.total_training_steps=2", "trainer.val_before_train=False",
        f"co_rewarding_run_dir={run_dir}", SAVE_FREQ="2", TEST_FREQ="2", TEACHER_NUM_ROLLOUTS="4",
        **cluster,
    )  # fmt: skip
    assert "Steps: 2 planned, 2 done" in finish(run, toy / "nodes.log", has_own_ray=False)
    rows = rows_of(run_dir / "rollouts/2.jsonl")
    assert [row["voter"] for row in rows].count("student") == QUESTIONS * ROLLOUTS
    assert [row["voter"] for row in rows].count("teacher") == QUESTIONS * 4
    for folder in ("actor", "teacher"):  # a shard from each node
        shards = {path.name for path in (run_dir / f"checkpoints/global_step_2/{folder}").glob("model_world_size_*")}
        assert shards == {f"model_world_size_2_rank_{rank}.pt" for rank in (0, 1)}


def test_a_cluster_that_is_too_small_is_reported_in_one_line(toy: Path, cluster: dict[str, str]) -> None:
    settings = cluster | {"GPUS_PER_NODE": "2"}  # the nodes have one each
    assert start("I", toy, "small", **settings).wait(TIMEOUT_S) == 2
    lines = (toy / "small.log").read_text(errors="replace").splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert f"RAY_ADDRESS={cluster['RAY_ADDRESS']}: the cluster has room for 0 of trainer.nnodes=2" in error
