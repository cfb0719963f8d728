#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Overhead of an agent-loop worker per response: verl's worker against ours.

Both run the same prompts, with the composed configuration of Co-rewarding-I, a tokenizer of 99 characters, an engine
that answers at once and a queue that drops its input, so only the worker's own work is timed: the prompt's tokens, the
loop, the row for the queue. CPU ms a response, medians over alternating repeats; the first of each is left out. The
engine and the real queue cost extra, equally in both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from statistics import median
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("VERL_LOGGING_LEVEL", "ERROR")

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from transformers import LlamaConfig
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.workers.rollout.replica import TokenOutput

from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.agent_loop import AGENT_LOOP
from co_rewarding.training.agent_loop_worker import GroupRewardAgentLoopWorker


class EngineThatAnswersAtOnce:
    def __init__(self, num_tokens: int) -> None:
        self.tokens = [5] * num_tokens

    async def generate(self, **_: Any) -> TokenOutput:
        return TokenOutput(
            token_ids=self.tokens,
            log_probs=[-0.5] * len(self.tokens),
            extra_fields={"global_steps": 1, "min_global_steps": 1, "max_global_steps": 1},
        )


async def drop(**_: Any) -> None:
    pass


def config_for(model: str) -> Any:
    with initialize_config_module("co_rewarding_i.config", version_base=None):
        config = compose(
            "co_rewarding_i",
            overrides=["platform=cpu", f"actor_rollout_ref.model.path={model}", "co_rewarding_run_dir=unused"],
        )
    OmegaConf.resolve(config)
    return config


async def seconds(worker: Any, prompts: int, rollouts: int) -> float:
    columns = {
        "raw_prompt": [[{"role": "user", "content": f"What is {i} + {i}?"}] for i in range(prompts)],
        "uid": [f"uid{i}" for i in range(prompts)],
        "index": list(range(prompts)),
        "agent_name": [AGENT_LOOP] * prompts,
        "__rollout_n__": [rollouts] * prompts,
    }
    batch = TensorDict({name: NonTensorStack(*values) for name, values in columns.items()}, batch_size=prompts)
    batch["global_steps"] = NonTensorStack(*[1] * prompts)
    started = time.process_time()
    await worker.generate_sequences(batch)
    while worker.background_tasks:
        await asyncio.gather(*worker.background_tasks)
    return time.process_time() - started


async def measure(args: argparse.Namespace, model: str) -> None:
    config = config_for(model)
    agent_loop_tq.tq = SimpleNamespace(init=lambda: None, async_kv_put=drop, async_kv_batch_put=drop)
    engine = EngineThatAnswersAtOnce(args.tokens)
    workers = {
        "verl": agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class(config, engine),
        "ours": GroupRewardAgentLoopWorker(config, engine),
    }
    found: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(args.repeats + 1):
        for name, worker in workers.items():
            found[name].append(1000 * await seconds(worker, args.prompts, args.rollouts) / args.prompts / args.rollouts)
    for name, times in found.items():
        times = times[1:]
        print(f"{name:5} {median(times):.3f} ms a response ({min(times):.3f} to {max(times):.3f})")
    ratios = [ours / verl for verl, ours in zip(found["verl"][1:], found["ours"][1:], strict=True)]
    print(f"ours / verl: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--rollouts", type=int, default=8, help="of a prompt; default: %(default)s")
    parser.add_argument("--tokens", type=int, default=300, help="of a response; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as model:
        build_tokenizer().save_pretrained(model)
        LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(model)
        asyncio.run(measure(args, model))


if __name__ == "__main__":
    main()
