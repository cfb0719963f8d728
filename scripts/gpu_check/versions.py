# SPDX-License-Identifier: Apache-2.0
"""Stage "versions": how verl and vLLM identify this machine, and that only the matching plugins are active.

python scripts/gpu_check/versions.py FOLDER gpu|cpu
"""

from __future__ import annotations

import sys
from pathlib import Path

from rows import Rows

PLUGIN = "co_rewarding.cpu.platform"
ENGINE = {"cuda": "TokenStatisticsOnGPU", "cpu": "FSDPEngineOnCPU"}


def main() -> None:
    rows, platform = Rows(Path(sys.argv[1])), sys.argv[2]
    device = {"gpu": "cuda", "cpu": "cpu"}[platform]
    with rows.section("torch"):
        import torch

        if device == "cuda":
            free, total = (number / 2**30 for number in torch.cuda.mem_get_info())
            major, minor = torch.cuda.get_device_capability()
            card = f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}"
            rows.measured("card", f"{card}, {free:.1f} of {total:.1f} GiB free, CUDA {torch.version.cuda}")
        else:
            rows.not_run("card", "rehearsal on the CPU")
    with rows.section("verl"):
        import verl  # noqa: F401 - loads the plugins
        from verl.plugin.platform import get_platform

        loaded = PLUGIN in sys.modules
        import co_rewarding.cpu.platform as plugin

        active, expected = plugin.is_active(), device == "cpu"
        rows.check(
            "the CPU plugin is loaded by verl and active on a CPU alone",
            loaded and active == expected,
            f"{'loaded' if loaded else 'not loaded'}, {'active' if active else 'inactive'}",
        )
        name = get_platform().device_name
        rows.check("platform of verl", name == device, name)
    with rows.section("engine"):
        # as a run imports it (actor_rollout_ref.model.external_lib)
        __import__("co_rewarding.training.engine" if device == "cuda" else "co_rewarding.cpu.engine")
        from verl.workers.engine import EngineRegistry

        name = EngineRegistry.get_engine_cls("language_model", "fsdp2").__name__
        rows.check("engine that verl chooses for the actor", name == ENGINE[device], name)
    with rows.section("vLLM"):
        from vllm.platforms import current_platform

        rows.check("platform of vLLM", current_platform.device_type == device, str(current_platform.device_type))
        if device == "cuda":
            from vllm.v1.attention.backends.fa_utils import get_flash_attn_version

            rows.measured("vLLM's attention", f"FlashAttention {get_flash_attn_version()}")
        else:
            rows.not_run("vLLM's attention", "its own kernels for a CPU")


if __name__ == "__main__":
    main()
