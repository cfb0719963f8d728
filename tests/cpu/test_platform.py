# SPDX-License-Identifier: Apache-2.0
"""The CPU platform: on where there is no accelerator or when asked for, off everywhere else."""

import os
import subprocess
import sys

import pytest
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry, get_platform

from co_rewarding.cpu import platform

on_a_cpu_build = pytest.mark.skipif(
    torch.version.cuda is not None or torch.version.hip is not None, reason="needs a CPU build of torch"
)


@pytest.fixture
def not_asked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    return monkeypatch


def run_python(code: str, **environment: str | None) -> str:
    """stdout of `code` in a fresh interpreter; None removes a variable."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("value", ["cpu", "CPU", " cpu "])
def test_asking_for_it_is_enough(not_asked: pytest.MonkeyPatch, value: str) -> None:
    not_asked.setattr(torch.version, "cuda", "13.0")  # even on a GPU build
    not_asked.setenv("VERL_PLATFORM", value)
    assert platform.is_active()


@pytest.mark.parametrize("value", ["nvidia", "huawei", "rocm"])
def test_asking_for_another_keeps_it_off(not_asked: pytest.MonkeyPatch, value: str) -> None:
    not_asked.setattr(torch.version, "cuda", None)
    not_asked.setattr(torch.version, "hip", None)
    not_asked.setenv("VERL_PLATFORM", value)
    assert not platform.is_active()


def test_a_build_without_accelerator_turns_it_on(not_asked: pytest.MonkeyPatch) -> None:
    not_asked.setattr(torch.version, "cuda", None)
    not_asked.setattr(torch.version, "hip", None)
    assert platform.is_active()


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_no_wish(not_asked: pytest.MonkeyPatch, value: str) -> None:
    not_asked.setenv("VERL_PLATFORM", value)
    not_asked.setattr(torch.version, "cuda", "13.0")
    assert not platform.is_active()


@pytest.mark.parametrize("accelerator", ["cuda", "hip"])
def test_a_gpu_build_stays_off_even_where_no_gpu_is_seen(not_asked: pytest.MonkeyPatch, accelerator: str) -> None:
    # Ray hides the GPUs from the actors that need none; they must not become CPU trainers
    not_asked.setattr(torch.version, accelerator, "13.0")
    not_asked.setattr(torch.cuda, "is_available", lambda: False)
    assert not platform.is_active()


def test_an_npu_build_stays_off(not_asked: pytest.MonkeyPatch) -> None:
    not_asked.setattr(torch.version, "cuda", None)
    not_asked.setattr(torch, "npu", object(), raising=False)
    assert not platform.is_active()


def test_register_does_nothing_where_it_is_not_active(not_asked: pytest.MonkeyPatch) -> None:
    from verl.utils.distributed import initialize_global_process_group_ray

    before, defaults = get_platform(), initialize_global_process_group_ray.__defaults__
    not_asked.setattr(torch.version, "cuda", "13.0")
    not_asked.setattr(platform, "set_platform", lambda _: pytest.fail("selected the CPU platform"))
    platform.register()
    assert get_platform() is before
    assert initialize_global_process_group_ray.__defaults__ == defaults


def test_it_implements_all_that_verl_may_ask() -> None:
    assert PlatformRegistry.get("cpu") is platform.PlatformCPU
    assert not platform.PlatformCPU.__abstractmethods__
    cpu: PlatformBase = platform.PlatformCPU()
    assert cpu.device_name == "cpu"
    assert cpu.communication_backend_name() == "gloo"
    assert cpu.ray_resource_name() == "GPU"
    assert cpu.current_device() == torch.device("cpu")
    assert torch.zeros(1, device=cpu.current_device()).device.type == "cpu"
    assert cpu.device_count() == 1
    assert not cpu.is_ipc_supported()
    with cpu.nvtx_range("a region"):
        pass


def test_seeding_seeds_torch() -> None:
    cpu = platform.PlatformCPU()
    cpu.manual_seed(3)
    first = torch.rand(2)
    cpu.manual_seed_all(3)
    assert torch.equal(first, torch.rand(2))


def test_the_device_module_answers_what_torch_cpu_lacks() -> None:
    module = platform.CPUDeviceModule()
    assert not module.is_available()
    assert module.memory_allocated() == module.max_memory_reserved("cpu") == 0
    assert module.mem_get_info() == (0, 0)
    assert module.get_device_name(0) == "CPU"
    module.empty_cache()
    module.set_device(0)
    module.memory._set_allocator_settings("expandable_segments:True")
    assert module.Stream is torch.cpu.Stream  # the rest is torch.cpu's
    with pytest.raises(AttributeError):
        module.no_such_call  # noqa: B018


@on_a_cpu_build
@pytest.mark.e2e
def test_importing_verl_is_enough() -> None:
    """In a fresh process, as in a Ray worker: nobody of ours is imported by hand."""
    code = """
import verl
from verl.plugin.platform import get_platform
from verl.utils.device import get_device_name, get_torch_device, is_cuda_available
from verl.utils.distributed import initialize_global_process_group_ray as init
import torch
print(type(get_platform()).__name__, get_device_name(), get_torch_device().is_available(), is_cuda_available)
init()  # one process of one: the real call with the default backend
print(torch.distributed.get_backend(), torch.distributed.get_world_size())
value = torch.ones(1); torch.distributed.all_reduce(value); print(value.item())
"""
    out = run_python(
        code, VERL_PLATFORM=None, RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0"
    ).splitlines()
    assert out[-3:] == ["PlatformCPU cpu False False", "gloo 1", "1.0"]


@pytest.mark.e2e
def test_vllm_weights_survive_packing() -> None:
    """One fresh process for all, since vLLM takes long to import: registered twice, wrapped once, weight kept."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    code = """
import torch
from vllm.model_executor.layers import utils
from co_rewarding.cpu import vllm_weights
original = utils.dispatch_cpu_unquantized_gemm
vllm_weights.register(); once = utils.dispatch_cpu_unquantized_gemm
vllm_weights.register(); twice = utils.dispatch_cpu_unquantized_gemm
print("wrapped once:", once is not original, twice is once)
layer, other = torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False)
expected = layer(torch.ones(1, 64))
utils.dispatch_cpu_unquantized_gemm(layer, True)  # as vLLM's linear layers call it
print("kept:", tuple(layer.weight.shape))
print("same result:", torch.allclose(layer.cpu_linear(torch.ones(1, 64), layer.weight, None), expected, atol=1e-5))
original(other, True)
print("without us:", tuple(other.weight.shape))
"""
    out = run_python(code, VERL_PLATFORM="cpu").splitlines()  # vLLM logs to stdout, too
    expected = ["wrapped once: True True", "kept: (64, 64)", "same result: True"]
    assert [line for line in out if line in expected] == expected, out
    # Where oneDNN cannot pack (it depends on the processor), vLLM keeps the weight by itself; otherwise it drops it,
    # which is what this module is for
    assert "without us: (0,)" in out or "without us: (64, 64)" in out, out
