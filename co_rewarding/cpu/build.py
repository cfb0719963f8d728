# SPDX-License-Identifier: Apache-2.0
"""The kind of torch build; imports no verl, for the tools that use only vLLM."""


def is_cpu() -> bool:
    """Whether torch was built without an accelerator."""
    import torch

    return torch.version.cuda is None and torch.version.hip is None and not hasattr(torch, "npu")
