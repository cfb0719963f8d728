# SPDX-License-Identifier: Apache-2.0
"""verl on a machine without an accelerator: the adaptations that the real stack needs there.

| adaptation | where | how it is reached |
|---|---|---|
| device "cpu", gloo, process group | `platform.py` | entry point `verl.plugins`: every process that imports verl |
| FSDP2 engine for device "cpu" | `engine.py` | `external_lib` in `training/config/platform/cpu.yaml` |
| weights that stay reloadable in vLLM | `vllm_weights.py` | entry point `vllm.general_plugins`: every vLLM process |
| settings (threads, caches, sizes) | `../training/config/platform/cpu.yaml` | `platform=cpu` on the command line |

With a GPU build of torch none of them is active unless VERL_PLATFORM=cpu is set (`platform.is_active`).
"""
