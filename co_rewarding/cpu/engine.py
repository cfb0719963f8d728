# SPDX-License-Identifier: Apache-2.0
"""The FSDP2 engine for device "cpu", which verl lacks. Imported by verl through
`actor_rollout_ref.model.external_lib`."""

import torch
from verl.workers.engine import EngineRegistry

from co_rewarding.training.engine import TokenStatisticsEngine


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class FSDPEngineOnCPU(TokenStatisticsEngine):
    """FSDP2 without an offload policy: parameters are on the CPU already, and pinning memory needs an accelerator."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        forward_only, self.engine_config.forward_only = self.engine_config.forward_only, False
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config.forward_only = forward_only
