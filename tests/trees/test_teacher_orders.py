# SPDX-License-Identifier: Apache-2.0
"""The teacher beside the student: who has which replicas, in what order things happen, and that what trains never sees
the teacher's rows. Nothing of verl is started; its steps are watched.
"""

import itertools
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu
from verl.workers.rollout.replica import RolloutReplicaRegistry

from co_rewarding.algo.rollouts import VIEWS
from co_rewarding.training import rollout_io
from co_rewarding.training.agent_loop import NUM_ROLLOUTS, SAMPLING
from co_rewarding.training.trainer import GroupRewardTrainer
from co_rewarding_ii.adapter_worker import TEACHERS
from co_rewarding_ii.orders import TeacherAfterStudent, TeacherAsAdapter, TeacherBesideStudent, make_trainer
from co_rewarding_ii.preflight import check_teacher
from co_rewarding_ii.replicas import Replicas, replicas_of
from co_rewarding_ii.router import RouterAmongReplicas, among
from co_rewarding_ii.settings import TeacherSettings
from co_rewarding_ii.trainer import CoRewardingIITrainer
from co_rewarding_ii.worker import OneOfTwo

VERLS = GroupRewardTrainer.__mro__[1]


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_module("co_rewarding_ii.config", version_base=None):
        return compose("co_rewarding_ii")


@pytest.fixture
def config(composed: DictConfig) -> DictConfig:
    """As the run scripts have it: four GPUs, each with an engine of its own, eight rollouts of both."""
    config = composed.copy()
    OmegaConf.set_struct(config, False)
    config.trainer.n_gpus_per_node = 4
    config.actor_rollout_ref.rollout.update(tensor_model_parallel_size=1, n=8)
    return config


@pytest.mark.parametrize(
    ("count", "student", "teacher", "teachers"),
    [
        (2, 8, 8, 1),
        (4, 8, 8, 2),
        (3, 8, 8, 2),  # 1.5: a half goes up
        (8, 8, 16, 5),  # 5.33
        (8, 16, 8, 3),  # 2.67
        (2, 8, 64, 1),  # 1.78, and the student keeps one
        (4, 64, 2, 1),  # 0.12, and the teacher has one
    ],
)
def test_replicas_are_shared_as_the_rollouts_are(count: int, student: int, teacher: int, teachers: int) -> None:
    replicas = Replicas.shared(count, student, teacher)
    assert replicas == Replicas(count - teachers, teachers)
    ranges = [sampling["extra_args"]["replicas"] for sampling in (replicas.of_student, replicas.of_teacher)]
    assert ranges == [[0, count - teachers], [count - teachers, count]]


def test_one_replica_is_not_shared(config: DictConfig) -> None:
    assert replicas_of(config) == Replicas(2, 2)  # the default, on the paper's four GPUs
    rollout, teacher = config.actor_rollout_ref.rollout, config.actor_rollout_ref.teacher
    rollout.tensor_model_parallel_size = 2
    assert replicas_of(config) == Replicas(1, 1)
    teacher.rollout = "after"
    assert replicas_of(config) is None
    teacher.rollout, rollout.tensor_model_parallel_size = "auto", 4
    assert replicas_of(config) is None
    config.trainer.nnodes = 2
    assert replicas_of(config) == Replicas(1, 1)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (
            "tensor_model_parallel_size",
            4,
            "needs at least two vLLM replicas, but there is one",
        ),
        ("full_determinism", True, "makes verl's own router choose"),
        ("disaggregation.enabled", True, "builds a replica from several engines"),
        ("router_config_path", "my_router.yaml", "has no rule for the teacher's replicas"),
    ],
)
def test_beside_is_refused_where_it_cannot_be(config: DictConfig, key: str, value: object, why: str) -> None:
    OmegaConf.update(config, f"actor_rollout_ref.rollout.{key}", value)
    assert replicas_of(config) is None  # auto
    check_teacher(config)
    config.actor_rollout_ref.teacher.rollout = "beside"
    with pytest.raises(ValueError, match=r"^actor_rollout_ref\.teacher\.rollout=beside: .*leave it auto") as error:
        check_teacher(config)
    assert why in str(error.value) and f"actor_rollout_ref.rollout.{key}={value}" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_trainer_follows_the_setting(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoRewardingIITrainer, "__init__", lambda self, config: None)
    beside = make_trainer(config)
    assert isinstance(beside, TeacherBesideStudent) and beside.replicas == Replicas(2, 2)
    router = OmegaConf.load(config.actor_rollout_ref.rollout.router_config_path).router_class
    assert router == f"{RouterAmongReplicas.__module__}.{RouterAmongReplicas.__name__}"
    config.actor_rollout_ref.teacher.rollout = "after"
    assert isinstance(make_trainer(config), TeacherAfterStudent)
    monkeypatch.setattr(RolloutReplicaRegistry, "register", lambda name, loader: None)
    config.actor_rollout_ref.model.lora_rank = 8
    assert isinstance(make_trainer(config), TeacherAsAdapter)


