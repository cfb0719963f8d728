# SPDX-License-Identifier: Apache-2.0
"""The platform "cpu" for verl 0.9.1: torch on the CPU, gloo, and Ray's "GPU" as a logical resource.

verl picks a platform by probing the registered ones, and knows nvidia, npu and rocm. `register()` is the `verl.plugins`
entry point: it adds "cpu" and selects it if `is_active()`. verl hides plugin errors at debug level, so a run checks
that this one was loaded (`co_rewarding.training.preflight`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry, set_platform

from co_rewarding.cpu.build import is_cpu


def is_active() -> bool:
    """True if verl must run on the CPU: VERL_PLATFORM=cpu is set, or torch was built without an accelerator.

    The test is the build and not `torch.cuda.is_available()`: on a GPU cluster Ray hides the GPUs from actors that need
    none, and those must stay on verl's own platform.
    """
    asked_for = os.environ.get("VERL_PLATFORM", "").strip().lower()
    if asked_for:
        return asked_for == "cpu"
    return is_cpu()


def _zero(*_args: Any, **_kwargs: Any) -> int:
    return 0


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    return None


class CPUDeviceModule:
    """`torch.cpu` plus the calls of an accelerator's module that verl makes and that `torch.cpu` lacks.

    Memory figures are 0 because the CPU has no allocator statistics: verl's metrics perf/max_memory_* mean nothing
    here; read perf/cpu_memory_used_gb.
    """

    memory = SimpleNamespace(_set_allocator_settings=_nothing, _record_memory_history=_nothing)
    memory_allocated = memory_reserved = max_memory_allocated = max_memory_reserved = staticmethod(_zero)
    reset_peak_memory_stats = empty_cache = ipc_collect = set_device = manual_seed = manual_seed_all = staticmethod(
        _nothing
    )

    # verl restores a checkpoint's random state through the device module
    get_rng_state = staticmethod(torch.get_rng_state)
    set_rng_state = staticmethod(torch.set_rng_state)

    def is_available(self) -> bool:
        return False  # verl calls this to learn whether it may use accelerator-only calls

    def device_count(self) -> int:
        return 1

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_name(self, *_args: Any) -> str:
        return "CPU"

    def mem_get_info(self, *_args: Any) -> tuple[int, int]:
        return 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """verl's view of a machine without an accelerator. Method meanings: `verl.plugin.platform.PlatformBase`."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = CPUDeviceModule()

    def is_available(self) -> bool:
        return is_active()

    def current_device(self) -> torch.device:  # verl passes it to FSDP2 and to `tensor.to`: "cpu" has no index
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # set by Ray for its resource "GPU"; not read elsewhere here

    def ray_resource_name(self) -> str:
        return "GPU"  # verl's resource check knows GPU and NPU only; `ray_init.num_gpus` declares how many

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights travel to vLLM through shared memory

    def get_device_uuid(self, device_id: int) -> str:
        return f"cpu-{device_id}"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def cudart(self) -> None:
        return None


def register() -> None:
    """Select the platform in this process (no-op where `is_active()` is False)."""
    if not is_active():
        return
    set_platform(PlatformCPU())
    # verl 0.9.1 builds the backend string "cpu:gloo,<device>:<backend>", which would contain the device "cpu" twice,
    # an error in torch. The function takes a ready string as its last argument: change that default, in place, so that
    # modules which imported the function by name get it too. Remove this once verl skips its prefix for device "cpu".
    from verl.utils.distributed import initialize_global_process_group_ray

    initialize_global_process_group_ray.__defaults__ = (None, "gloo")


register()
