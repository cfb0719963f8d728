# SPDX-License-Identifier: Apache-2.0
"""Sockets between trainer and vLLM: both ends name the same one, and no two runs do. (tests/e2e/test_own_ray.py has two
Rays at once.)"""

from types import SimpleNamespace

import pytest
import ray
from omegaconf import DictConfig
from verl.workers.rollout.base import get_rollout_class
from vllm.utils.import_utils import resolve_obj_by_qualname

from co_rewarding.training import weight_sync
from co_rewarding.training.launch import _prepare_weight_sync
from co_rewarding.training.weight_sync import RECEIVER, TAG
from co_rewarding.training.weight_sync_vllm import WeightReceiver, WeightSender


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch):
    """ends(tag, rank): the sockets that sender and receiver of a run name, as in the first job of its own Ray."""
    context = SimpleNamespace(get_job_id=lambda: "01000000")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setenv("VERL_RAY_JOB_ID", "01000000")  # verl's server sets it for vLLM's worker
    monkeypatch.setenv("RAY_LOCAL_WORLD_SIZE", "4")

    def of(tag: str, rank: int) -> tuple[str, str]:
        monkeypatch.setenv(TAG, tag)
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("VERL_REPLICA_RANK", str(rank // 2))
        config = SimpleNamespace(
            tensor_model_parallel_size=2, data_parallel_size=1, pipeline_model_parallel_size=1, layered_summon=False
        )
        sender = WeightSender(config, None, None)
        receiver = object.__new__(WeightReceiver)
        receiver.local_rank, receiver.model_runner = rank % 2, SimpleNamespace(vllm_config=None)
        return sender.zmq_handle, receiver._get_zmq_handle()

    return of


def test_both_ends_meet_and_two_runs_do_not(ends) -> None:
    sockets = {}
    for tag in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        for rank in range(4):
            sender, receiver = ends(tag, rank)
            assert sender == receiver
            assert tag in sender and len(sender.removeprefix("ipc://")) < 108  # Linux's limit for a socket's path
            sockets[tag, rank] = sender
    assert len(set(sockets.values())) == 8


def test_a_process_without_the_tag_or_another_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TAG, raising=False)
    with pytest.raises(KeyError, match=TAG):
        weight_sync.own_socket("ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock")
    with pytest.raises(ValueError, match=r"not an address as of verl 0\.9\.1"):
        weight_sync.own_socket("ipc:///tmp/another.sock")


def test_verl_and_vllm_find_them(config: DictConfig) -> None:
    assert get_rollout_class("vllm", "async") is WeightSender
    assert resolve_obj_by_qualname(RECEIVER) is WeightReceiver
    tags = []
    for _ in range(2):
        _prepare_weight_sync(config)
        assert config.actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls == RECEIVER
        tags.append(config.ray_kwargs.ray_init.runtime_env.env_vars[TAG])
    assert tags[0] != tags[1]
    config.actor_rollout_ref.rollout.engine_kwargs.vllm.worker_extension_cls = "mine.Extension"
    with pytest.raises(ValueError, match=r"worker_extension_cls=mine\.Extension: must be "):
        _prepare_weight_sync(config)
