# SPDX-License-Identifier: Apache-2.0
"""verl's FSDP2 engine registered for device "cpu". Imported by verl through `actor_rollout_ref.model.external_lib`."""

import torch
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


@EngineRegistry.register(model_type="language_model", backend="fsdp2", device="cpu")
class FSDPEngineOnCPU(FSDPEngineWithLMHead):
    """FSDP2 without an offload policy: they are on the CPU already, and pinning memory needs an accelerator."""

    def _build_fsdp_module(self, module: torch.nn.Module) -> torch.nn.Module:
        forward_only, self.engine_config.forward_only = self.engine_config.forward_only, False
        try:
            return super()._build_fsdp_module(module)
        finally:
            self.engine_config.forward_only = forward_only
