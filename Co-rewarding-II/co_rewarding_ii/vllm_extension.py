# SPDX-License-Identifier: Apache-2.0
"""How vLLM's workers load a message with the adapters of student and teacher (adapters.py)."""

from typing import Any

import torch
from verl.utils.vllm import TensorLoRARequest

from co_rewarding.training.weight_sync_vllm import WeightReceiver
from co_rewarding_ii.adapters import TEACHER, TEACHER_ID, split


class TwoAdapters(WeightReceiver):
    """Overrides of verl 0.9.1: `_update_weights`, which adds an adapter once it is complete."""

    def _update_weights(
        self, weights: list[tuple[str, torch.Tensor]], peft_config: dict[str, Any] | None, base_sync_done: bool
    ) -> None:
        if not (peft_config and base_sync_done):  # the base model's weights
            super()._update_weights(weights, peft_config, base_sync_done)
            return
        student, teacher = split(weights)
        super()._update_weights(student, peft_config, base_sync_done)
        if teacher:
            self.remove_lora(TEACHER_ID)
            # verl frees the message's memory
            tensors = {name: tensor.clone() for name, tensor in teacher}
            self.add_lora(
                TensorLoRARequest(
                    lora_name=TEACHER,
                    lora_int_id=TEACHER_ID,
                    lora_path=TEACHER,
                    peft_config=peft_config,
                    lora_tensors=tensors,
                )
            )