def test_a_request_is_answered_by_those_that_it_names() -> None:
    router = RouterAmongReplicas({name: f"handle of {name}" for name in "abcd"}, {})
    requests = itertools.count()
    fields = router.require_acquire_fields()

    def ask(**sampling: object) -> str:
        given = {"sampling_params": {"temperature": 1.0, **sampling}, "prompt_ids": [1, 2]}
        server, handle = router.acquire_server(
            request_id=f"r{next(requests)}", **{name: given[name] for name in fields}
        )  # as verl's client does
        assert handle == f"handle of {server}"
        return server

    # 12 of the student on three replicas, 4 of the teacher on one: all as busy as each other
    answered = [ask(**among(0, 3)) for _ in range(12)] + [ask(**among(3, 4)) for _ in range(4)]
    assert Counter(answered[:12]) == {"a": 4, "b": 4, "c": 4}
    assert answered[12:] == ["d"] * 4
    for server in answered:
        router.release_server(server)
    assert Counter(ask() for _ in range(8)) == dict.fromkeys("abcd", 2)  # validation names none


@pytest.mark.parametrize("is_teachers", [False, True])
def test_both_are_gathered_in_one_order_and_one_is_sent(is_teachers: bool) -> None:
    gathered = []

    def engine(who: str, value: float) -> SimpleNamespace:
        def weights():
            for name in ("a", "b"):
                gathered.append((who, name))
                yield name, torch.full((2,), value)

        return SimpleNamespace(get_per_tensor_param=lambda **_: (weights(), None), is_param_offload_enabled=who)

    both = OneOfTwo(engine("student", 1.0), engine("teacher", 2.0), is_teachers)
    weights, lora = both.get_per_tensor_param(layered_summon=False, base_sync_done=True)
    sent = [(name, float(weight[0])) for name, weight in weights]
    assert lora is None and both.is_param_offload_enabled == "student"
    assert sent == [("a", 1.0 + is_teachers), ("b", 1.0 + is_teachers)]
    # gathering is a collective of all ranks, whichever they send
    assert gathered == [("student", "a"), ("teacher", "a"), ("student", "b"), ("teacher", "b")]


