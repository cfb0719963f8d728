# SPDX-License-Identifier: Apache-2.0
"""verl's own FSDP2 engine, forward only, on a tiny model of random weights, and what it computes of three sequences."""

from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from transformers import LlamaConfig, LlamaForCausalLM
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, HFModelConfig
from verl.workers.engine import EngineRegistry

VOCABULARY, LENGTHS = 40, (7, 3, 9)


def save_model(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def engine(path: Path, **lora: Any) -> Any:
    """Of the model in the folder; `lora`: fields of verl's model configuration."""
    model = HFModelConfig(
        path=str(path), load_tokenizer=False, external_lib="co_rewarding.cpu.engine",
        override_config={"attn_implementation": "sdpa"}, enable_gradient_checkpointing=False, **lora,
    )  # fmt: skip
    made = EngineRegistry.new(
        "language_model", "fsdp2", model,
        FSDPEngineConfig(strategy="fsdp2", forward_only=True, use_torch_compile=False,
                         mixed_precision={"param_dtype": "fp32", "reduce_dtype": "fp32"}),
        None, CheckpointConfig(),
    )  # fmt: skip
    made.initialize()
    return made


def log_probs(made: Any) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    rows = [torch.randint(VOCABULARY, (length,), generator=random) for length in LENGTHS]
    nested = lambda values: torch.nested.as_nested_tensor(values, layout=torch.jagged)  # noqa: E731
    data = TensorDict(
        {
            "input_ids": nested(rows),
            "position_ids": nested([torch.arange(len(row)) for row in rows]),
            "loss_mask": nested([torch.ones(len(row)) for row in rows]),
        },
        batch_size=len(rows),
    )
    tu.assign_non_tensor(
        data, calculate_entropy=False, compute_loss=False, temperature=1.0, use_remove_padding=False,
        use_dynamic_bsz=False, micro_batch_size_per_gpu=3, use_fused_kernels=False,
    )  # fmt: skip
    with made.eval_mode():
        return made.infer_batch(data)["model_output"]["log_probs"].values().clone()
