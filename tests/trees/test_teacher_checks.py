# SPDX-License-Identifier: Apache-2.0
"""The teacher's settings and what they ask of the rest of the configuration; checkpoints with and without a teacher."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_checkpoints import save
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from co_rewarding.training.checkpoint import resume_dir
from co_rewarding.training.preflight.memory import setting_of
from co_rewarding_ii.checkpoint import check_resumable
from co_rewarding_ii.preflight import MANAGER, check_teacher
from co_rewarding_ii.settings import TeacherSettings, unmoved_steps
from co_rewarding_ii.trainer import other_schedule_line, teacher_line


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    with initialize_config_module("co_rewarding_ii.config", version_base=None):
        return compose("co_rewarding_ii")


@pytest.fixture
def config(composed: DictConfig, tmp_path: Path) -> DictConfig:
    config = composed.copy()
    OmegaConf.set_struct(config, False)
    config.trainer.default_local_dir = str(tmp_path / "checkpoints")
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n", 0),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("decay_start", 1.01),
        ("decay_end", -0.01),
        ("update_interval", 0),
        ("start_share", 0.0),
        ("start_share", 1.0),
        ("kl_anchor", "base"),
        ("rollout", "before"),
    ],
)
def test_a_value_out_of_range_is_named_before_ray_starts(config: DictConfig, key: str, value: object) -> None:
    config.actor_rollout_ref.teacher[key] = value
    with pytest.raises(ValueError, match=rf"^actor_rollout_ref\.teacher\.{key}={value}: must be "):
        check_teacher(config)


def test_the_teacher_is_as_warm_as_the_student_unless_it_is_said(config: DictConfig) -> None:
    config.actor_rollout_ref.rollout.temperature = 0.7
    assert TeacherSettings.read(config).temperature == 0.7
    for own in (0.0, 1.3):
        config.actor_rollout_ref.teacher.temperature = own
        assert TeacherSettings.read(config).temperature == own


def test_the_estimate_counts_the_starting_model(config: DictConfig) -> None:
    for anchor, update, kept in (("teacher", True, False), ("start", True, True), ("start", False, False)):
        config.actor_rollout_ref.teacher.kl_anchor, config.actor_rollout_ref.teacher.update = anchor, update
        assert setting_of(config, 0.0).keeps_start is TeacherSettings.read(config).keeps_start is kept


def test_the_papers_settings_pass(config: DictConfig) -> None:
    check_teacher(config)
    # the smallest values and the frozen teacher of the ablation
    for key, value in {"n": 1, "temperature": 0, "decay_start": 0, "decay_end": 1, "update": False}.items():
        config.actor_rollout_ref.teacher[key] = value
    check_teacher(config)


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("actor_rollout_ref.actor.use_kl_loss", False, "kl_loss_coef=0"),
        ("actor_rollout_ref.ref.fsdp_config.fsdp_size", 2, "must be the actor's"),
        ("trainer.v1.sampler.sync_refill_failed_groups", True, "set it to False"),
        ("trainer.v1.sync.parameter_sync_step", 2, "must be 1"),
        ("actor_rollout_ref.teacher.one_direction", True, "co_rewarding.method=co_rewarding_III"),
    ],
)
def test_what_a_teacher_cannot_go_with(config: DictConfig, key: str, value: object, fix: str) -> None:
    OmegaConf.update(config, key, value)
    with pytest.raises(ValueError, match=rf"^{key}={value!r}".replace("'", "'?")) as error:
        check_teacher(config)
    assert fix in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def adapter(config: DictConfig) -> DictConfig:
    """As LORA_RANK=8 has it."""
    config.actor_rollout_ref.model.lora_rank, config.actor_rollout_ref.rollout.load_format = 8, "safetensors"
    return config


def test_an_adapter_has_a_teacher(adapter: DictConfig) -> None:
    check_teacher(adapter)
    adapter.actor_rollout_ref.ref.fsdp_config.fsdp_size = 2  # nobody is there
    adapter.actor_rollout_ref.actor.use_kl_loss = False  # the teacher needs no reference
    check_teacher(adapter)


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("actor_rollout_ref.model.lora_adapter_path", "adapter", "merge this one into the model"),
        ("actor_rollout_ref.model.lora.rank", 8, "set lora_rank"),
        ("actor_rollout_ref.model.lora.merge", True, "set it to False"),
        ("actor_rollout_ref.teacher.rollout", "beside", "leave it auto"),
        ("actor_rollout_ref.teacher.rollout", "after", "leave it auto"),
        ("actor_rollout_ref.rollout.load_format", "dummy", "set it to safetensors"),
        ("actor_rollout_ref.rollout.disaggregation.enabled", True, "set it to False"),
    ],
)
def test_what_a_teacher_that_is_an_adapter_cannot_go_with(
    adapter: DictConfig, key: str, value: object, fix: str
) -> None:
    OmegaConf.update(adapter, key, value, force_add=True)
    with pytest.raises(ValueError, match=rf"^{key}={value}") as error:
        check_teacher(adapter)
    assert fix in str(error.value) and "\n" not in str(error.value)


def test_a_schedule_that_cannot_be_is_refused_with_the_blocks_name(config: DictConfig) -> None:
    config.trainer.total_training_steps = 3
    config.actor_rollout_ref.teacher.start_share = 0.2
    config.actor_rollout_ref.teacher.update_interval = 4
    with pytest.raises(ValueError, match=r"^actor_rollout_ref\.teacher\.start_share=0\.2: update_interval=4 leaves no"):
        check_teacher(config)


def test_one_direction_goes_with_two_wordings(config: DictConfig) -> None:
    config.actor_rollout_ref.teacher.one_direction = True
    config.co_rewarding.method = "co_rewarding_III"
    check_teacher(config)


def test_log_probs_of_the_teacher_need_whole_micro_batches(config: DictConfig) -> None:
    # 128 questions x 6 rollouts on 4 devices: 192 each
    settings = config.actor_rollout_ref
    settings.teacher.n, settings.teacher.check_log_probs = 6, True
    settings.actor.use_dynamic_bsz = False  # else they are made by tokens
    config.trainer.n_gpus_per_node, config.data.train_batch_size = 4, 128
    settings.ref.log_prob_micro_batch_size_per_gpu = 64
    check_teacher(config)
    settings.ref.log_prob_micro_batch_size_per_gpu = 128
    with pytest.raises(ValueError, match=r"check_log_probs=True: the teacher's 768 sequences"):
        check_teacher(config)


def checkpoint(config: DictConfig, step: int, *parts: str) -> None:
    folder = Path(config.trainer.default_local_dir)
    for part in parts:
        (folder / f"global_step_{step}" / part).mkdir(parents=True)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))


def test_a_fresh_run_needs_no_teacher(config: DictConfig) -> None:
    assert resume_dir(config) is None
    check_resumable(config, TeacherSettings())


def test_a_checkpoint_with_its_teacher_is_resumed(config: DictConfig) -> None:
    folder = save(Path(config.trainer.default_local_dir), 20, world=8, teacher=True)
    assert config.trainer.n_gpus_per_node == 8
    assert resume_dir(config) == folder
    check_resumable(config, TeacherSettings())


@pytest.mark.parametrize("part", ["model", "average"])
def test_a_part_of_the_teacher_that_is_gone_is_named(config: DictConfig, part: str) -> None:
    folder = save(Path(config.trainer.default_local_dir), 20, world=8, teacher=True)
    (folder / f"teacher/{part}_world_size_8_rank_5.pt").write_bytes(b"")
    missing = f"global_step_20: cannot be resumed from: teacher/{part}_world_size_8_rank_5.pt is empty; "
    with pytest.raises(ValueError, match=missing):
        check_resumable(config, TeacherSettings())
    check_resumable(config, TeacherSettings(update=False))


def test_a_checkpoint_without_a_teacher_names_the_way_out(config: DictConfig) -> None:
    checkpoint(config, 20, "actor")
    with pytest.raises(ValueError, match=r"global_step_20 has no teacher.*export its model"):
        check_resumable(config, TeacherSettings())
    # a teacher that never moves (it is the starting model), and a fresh start
    check_resumable(config, TeacherSettings(update=False))
    config.trainer.resume_mode = "disable"
    check_resumable(config, TeacherSettings())


def test_a_checkpoint_that_is_named_is_the_one_that_is_checked(config: DictConfig, tmp_path: Path) -> None:
    checkpoint(config, 20, "actor", "teacher")
    (tmp_path / "other/global_step_5/actor").mkdir(parents=True)
    config.trainer.resume_mode, config.trainer.resume_from_path = "resume_path", str(tmp_path / "other/global_step_5")
    with pytest.raises(ValueError, match="global_step_5 has no teacher"):
        check_resumable(config, TeacherSettings())


def test_the_line_at_the_start_tells_what_is_left_of_the_starting_model() -> None:
    def line(steps: int, unmoved: int = 1, **settings: Any) -> str:
        teacher = TeacherSettings(**settings)
        return teacher_line(teacher, teacher.schedule(steps, unmoved))

    # Π α_k over steps 2 to 330 with the defaults: ln = −(330 · 0.00505 + 0.00495 − 0.01) = −1.661, 19 %
    assert line(330) == "teacher: decay 0.99 to 0.9999 over 330 steps; at the end 19% of it is the starting model"
    # 20 steps: ln = −(0.101 + 0.00495 − 0.01) = −0.096, 91 %; with a warm-up the second update is empty as well, 92 %
    assert "91% of it is the starting model. WARNING: that is nearly a frozen teacher" in line(20)
    assert "92% of it" in line(20, unmoved=2)
    assert "actor_rollout_ref.teacher.start_share" in line(20)
    assert "20% of it" in line(20, start_share=0.2)
    assert "no update in 20 steps; at the end 100%" in line(20, update_interval=30)
    assert "; the KL term is against the starting model" in line(330, kl_anchor="start")
    assert "KL" not in line(330, kl_anchor="start", update=False)  # which the teacher is
    assert "frozen (actor_rollout_ref.teacher.update=False)" in line(20, update=False)


@pytest.mark.parametrize(
    ("optim", "steps", "unmoved"),
    [
        ({}, 100, 1),  # verl's default, which is constant
        ({"lr_warmup_steps_ratio": 0.1}, 100, 2),
        ({"lr_warmup_steps_ratio": 0.1}, 9, 1),  # 0.9 of a step is none
        ({"lr_warmup_steps": 5}, 9, 2),
        ({"lr_scheduler_type": "cosine", "lr_warmup_steps_ratio": 0.1}, 330, 2),
        ({"lr_scheduler_type": "cosine"}, 330, 1),
        ({"lr_scheduler_type": "cosine", "lr_warmup_steps_ratio": 0.1, "zero_indexed_step": False}, 330, 1),
    ],
)
def test_the_student_moves_when_its_learning_rate_is_not_0(
    config: DictConfig, optim: dict[str, Any], steps: int, unmoved: int
) -> None:
    config.actor_rollout_ref.actor.optim.update(optim)
    assert unmoved_steps(config, steps) == unmoved
    # the learning rates themselves, of verl's own schedule
    settings = config.actor_rollout_ref.actor.optim
    engine = SimpleNamespace(rank=1, optimizer_config=SimpleNamespace(**{**settings, "total_training_steps": steps}))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = FSDPEngine._build_lr_scheduler(engine, optimizer)
    assert (schedule.get_last_lr()[0] == 0) == (unmoved == 2)


def test_a_schedule_that_is_another_one_than_the_runs_is_reported() -> None:
    schedule = TeacherSettings(start_share=0.1).schedule(4)
    assert other_schedule_line(schedule, 3, schedule.decay(3)) is None
    # as it was while the first update was counted: 0.99495 to the power 91.2, where it is now to the power 151.5
    line = other_schedule_line(schedule, 3, 0.63023)
    assert line.startswith("teacher: the decay of step 3 was 0.63023 and is 0.464449 in this start's schedule")
    assert "another number of steps" in line and "\n" not in line
    # and for six steps: K = 6 has another cosine
    assert other_schedule_line(TeacherSettings().schedule(6), 3, TeacherSettings().schedule(4).decay(3))
    assert other_schedule_line(schedule, 5, 0.5) is None  # after its end: nothing more is trained


def test_decided_votes_may_be_stopped(config: DictConfig) -> None:
    config.actor_rollout_ref.teacher.stop_decided = True
    for method in ("co_rewarding_II", "co_rewarding_III"):
        config.co_rewarding.method = method
        check_teacher(config)
    config.co_rewarding.min_agreement = 0.75  # is decided with the vote
    check_teacher(config)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("co_rewarding.payout", "soft", "pays by the shares of a full vote"),
        ("co_rewarding.payout", "negative", "pays by the shares of a full vote"),
        ("co_rewarding.method", "co_rewarding_II+0.2*format_only", "may read all of the teacher's text"),
        ("co_rewarding.method", "format_only", "may read all of the teacher's text"),
        ("actor_rollout_ref.teacher.check_log_probs", True, "log-probabilities of full responses"),
        ("actor_rollout_ref.rollout.full_determinism", True, "gives all requests one name"),
        ("actor_rollout_ref.rollout.agent.agent_loop_manager_class", None, "does not count votes"),
    ],
)
def test_what_needs_whole_votes_refuses_to_stop_them(config: DictConfig, key: str, value: object, why: str) -> None:
    config.data.train_batch_size = 128
    config.actor_rollout_ref.actor.use_dynamic_bsz = True
    OmegaConf.update(config, key, value)
    check_teacher(config)
    config.actor_rollout_ref.teacher.stop_decided = True
    with pytest.raises(ValueError, match=rf"^actor_rollout_ref\.teacher\.stop_decided=True: {key}=") as refused:
        check_teacher(config)
    assert why in str(refused.value) and "STOP_DECIDED=False" in str(refused.value)


def test_the_manager_that_counts_votes_is_the_one_that_is_set(config: DictConfig) -> None:
    module, _, name = MANAGER.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    assert config.actor_rollout_ref.rollout.agent.agent_loop_manager_class == MANAGER
