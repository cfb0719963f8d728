# SPDX-License-Identifier: Apache-2.0
"""Which torch this is; without verl, for the tools that use vLLM alone."""


def is_cpu() -> bool:
    """Whether torch was built without an accelerator."""
    import torch

    return torch.version.cuda is None and torch.version.hip is None and not hasattr(torch, "npu")
