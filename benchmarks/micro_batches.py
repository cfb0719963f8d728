#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cost of a training pass over the same sequences in different micro-batches: padded or packed.

    padded            all sequences at once, padded to the longest of them
    padded N          N sequences at a time
    padded T tokens   in order of length, up to T tokens at a time including padding
    packed T tokens   verl's dynamic micro-batches of about T tokens, the sequences one after another without padding

Each row is the median of several forward and backward passes through verl's FSDP2 engine as this project extends it, on
one process and a Llama or Qwen3 with random weights; variants alternate. On a CPU processor seconds are measured, which
other processes disturb less. The loss is the mean of the log-probabilities. "Padding" is the share of additional tokens
that go through the layers, relative to the sequences' own. That the gradient does not depend on the variant is tested:
tests/training/test_engine.py.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tensordict import TensorDict
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine import EngineRegistry

GPU = torch.cuda.is_available()
clock = time.perf_counter if GPU else time.process_time
SHAPES = {
    # the quickstart's model and its sequences: an exercise spelled out in characters
    "tiny": (
        LlamaConfig(
            vocab_size=128, hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=4096,
        ),
        lambda rng: rng.randint(45, 60) + rng.randint(8, 32),
    ),
    # a tenth of MATH's lengths: most answers short, some as long as allowed
    "small": (
        LlamaConfig(
            vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=4, num_attention_heads=8,
            num_key_value_heads=4, max_position_embeddings=4096,
        ),
        lambda rng: rng.randint(10, 25) + min(307, round(math.exp(rng.gauss(math.log(60), 0.8)))),
    ),
    # for a GPU: a sixth of the layers of Qwen3-4B and MATH's lengths
    "qwen3-4b-sixth": (
        Qwen3Config(
            vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=6, num_attention_heads=32,
            num_key_value_heads=8, head_dim=128, max_position_embeddings=8192,
        ),
        lambda rng: rng.randint(80, 250) + min(3072, round(math.exp(rng.gauss(math.log(600), 0.8)))),
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-4b-sixth" if GPU else "tiny")
    parser.add_argument("--sequences", type=int, default=64, help="of the whole pass (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each variant (default: %(default)s)")
    parser.add_argument("--rows", type=int, nargs="*", default=[4], help="N (default: 4)")
    parser.add_argument("--tokens", type=int, nargs="*", default=[4096], help="T, padded and packed (default: 4096)")
    parser.add_argument("--attention", default="sdpa", help="sdpa, flex_attention, eager, flash_attention_2")
    args = parser.parse_args()
    config, length = SHAPES[args.shape]
    rng = random.Random(0)
    lengths = [length(rng) for _ in range(args.sequences)]
    variants: dict[str, dict[str, Any]] = {"padded": {"micro_batch_size_per_gpu": args.sequences}}
    variants |= {f"padded {rows}": {"micro_batch_size_per_gpu": rows} for rows in args.rows}
    for packed in (False, True):
        for tokens in args.tokens:
            name = f"{'packed' if packed else 'padded'} {tokens} tokens"
            variants[name] = {"use_remove_padding": packed, "max_token_len_per_gpu": tokens, "use_dynamic_bsz": True}
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(config, Path(folder), args.attention)
        rows = [torch.randint(config.vocab_size, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
        found: dict[str, list[tuple[float, int, float]]] = {name: [] for name in variants}
        for _ in range(args.repeats + 1):
            for name, settings in variants.items():
                found[name].append(one_pass(engine, rows, settings))
        torch.distributed.destroy_process_group()
    print(f"{args.shape}, {args.attention}: {len(lengths)} sequences, {sum(lengths)} tokens, longest {max(lengths)}")
    print(f"{'variant':<22}{'seconds':>9}{'ratio':>7}{'µs a token':>12}{'padding':>10}{'peak GiB':>10}")
    base = median(seconds for seconds, _, _ in next(iter(found.values()))[1:])
    for name, passes in found.items():
        seconds = median(seconds for seconds, _, _ in passes[1:])  # the first of each warms up
        print(
            f"{name:<22}{seconds:>9.3f}{seconds / base:>7.2f}{seconds / sum(lengths) * 1e6:>12.1f}"
            f"{passes[0][1] / sum(lengths) - 1:>10.1%}{max(peak for _, _, peak in passes):>10.2f}"
        )


def make_engine(config: Any, folder: Path, attention: str) -> Any:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    backend = "nccl" if GPU else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
    model = HFModelConfig(
        path=str(folder),
        load_tokenizer=False,
        external_lib="co_rewarding.training.engine" if GPU else "co_rewarding.cpu.engine",
        override_config={"attn_implementation": attention},
        enable_gradient_checkpointing=GPU,
    )
    precision = {"param_dtype": "bf16" if GPU else "fp32", "reduce_dtype": "fp32"}
    engine_config = FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, mixed_precision=precision)
    optimizer = FSDPOptimizerConfig(lr=0.0, total_training_steps=1000)
    engine = EngineRegistry.new("language_model", "fsdp2", model, engine_config, optimizer, CheckpointConfig())
    engine.initialize()
    return engine


def one_pass(engine: Any, rows: list[torch.Tensor], settings: dict[str, Any]) -> tuple[float, int, float]:
    """Seconds, tokens that went through the layers, GiB at the peak."""
    nested = {
        "input_ids": rows,
        "position_ids": [torch.arange(len(row)) for row in rows],
        "loss_mask": [torch.ones(len(row)) for row in rows],
    }
    data = TensorDict(
        {key: torch.nested.as_nested_tensor(value, layout=torch.jagged) for key, value in nested.items()},
        batch_size=len(rows),
    )
    padded = {"use_remove_padding": False, "use_dynamic_bsz": False}
    tu.assign_non_tensor(data, temperature=1.0, use_fused_kernels=False, **{**padded, **settings})

    def loss(model_output: dict[str, torch.Tensor], **_: Any) -> tuple[torch.Tensor, dict]:
        # the last position of a sequence has no next token
        own = torch.cat([row[:-1] for row in model_output["log_probs"].unbind()])
        return -own.sum() / sum(map(len, rows)), {}

    if GPU:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    tokens = 0

    def count(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens += inputs["input_ids"].numel()

    hook = engine.module.register_forward_pre_hook(count, with_kwargs=True)
    with engine.train_mode():
        start = clock()
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(data, loss, forward_only=False)
        if GPU:
            torch.cuda.synchronize()
        seconds = clock() - start
        engine.optimizer_step()
    hook.remove()
    return seconds, tokens, torch.cuda.max_memory_allocated() / 2**30 if GPU else 0.0


if __name__ == "__main__":
    main()
