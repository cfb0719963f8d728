#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rewriting with all questions submitted to vLLM at once, against fixed batches, each waiting for its slowest.

Fixed batches have two sizes: --batch_size, and the engine's number of concurrent requests on a CPU (64), its width when
it has all. Against the latter only the waiting is saved; against smaller ones the width counts too.

All ways run in one process on the same engine and questions, in turns (all, fixed, wide, wide, fixed, all, …) after a
warm-up; printed are responses a second of each turn, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER, Markers
from co_rewarding.tools.generation.engine import LocalOptions, Request, Sampling
from co_rewarding.tools.generation.vllm_engine import NUM_SEQS_ON_CPU, VLLMEngine, prompt_ids
from co_rewarding.tools.rephrase.instruction import Instruction
from co_rewarding.tools.rephrase.table import Questions


def seconds_of(engine: VLLMEngine, requests: list[Request], batch_size: int) -> float:
    """Seconds until all are answered, `batch_size` at a time."""
    started = time.monotonic()
    for first in range(0, len(requests), batch_size):
        for request in requests[first : first + batch_size]:
            engine.submit(request)
        while engine.collect():
            pass
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_path", required=True)
    parser.add_argument("--tokenizer_path", help="(default: the model's)")
    parser.add_argument("--input_path", required=True, type=Path, help="parquet in verl's schema")
    parser.add_argument("--instruction_file", type=Path)
    parser.add_argument("--begin_marker", default=BEGIN_MARKER)
    parser.add_argument("--end_marker", default=END_MARKER)
    parser.add_argument("--num_questions", type=int, default=64, help="the first of the file (default 64)")
    parser.add_argument("--batch_size", type=int, default=16, help="of the fixed batches (default 16)")
    parser.add_argument("--max_tokens", type=int, default=256, help="of a response (default 256)")
    parser.add_argument("--turns", type=int, default=3, help="of each way (default 3)")
    parser.add_argument("--kv_cache_mb", type=int, default=1024, help="on a CPU (default 1024)")
    args = parser.parse_args()
    try:
        instruction = Instruction.from_file(args.instruction_file, Markers(args.begin_marker, args.end_marker))
        questions = Questions(args.input_path, "prompt", args.num_questions).questions_P
        sampling = Sampling(max_tokens=args.max_tokens)
        requests = [Request((row,), instruction.messages(text), sampling) for row, text in enumerate(questions)]
        engine = VLLMEngine(
            args.model_path,
            LocalOptions(kv_cache_mb=args.kv_cache_mb),
            lambda tokenizer: max(len(prompt_ids(tokenizer, r.messages)) for r in requests) + args.max_tokens,
            tokenizer=args.tokenizer_path or "",
        )
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    fixed = {f"batches of {size}": size for size in (args.batch_size, NUM_SEQS_ON_CPU)}
    sizes = {"all at once": len(requests)} | fixed
    rates: dict[str, list[float]] = {way: [] for way in sizes}
    try:
        seconds_of(engine, requests[: 2 * args.batch_size], len(requests))
        for turn in range(args.turns):
            for way in list(sizes)[:: 1 if turn % 2 == 0 else -1]:
                rates[way].append(len(requests) / seconds_of(engine, requests, sizes[way]))
                print(f"{way}: {rates[way][-1]:.2f} responses/s", flush=True)
    finally:
        engine.close()
    found = {way: median(rates[way]) for way in sizes}
    at_once = found.pop("all at once")
    print(f"{len(requests)} questions, median of {args.turns} turns: {at_once:.2f} responses/s all at once")
    for way, rate in found.items():
        print(f"against {way}: {rate:.2f} responses/s, {at_once / rate:.2f} times")


if __name__ == "__main__":
    main()
