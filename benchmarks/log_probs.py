#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cost of a token's log-probability: ours, in chunks, against verl's without flash-attn, token by token.

Median µs a token of several passes over random logits, without and with the gradient, alternating. On a CPU processor
seconds are measured, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from verl.utils.torch_functional import logprobs_from_logits_v2

from co_rewarding.algo.token_statistics import token_statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
clock = time.perf_counter if DEVICE == "cuda" else time.process_time


def ours(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return token_statistics(logits, names=["log_probs"], labels_T=labels)["log_probs"]


def seconds(function: Callable[..., torch.Tensor], logits: torch.Tensor, labels: torch.Tensor, grad: bool) -> float:
    logits = logits.clone().requires_grad_(grad)
    start = clock()
    log_probs = function(logits, labels)
    if grad:
        log_probs.sum().backward()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096, help="default: %(default)s")
    parser.add_argument(
        "--vocabulary", type=int, default=151936 if DEVICE == "cuda" else 100, help="default: %(default)s"
    )
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    random = torch.Generator(DEVICE).manual_seed(0)
    logits = torch.randn(args.tokens, args.vocabulary, generator=random, device=DEVICE, dtype=dtype)
    labels = torch.randint(args.vocabulary, (args.tokens,), generator=random, device=DEVICE)
    kinds = {"verl's, token by token": logprobs_from_logits_v2, "ours, in chunks": ours}
    off = float((ours(logits, labels) - logprobs_from_logits_v2(logits.float(), labels)).abs().max())
    print(f"{args.tokens} tokens x {args.vocabulary}, {DEVICE}; the two differ by at most {off:.1e}")
    for grad in (False, True):
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(args.repeats + 1):
            for name, function in kinds.items():
                found[name].append(seconds(function, logits, labels, grad))
        for name, taken in found.items():
            each = median(taken[1:]) / args.tokens * 1e6  # the first of each warms up
            print(f"{name:<26}{'with its gradient' if grad else 'forward':<20}{each:>10.2f} µs a token")


if __name__ == "__main__":
    main()
