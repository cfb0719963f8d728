# SPDX-License-Identifier: Apache-2.0
"""Our agent-loop worker against verl's: the same rows for the queue, with an engine that answers what it is told to."""

import asyncio
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tensordict import NonTensorStack, TensorDict
from transformers import LlamaConfig
from verl.experimental.agent_loop.single_turn_agent_loop import SingleTurnAgentLoop
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.workers.rollout.replica import TokenOutput

from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.agent_loop import AGENT_LOOP, NUM_ROLLOUTS, SAMPLING
from co_rewarding.training.agent_loop_worker import GroupRewardAgentLoopWorker

VERLS = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class


class Engine:
    """Answers each prompt with its own tokens; keeps the sampling parameters."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def generate(self, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any) -> TokenOutput:
        self.asked.append(sampling_params)
        await asyncio.sleep(0)
        steps = {"global_steps": 3, "min_global_steps": 3, "max_global_steps": 3}
        return TokenOutput(token_ids=prompt_ids[-4:], log_probs=[-0.5] * 4, extra_fields=steps)


class Queue:
    """What a worker does with verl's queue: rows and tags, by key."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.tags: dict[str, Any] = {}

    def init(self) -> None: ...

    async def async_kv_put(self, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        self.tags[key] = tag

    async def async_kv_batch_put(self, keys: list[str], fields: TensorDict, tags: list, partition_id: str) -> None:
        for i, key in enumerate(keys):
            self.rows[key] = {name: value.data for name, value in fields[i].items()}  # plain, or a tensor
            self.tags[key] = tags[i]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    build_tokenizer().save_pretrained(path)
    LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(path)
    return path


@pytest.fixture
def worker_config(composed_sample: bytes, model_dir: Path) -> Any:
    config = pickle.loads(composed_sample)
    config.actor_rollout_ref.model.path = str(model_dir)
    config.actor_rollout_ref.rollout.temperature = 1.0
    OmegaConf.resolve(config)
    return config


def answer(worker: Any, queue: Queue, monkeypatch: pytest.MonkeyPatch, rows: int = 3, **more_columns: list) -> None:
    """Let the worker answer so many prompts, two rollouts each."""
    monkeypatch.setattr(agent_loop_tq, "tq", queue)
    columns = {
        "raw_prompt": [[{"role": "user", "content": f"{i}+{i + 1}="}] for i in range(rows)],
        "uid": [f"uid{i}" for i in range(rows)],
        "index": list(range(rows)),
        "agent_name": [AGENT_LOOP] * rows,
        NUM_ROLLOUTS: [2] * rows,
        **more_columns,
    }
    batch = TensorDict({name: NonTensorStack(*values) for name, values in columns.items()}, batch_size=rows)
    batch["global_steps"] = NonTensorStack(*[3] * rows)

    async def run() -> None:
        await worker.generate_sequences(batch)
        while worker.background_tasks:
            await asyncio.gather(*worker.background_tasks)

    asyncio.run(run())


@pytest.fixture
def make(worker_config: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(cls: type, client: Any) -> tuple[Any, Queue]:
        queue = Queue()
        monkeypatch.setattr(agent_loop_tq, "tq", queue)
        return cls(worker_config, client), queue

    return of


def test_the_rows_are_verls(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    queues, engines = {}, {}
    for cls in (VERLS, GroupRewardAgentLoopWorker):
        engines[cls] = Engine()
        worker, queues[cls] = make(cls, engines[cls])
        answer(worker, queues[cls], monkeypatch, **{SAMPLING: [{}, {"temperature": 0.7}, {}]})
    theirs, ours = queues.values()
    assert set(ours.rows) == {f"uid{i}_{rollout}_0" for i in range(3) for rollout in range(2)}
    assert ours.tags == theirs.tags and ours.tags["uid1"] == {"status": "finished"}
    for key, row in ours.rows.items():
        assert row.keys() == theirs.rows[key].keys()
        for name, value in row.items():
            other = theirs.rows[key][name]
            if name == "metrics":  # seconds of the answer
                continue
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
    for engine in engines.values():
        assert sorted(asked["temperature"] for asked in engine.asked) == [0.7, 0.7, 1.0, 1.0, 1.0, 1.0]


def test_one_loop_serves_all_responses(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(SingleTurnAgentLoop, "__init__", counting(SingleTurnAgentLoop.__init__, made))
    worker, queue = make(GroupRewardAgentLoopWorker, Engine())
    for _ in range(2):
        answer(worker, queue, monkeypatch)
    assert len(made) == 1
    answer(worker, queue, monkeypatch, agent_name=["single_turn_agent"] * 3)  # validation's rows: verl's own way
    assert len(made) == 1 + 6


def counting(method: Any, calls: list) -> Any:
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return method(*args, **kwargs)

    return counted


def test_a_response_that_fails_is_verls_failure(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(**_: Any) -> TokenOutput:
        raise RuntimeError("the engine is gone")

    worker, queue = make(GroupRewardAgentLoopWorker, SimpleNamespace(generate=refuse))
    answer(worker, queue, monkeypatch)
    assert queue.rows == {} and {tag["status"] for tag in queue.tags.values()} == {"failure"}
