# SPDX-License-Identifier: Apache-2.0
"""What a run asks of its machine and of Ray, before Ray. (tests/e2e/test_own_ray.py asks Ray itself.)"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from co_rewarding.training.launch import _prepare_ray
from co_rewarding.training.preflight import machine
from co_rewarding.training.preflight.machine import (
    UnfitCluster,
    cgroup_limits,
    check_address,
    check_cluster,
    check_platform,
    check_ray,
    cores,
    reserved_cpus,
)


@pytest.fixture
def gpus(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """A run for 4 GPUs of this machine, on which torch sees 2."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config.trainer.device, config.trainer.n_gpus_per_node = "cuda", 4
    return config


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """(root, this process' own) of control groups of version 2, without files in them."""
    root, own = tmp_path / "root", tmp_path / "own"
    job = root / "slurm/job_1"
    job.mkdir(parents=True)
    own.write_text("0::/slurm/job_1\n")
    monkeypatch.setattr(machine, "CGROUPS", root)
    monkeypatch.setattr(machine, "OWN_CGROUPS", own)
    return root, job


def joined(config: DictConfig) -> DictConfig:
    """As RAY_ADDRESS makes it (tests/training/test_configs.py)."""
    config.ray_kwargs.ray_init.address = "10.0.0.1:6379"
    return config


