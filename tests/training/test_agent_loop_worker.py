# SPDX-License-Identifier: Apache-2.0
"""Our agent-loop worker against verl's: the same rows for the queue, with an engine that answers what it is told to;
and votes that stop the rest of their rollouts, through our client, with a server that does as it is told."""

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

from co_rewarding.storage.stated_as import ANSWER_FORMAT, CHOICES
from co_rewarding.tools.quickstart.tiny_model import build_tokenizer
from co_rewarding.training.agent_loop import AGENT_LOOP, NUM_ROLLOUTS, SAMPLING, STOP_DECIDED
from co_rewarding.training.agent_loop_worker import GroupRewardAgentLoopWorker
from co_rewarding.training.rollout_io import STATED_AS, STOPPED
from co_rewarding.training.stoppable import Group, StoppableClient, requests_of, stop

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


class Remote:
    """A method of a Ray actor."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def remote(self, *args: Any, **kwargs: Any) -> asyncio.Future:
        return asyncio.ensure_future(self.method(*args, **kwargs))


class Server:
    """A rollout server that is told what to answer, request by request; None: nothing, until it is stopped."""

    def __init__(self, tokenizer: Any, texts: list[str | None]) -> None:
        self.tokenizer, self.texts = tokenizer, iter(texts)
        self.under_way: dict[str, asyncio.Future] = {}
        self.generate, self.abort_request = Remote(self._generate), Remote(self._abort)

    async def _generate(self, request_id: str, **_: Any) -> TokenOutput:
        steps = {"global_steps": 3}
        if (text := next(self.texts)) is not None:
            return TokenOutput(token_ids=self.tokenizer.encode(text), stop_reason="completed", extra_fields=steps)
        self.under_way[request_id] = asyncio.get_running_loop().create_future()
        written = await asyncio.wait_for(self.under_way[request_id], timeout=20)
        return TokenOutput(token_ids=self.tokenizer.encode(written), stop_reason="aborted", extra_fields=steps)

    async def _abort(self, request_id: str) -> None:
        self.under_way.pop(request_id).set_result(r"\boxed{9")


class LoadBalancer:
    def __init__(self, server: Server) -> None:
        self.server, self.released = server, []
        self.acquire_server = Remote(self._acquire)
        self.require_acquire_fields = self.require_release_fields = Remote(self._nothing)
        self.release_server = SimpleNamespace(remote=lambda **given: self.released.append(given))

    async def _acquire(self, request_id: str) -> tuple[str, Server]:
        return "server", self.server

    async def _nothing(self) -> list[str]:
        return []


BOXED = [r"\boxed{7}"] * 3


@pytest.fixture
def asked(make: Any, monkeypatch: pytest.MonkeyPatch, worker_config: Any) -> Any:
    """A function that asks one prompt whose rollouts end as told; returns the rows and what is under way at the end."""

    def ask(texts: list[str | None], stop: bool = True, answer_format: str = "") -> tuple[list[dict], Server]:
        server = Server(build_tokenizer(), texts)
        client = StoppableClient(worker_config, LoadBalancer(server))
        worker, queue = make(GroupRewardAgentLoopWorker, client)
        stated = {ANSWER_FORMAT: answer_format, CHOICES: []}
        answer(
            worker,
            queue,
            monkeypatch,
            rows=1,
            **{NUM_ROLLOUTS: [len(texts)], STOP_DECIDED: [stop], STATED_AS: [stated]},
        )
        assert queue.tags["uid0"] == {"status": "finished"}
        assert len(client._load_balancer.released) == len(texts)
        return list(queue.rows.values()), server

    return ask


def test_a_decided_vote_stops_the_other_rollouts(asked: Any) -> None:
    rows, server = asked([*BOXED, None, None])
    texts = {True: [], False: []}
    for row in rows:
        texts[row[STOPPED]].append(server.tokenizer.decode(row["responses"], skip_special_tokens=True))
    assert texts[False] == BOXED
    # one that had not been sent yet has a token that is skipped: verl's reward needs one
    assert len(texts[True]) == 2 and set(texts[True]) <= {r"\boxed{9", ""}
    assert server.under_way == {}
    assert all(len(row["responses"]) == len(row["response_mask"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("texts", "stop", "answer_format"),
    [
        ([*BOXED, r"\boxed{8}", r"\boxed{9}"], False, ""),  # not asked for
        ([*BOXED, r"\boxed{8}", "12", "8+1="], True, ""),  # half is not enough
        ([r"\boxed{7}", r"\boxed{\frac{14}{2}}", r"\boxed{7}", "7"], True, ""),  # one vote, but of two spellings
        ([*BOXED, r"\boxed{8}"], True, "reading.py:read"),  # a function of the user's, which may take any time
    ],
)
def test_an_open_vote_waits_for_all(asked: Any, texts: list[str], stop: bool, answer_format: str) -> None:
    rows, server = asked(texts, stop, answer_format)
    assert sorted(server.tokenizer.decode(row["responses"]) for row in rows) == sorted(texts)
    assert not any(row[STOPPED] for row in rows)


def test_a_request_that_comes_after_the_stop_is_not_sent(worker_config: Any) -> None:
    server = Server(build_tokenizer(), [])  # would fail if it were asked
    client, group = StoppableClient(worker_config, LoadBalancer(server)), Group()

    async def ask() -> TokenOutput:
        await stop(group)
        with requests_of(group):
            return await client.generate("a", prompt_ids=[1], sampling_params={})

    output = asyncio.run(ask())
    assert (output.token_ids, output.extra_fields) == ([], {STOPPED: True})
    assert len(client._load_balancer.released) == 1 and group.servers == {}
