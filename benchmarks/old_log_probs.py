#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cost of a step's passes through the policy, with a separate pass of the old log-probabilities and with the update's
own.

    two passes   log-probabilities and entropies of all sequences, then verl's loss on them, forward and backward
    one pass     the update with its own, and its kept per-token values for the metrics

Through verl's FSDP2 engine as this project extends it, on one process and a model with random weights; the two
alternate, and the first of each is left out. On a CPU processor seconds are measured, which other processes disturb
less. The gradients are compared, too: the largest difference, relative to the largest gradient. The pass of the KL
term's reference, which a step has in either case, is not counted.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from micro_batches import GPU, SHAPES, clock, make_engine
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPActorConfig
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import response_from_nested

from co_rewarding.training.old_log_probs import SOURCE


def batch(rows: list[torch.Tensor], prompts: list[int], args: argparse.Namespace, **flags: Any) -> TensorDict:
    random_numbers = torch.Generator().manual_seed(0)
    columns = {
        "input_ids": rows,
        "position_ids": [torch.arange(len(row)) for row in rows],
        "prompts": [row[:prompt] for row, prompt in zip(rows, prompts, strict=True)],
        "responses": [row[prompt:] for row, prompt in zip(rows, prompts, strict=True)],
    }
    for name, make in {
        "loss_mask": torch.ones,
        "response_mask": torch.ones,
        "advantages": lambda n: torch.randn(1, generator=random_numbers).expand(n).clone(),
    }.items():
        columns[name] = [make(len(response)) for response in columns["responses"]]
    data = TensorDict(
        {name: torch.nested.as_nested_tensor(values, layout=torch.jagged) for name, values in columns.items()},
        batch_size=len(rows),
    )
    settings = {
        "temperature": 1.0,
        "use_fused_kernels": False,
        "use_remove_padding": GPU,
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": args.tokens,
        "calculate_entropy": False,
        "global_batch_size": len(rows),
    }
    tu.assign_non_tensor(data, **{**settings, **flags})
    return data


def step(engine: Any, one_pass: bool, loss: Any, make: Any) -> tuple[float, list[torch.Tensor]]:
    """Seconds, and the gradients."""
    if GPU:
        torch.cuda.synchronize()
    started = clock()
    data = make(**{SOURCE: "this_update"} if one_pass else {})
    if not one_pass:
        with engine.eval_mode():
            found = engine.infer_batch(make(calculate_entropy=True))["model_output"]
        data["old_log_probs"] = response_from_nested(found["log_probs"].cpu(), data["response_mask"])
    with engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(data, loss)
        if GPU:
            torch.cuda.synchronize()
        seconds = clock() - started
        gradients = [parameter.grad.full_tensor().clone() for parameter in engine.module.parameters()]
    if one_pass:
        started = clock()
        with engine.eval_mode():
            engine.infer_batch(make(**{SOURCE: "last_update"}))
        seconds += clock() - started
    return seconds, gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-4b-sixth" if GPU else "tiny")
    parser.add_argument("--sequences", type=int, default=64, help="of a step (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=4096, help="of a micro-batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="of each (default: %(default)s)")
    args = parser.parse_args()
    config, length = SHAPES[args.shape]
    rng = random.Random(0)
    lengths = [length(rng) for _ in range(args.sequences)]
    prompts = [max(1, n // 4) for n in lengths]
    rows = [torch.randint(config.vocab_size, (n,), generator=torch.Generator().manual_seed(n)) for n in lengths]
    actor = FSDPActorConfig(
        strategy="fsdp2", rollout_n=1, ppo_micro_batch_size_per_gpu=1, loss_agg_mode="seq-mean-token-mean"
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine(config, Path(folder), "sdpa")
        take = partial(step, engine, loss=partial(ppo_loss, actor), make=partial(batch, rows, prompts, args))
        found: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(args.repeats + 1):
            gradients = {}
            for one_pass, times in found.items():
                seconds, gradients[one_pass] = take(one_pass)
                times.append(seconds)
        torch.distributed.destroy_process_group()
    for one_pass, name in ((False, "two passes"), (True, "one pass")):
        times = found[one_pass][1:]
        print(f"{name:<12}{median(times):>8.3f} s ({min(times):.3f} to {max(times):.3f})")
    ratios = [one / two for two, one in zip(found[False][1:], found[True][1:], strict=True)]
    print(f"one / two: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    largest = max(float(gradient.abs().max()) for gradient in gradients[False])
    differences = [float((a - b).abs().max()) for a, b in zip(*gradients.values(), strict=True)]
    print(f"gradients differ by {max(differences) / largest:.1e} of the largest")


if __name__ == "__main__":
    main()