def test_a_gpu_platform_without_a_gpu(
    config: DictConfig, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config.trainer.device = "cuda"
    refusal("trainer.device='cuda'", "no GPU here", "platform=cpu")
    check_platform(joined(config))


def test_more_gpus_than_are_visible(gpus: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"n_gpus_per_node=4: 2 visible on this machine; set GPUS_PER_NODE=2 "):
        check_platform(gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with pytest.raises(ValueError, match=r"2 visible with CUDA_VISIBLE_DEVICES=0,3; "):
        check_platform(gpus)
    check_platform(joined(gpus))  # the cluster's may be elsewhere
    gpus.ray_kwargs.ray_init.address, gpus.trainer.n_gpus_per_node = "local", 2
    check_platform(gpus)


def test_a_ray_of_its_own_is_one_machine(config: DictConfig) -> None:
    config.trainer.nnodes = 2
    with pytest.raises(ValueError, match=r"trainer\.nnodes=2: without RAY_ADDRESS .*NUM_NODES=1"):
        check_ray(config)
    check_ray(joined(config))
    config.ray_kwargs.ray_init.address = ""  # RAY_ADDRESS= in a shell
    with pytest.raises(ValueError, match="RAY_ADDRESS is empty"):
        check_ray(config)


def test_the_cpus_of_a_ray_are_counted(config: DictConfig) -> None:
    # verl's own 8 units and one GPU: 8 + 1 + 3; with ours, 4 GPUs on each of 2 nodes: 1 + 1 + 3 x 8
    config.transfer_queue.backend.SimpleStorage.num_data_storage_units = 8
    assert reserved_cpus(config) == 12
    config.ray_kwargs.ray_init.num_cpus = 11
    with pytest.raises(ValueError, match=r"num_cpus=11: verl's processes need 12 .*set it to null"):
        check_ray(config)
    config.ray_kwargs.ray_init.num_cpus = 12
    check_ray(config)
    config.transfer_queue.backend.SimpleStorage.num_data_storage_units = 1
    config.trainer.n_gpus_per_node, config.trainer.nnodes = 4, 2
    assert reserved_cpus(config) == 26


def test_a_cluster_that_is_too_small(config: DictConfig) -> None:
    config.trainer.n_gpus_per_node, config.trainer.nnodes = 2, 2
    # 1 + 1 + 3 x 4
    enough = ([{"CPU": 8, "GPU": 2}, {"CPU": 6, "GPU": 3}], [{"CPU": 14.0, "GPU": 4.0}, {"CPU": 0.0}])
    for nodes in enough:
        check_cluster(joined(config), nodes)
    for nodes in (
        [{"CPU": 90, "GPU": 2}, {"CPU": 90, "GPU": 1}, {"CPU": 90, "GPU": 1}],
        [{"CPU": 90, "GPU": 2}, {"CPU": 5, "GPU": 2}],
        [{"CPU": 90, "GPU": 3}],
    ):
        with pytest.raises(UnfitCluster, match=r"^RAY_ADDRESS=10\.0\.0\.1:6379: .* room for 1 of trainer\.nnodes=2 "):
            check_cluster(config, nodes)
    with pytest.raises(UnfitCluster, match="has 13 CPUs, and verl's processes need 14; "):
        check_cluster(config, [{"CPU": 7, "GPU": 2}, {"CPU": 6, "GPU": 2}])


def test_cores_are_those_this_process_may_use(cgroups: tuple[Path, Path]) -> None:
    here = len(os.sched_getaffinity(0))
    root, job = cgroups
    assert cores() == here  # no container
    for text, expected in (
        ("max 100000\n", here), ("50000 100000\n", 1), ("9900000 100000\n", min(here, 99)), ("", here),
    ):  # fmt: skip
        for folder in (root, job, job.parent):  # a limit binds all below it
            (folder / "cpu.max").write_text(text)
            assert cores() == expected
            (folder / "cpu.max").unlink()


def test_limits_of_a_job(cgroups: tuple[Path, Path]) -> None:
    root, job = cgroups
    (root / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text("4096\n")
    (job / "memory.max").write_text("8192\n")
    (root.parent / "memory.max").write_text("1\n")  # beyond the root
    assert cgroup_limits("memory", "memory.max") == ["8192", "4096", "max"]
    own = root.parent / "own"
    own.write_text("9:name=systemd:/job\n4:memory:/docker/id\n1:cpu,cpuacct:/job\n")  # version 1, the host's path
    (root / "memory").mkdir()
    (root / "memory/memory.limit_in_bytes").write_text("2048\n")
    assert cgroup_limits("memory", "memory.max", "memory.limit_in_bytes") == ["2048"]
    own.unlink()
    assert cgroup_limits("memory", "memory.max") == []


def test_a_ray_of_its_own_is_fitted_to_the_run(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("co_rewarding.training.launch.cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ray_init = config.ray_kwargs.ray_init
    assert ray_init.num_cpus is None
    del ray_init.runtime_env.env_vars.OMP_NUM_THREADS  # of platform=cpu
    config.trainer.n_gpus_per_node = 2
    _prepare_ray(config)
    # 1 + 1 + 3 x 2 reserved, and the cores; 9 cores are 4 for each of 2 ranks
    assert (ray_init.num_cpus, ray_init.runtime_env.env_vars.OMP_NUM_THREADS) == (17, "4")
    check_ray(config)


def test_sizes_that_are_set_stay(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_init = config.ray_kwargs.ray_init
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    ray_init.num_cpus, ray_init.runtime_env.env_vars.OMP_NUM_THREADS = 30, "3"
    _prepare_ray(config)
    assert (ray_init.num_cpus, ray_init.runtime_env.env_vars.OMP_NUM_THREADS) == (30, "3")
    del ray_init.runtime_env.env_vars.OMP_NUM_THREADS
    _prepare_ray(config)
    assert ray_init.runtime_env.env_vars.OMP_NUM_THREADS == "5"  # the environment's, which a cluster would not have


def test_a_cluster_keeps_its_own_sizes(config: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    ray_init = joined(config).ray_kwargs.ray_init
    assert ray_init.num_gpus == 1 and ray_init.object_store_memory  # of platform=cpu; Ray would refuse them
    _prepare_ray(config)
    assert (ray_init.num_cpus, ray_init.num_gpus, ray_init.object_store_memory) == (None, None, None)
    assert "ignored: num_gpus, object_store_memory" in capsys.readouterr().out
    assert OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars.OMP_NUM_THREADS") is not None


def test_a_cluster_where_nobody_answers(config: DictConfig) -> None:
    config.ray_kwargs.ray_init.address = "auto"  # Ray finds it
    check_address(config)
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = head.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            config.ray_kwargs.ray_init.address = address
            check_address(config)
    for address in (f"127.0.0.1:{port}", "127.0.0.1:99999", "no-such-host.invalid:6379"):
        config.ray_kwargs.ray_init.address = address
        with pytest.raises(ValueError, match=f"RAY_ADDRESS={address}: no answer there"):
            check_address(config)