class Watched:
    """verl's steps, and what the workers are told, as a list of what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, order: type[CoRewardingIITrainer], **teacher: object) -> None:
        self.happened: list[object] = []
        self.submitted: list[TensorDict] = []
        trainer = self.trainer = object.__new__(order)
        trainer.global_steps, trainer.timing_raw, trainer.total_training_steps = 3, {}, 9
        trainer.teacher = TeacherSettings(n=6, temperature=0.5, **teacher)
        trainer.schedule = SimpleNamespace(decay=lambda step: 0.9)
        trainer._teacher_metrics, trainer._teachers_questions = {}, None
        trainer.replicas = Replicas(2, 1)
        trainer.actor_rollout_wg = SimpleNamespace(
            update_teacher=lambda decay: self.happened.append(("teacher moves", decay)) or [],
            send_weights=lambda **given: self.happened.append(("weights of both", given)),
        )
        trainer.checkpoint_manager = SimpleNamespace(
            update_weights=lambda step: self.happened.append(("the student's weights", step)),
            sleep_replicas=lambda: self.happened.append("sleep"),
        )
        trainer.monitor = SimpleNamespace(stop_if_collapsed=lambda step: False)
        monkeypatch.setattr("co_rewarding_ii.orders.ray.get", lambda ref: None)
        monkeypatch.setattr("co_rewarding_ii.trainer.Distance.relative", lambda distances: 0.25)
        monkeypatch.setattr(VERLS, "_submit_batch_to_rollout", self.submit)
        monkeypatch.setattr(VERLS, "_add_batch_to_generate", lambda _: trainer._submit_batch_to_rollout(questions()))

    def submit(self, batch: TensorDict) -> int:
        self.happened.append(f"{len(batch)} prompts are asked")
        self.submitted.append(batch.copy())
        for name in (SAMPLING, "raw_prompt"):  # the agent loop takes columns out of what it is given
            batch.pop(name, None)
        return len(batch)


def questions() -> TensorDict:
    """Two questions in both views."""
    messages = np.empty(4, dtype=object)
    messages[:] = [[{"role": "user", "content": "?"}]] * 4
    views = [view for view in VIEWS for _ in "qr"]
    columns = {"uid": [f"uid{i}" for i in range(4)], "question": ["q", "r"] * 2, "view": views}
    rows = {name: np.array(values, dtype=object) for name, values in columns.items()}
    return tu.get_tensordict({"dummy_tensor": torch.zeros(4, 1, dtype=torch.uint8), "raw_prompt": messages, **rows})


def test_the_teacher_moves_and_weights_are_exchanged_before_anyone_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, TeacherBesideStudent)
    watched.trainer.prepare_step()
    assert watched.happened == [
        ("teacher moves", 0.9),
        ("weights of both", {"global_steps": 2, "students": 2}),  # θ of the step before
        "4 prompts are asked",
        "4 prompts are asked",
    ]
    assert watched.trainer._teacher_metrics == {"teacher/decay": 0.9, "teacher/distance": 0.25}
    students, teachers = watched.submitted
    assert rollout_io.column(students, SAMPLING) == [among(0, 2)] * 4
    assert NUM_ROLLOUTS not in students.keys()  # noqa: SIM118 - a TensorDict iterates over rows
    assert rollout_io.column(teachers, SAMPLING) == [{"temperature": 0.5, "logprobs": False, **among(2, 3)}] * 4
    assert rollout_io.column(teachers, NUM_ROLLOUTS) == [6] * 4
    assert rollout_io.column(students, "uid") == [f"uid{i}" for i in range(4)]
    assert not {*rollout_io.column(teachers, "uid")} & {*rollout_io.column(students, "uid")}
    assert rollout_io.column(teachers, "raw_prompt") == rollout_io.column(questions(), "raw_prompt")


def test_adapters_are_told_apart_by_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, TeacherAsAdapter)
    watched.trainer.prepare_step()
    assert watched.happened == [
        ("teacher moves", 0.9),
        ("weights of both", {"global_steps": 2}),
        "4 prompts are asked",
        "4 prompts are asked",
    ]
    students, teachers = watched.submitted
    assert rollout_io.column(students, SAMPLING) == [{}] * 4
    of_teacher = {"temperature": 0.5, "logprobs": False, "extra_args": {"adapter": "teacher"}}
    assert rollout_io.column(teachers, SAMPLING) == [of_teacher] * 4


@pytest.mark.parametrize(("anchor", "is_teachers"), [("start", False), ("teacher", True)])
def test_the_reference_of_an_adapter(monkeypatch: pytest.MonkeyPatch, anchor: str, is_teachers: bool) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(
        VERLS, "_compute_ref_log_prob", lambda self, batch, metrics: asked.append(dict(batch.extra_info)) or batch
    )
    trainer = Watched(monkeypatch, TeacherAsAdapter, kl_anchor=anchor).trainer
    batch = KVBatchMeta(keys=["a_0_0"], tags=[{}], partition_id="train")
    trainer._compute_ref_log_prob(batch, {})
    trainer._log_probs_of_teacher(batch, {})  # teacher.check_log_probs
    assert [TEACHERS in info for info in asked] == [is_teachers, True]
    assert TEACHERS not in batch.extra_info  # the next pass is the student's


def test_in_one_direction_each_is_asked_its_own_view(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, TeacherBesideStudent, one_direction=True)
    watched.trainer.prepare_step()
    asked = [
        [*zip(rollout_io.column(rows, "question"), rollout_io.column(rows, "view"), strict=True)]
        for rows in watched.submitted
    ]
    assert [len(rows) for rows in asked] == [2, 2]  # as many prompts each, as _step_once says
    assert {*asked[0]} | {*asked[1]} == {(question, view) for question in "qr" for view in VIEWS}
    assert rollout_io.column(watched.submitted[0], SAMPLING) == [among(0, 2)] * 2


def test_what_trains_never_sees_the_teachers_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, TeacherBesideStudent)
    trainer = watched.trainer
    trainer.settings = SimpleNamespace(num_votes=0)
    trainer.prepare_step()
    monkeypatch.setattr(VERLS, "_balance_batch", lambda self, batch, metrics: batch)
    students = [f"uid{i}_{n}_0" for i in range(4) for n in range(2)]
    teachers = [f"{uid}_{n}_0" for uid in trainer._teachers_uids for n in range(3)]  # of six, three failed
    keys = sorted(students + teachers, key=lambda key: key[::-1])  # in any order, as they come
    batch = KVBatchMeta(keys=keys, tags=[{"seq_len": 1}] * len(keys), partition_id="train")
    trained = trainer._balance_batch(batch, metrics={})
    assert sorted(trained.keys) == sorted(students)
    assert sorted(trainer._teacher_batch.keys) == sorted(teachers)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_run_whose_replicas_of_one_model_are_gone_ends(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    trainer = Watched(monkeypatch, TeacherBesideStudent).trainer
    trainer.prepare_step()
    keys = [f"{trainer._teachers_uids[0]}_0_0" if who == "student" else "uid0_0_0"]  # the other's
    batch = KVBatchMeta(keys=keys, tags=[{}], partition_id="train")
    with pytest.raises(RuntimeError, match=f"step 3: all rollouts of the {who} failed"):
        trainer._balance_batch(batch, metrics={})


def test_a_sample_waits_for_the_prompts_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[int] = []
    monkeypatch.setattr(VERLS, "_step_once", lambda self, metrics, timing_raw, size: sampled.append(size))
    for two_views, one_direction, prompts in ((False, False, 32), (True, False, 64), (True, True, 32)):
        trainer = Watched(monkeypatch, TeacherBesideStudent, one_direction=one_direction).trainer
        trainer.two_views, trainer.steps_done = two_views, 0
        trainer.monitor.observe = lambda step, metrics: None
        trainer._vote_metrics = Future()
        trainer._vote_metrics.set_result({})
        trainer._step_once({}, {}, 16)  # questions
        assert sampled.pop() == prompts


def test_vllm_has_weights_when_it_is_asked_and_sleeps_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, TeacherBesideStudent)
    trainer = watched.trainer
    trainer.curr_step_profile = False
    for verls_call in ("on_init_end", "on_validate_begin", "on_validate_end"):
        getattr(trainer, verls_call)()
    trainer.prepare_step()
    for verls_call in ("on_sample_end", "on_step_end", "on_validate_begin", "on_validate_end"):
        getattr(trainer, verls_call)()
    student_everywhere = ("the student's weights", 3)
    assert watched.happened == [
        student_everywhere, "sleep",
        ("teacher moves", 0.9), ("weights of both", {"global_steps": 2, "students": 2}),
        "4 prompts are asked", "4 prompts are asked", "sleep",
        student_everywhere, "sleep",
    ]  # fmt: skip
