# SPDX-License-Identifier: Apache-2.0
"""Keys with a value that cannot be meant: our block's, verl's legacy ones, and verl's that the method fixes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError

from co_rewarding.training.preflight import outputs
from co_rewarding.training.preflight.check import check_config
from co_rewarding.training.preflight.keys import (
    LEGACY_BLOCKS,
    check_early_stop,
    check_fixed_choices,
    check_settings,
)
from co_rewarding.training.preflight.outputs import check_run_dir
from co_rewarding.training.settings import MAX_TEMPERATURE
from co_rewarding_i.main import check_two_views


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min_agreement", 1.5),
        ("num_votes", -1),
        ("num_votes", 4097),
        ("payout", "half"),
        ("max_label_flips", -2),
        ("equivalence", "fuzzy"),
        ("verify_workers", 0),
        ("verify_workers", 100_000),
        ("poll_interval_s", -1),
    ],
)
def test_a_setting_out_of_range(config: DictConfig, refusal: Callable[..., str], key: str, value: Any) -> None:
    OmegaConf.update(config, f"co_rewarding.{key}", value)
    refusal(f"co_rewarding.{key}={value}", "must be")


def test_an_unknown_setting(config: DictConfig, refusal: Callable[..., str]) -> None:
    OmegaConf.update(config, "co_rewarding.foo", 1, force_add=True)
    refusal("co_rewarding.foo=1", "unknown key", "min_agreement")


@pytest.mark.parametrize(
    ("key", "value", "successor"),
    [
        ("reward_model.enable", True, "reward.reward_model.enable"),
        ("reward_model.enable", False, "reward.reward_model.enable"),
        ("reward_model.reward_manager", "naive", "reward.reward_manager.name"),
        ("reward_model.model.path", "some/model", "reward.reward_model.model.path"),
        ("custom_reward_function.path", "reward.py", "reward.custom_reward_function.path"),
        ("custom_reward_function.name", "score", "reward.custom_reward_function.name"),
    ],
)
def test_a_legacy_key(config: DictConfig, refusal: Callable[..., str], key: str, value: Any, successor: str) -> None:
    OmegaConf.update(config, key, value)
    refusal(f"{key}={value!r}", "silently ignores", f"use {successor}")


def test_each_successor_of_a_legacy_key_exists(config: DictConfig) -> None:
    for successor in LEGACY_BLOCKS.values():
        block, _, name = successor.rpartition(".")
        assert name in list(OmegaConf.select(config, block)), successor


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.use_v1", False),
        ("trainer.v1.trainer_mode", "separate_async"),
        ("algorithm.adv_estimator", "gae"),
        ("algorithm.filter_groups.enable", True),
        ("reward.reward_model.enable", True),
        ("reward.custom_reward_function.path", "reward.py"),
        ("data.return_raw_chat", False),
        ("actor_rollout_ref.actor.strategy", "fsdp"),
    ],
)
def test_a_choice_that_the_method_does_not_have(
    config: DictConfig, refusal: Callable[..., str], key: str, value: Any
) -> None:
    OmegaConf.update(config, key, value)
    refusal(f"{key}={value!r}", "must be")


def test_a_run_that_lies_where_runs_once_were(
    config: DictConfig, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "Co-rewarding-I"
    monkeypatch.setenv("RUN_NAME", "co_rewarding_I")
    earlier = tree / "runs/co-rewarding/co_rewarding_I"
    earlier.mkdir(parents=True)
    monkeypatch.chdir(tree)
    monkeypatch.setattr(outputs, "PROJECT", tmp_path)
    check_run_dir(config)  # without RUNS_DIR it is the run's own
    config.co_rewarding_run_dir = f"{tmp_path}/elsewhere/co-rewarding/co_rewarding_I"
    check_run_dir(config)  # a folder of the user's choice
    config.co_rewarding_run_dir = f"{tmp_path}/runs/co-rewarding/co_rewarding_I"  # what the run scripts choose
    refusal(f"co_rewarding_run_dir={tmp_path}/runs", f"but {earlier} does", "RUNS_DIR=runs")
    Path(config.co_rewarding_run_dir).mkdir(parents=True)
    check_run_dir(config)  # the one that is asked for is there
    monkeypatch.setenv("RUNS_DIR", "")
    refusal("RUNS_DIR is empty")


def test_two_views_where_only_one_is_asked(config: DictConfig, refusal: Callable[..., str]) -> None:
    config.co_rewarding.method, config.data.custom_cls.name = "format_only", None  # as scripts/run_baseline.sh has it
    refusal("data.train_aug_files=", "this run uses one view of each question")


def test_co_rewarding_i_asks_two_views_whatever_the_method(config: DictConfig) -> None:
    check_two_views(config)
    config.data.train_aug_files, config.co_rewarding.method = None, "format_only"
    with pytest.raises(ValueError, match=r"data\.train_aug_files=None: Co-rewarding-I needs two views"):
        check_two_views(config)


def test_a_reward_that_is_no_vote_takes_one_view_or_two(config: DictConfig, refusal: Callable[..., str]) -> None:
    for method in ("format_only", "ground_truth"):
        for files in (config.data.train_aug_files, None):
            changed = config.copy()
            changed.co_rewarding.method, changed.data.train_aug_files = method, files
            check_config(changed)
    config.co_rewarding.method = "majority_voting"
    refusal("data.train_aug_files=", "majority_voting uses one view of each question")


def test_a_label_threshold_without_a_vote(config: DictConfig) -> None:
    config.co_rewarding.method, config.co_rewarding.min_agreement = "entropy", 0.5
    with pytest.raises(ValueError, match=r"co_rewarding\.min_agreement=0\.5: entropy has no vote"):
        check_settings(config)
    config.co_rewarding.method = "majority_voting"
    check_settings(config)


def test_a_payout_without_a_vote(config: DictConfig) -> None:
    config.co_rewarding.method, config.co_rewarding.payout = "format_only", "soft"
    with pytest.raises(ValueError, match=r"^co_rewarding\.payout=soft: format_only has no vote; set it to hard"):
        check_settings(config)
    config.co_rewarding.method = "co_rewarding_II"
    check_settings(config)


def test_a_guard_of_labels_without_a_vote(config: DictConfig) -> None:
    config.co_rewarding.method, config.co_rewarding.max_label_flips = "random", 0
    with pytest.raises(ValueError, match=r"^co_rewarding\.max_label_flips=0: random has no vote; set it to -1"):
        check_settings(config)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("entropy", "entropy has no vote; set it to 0 (NUM_VOTES in"),
        ("co_rewarding_II", "in co_rewarding_II the teacher votes; leave it out and set actor_rollout_ref.teacher.n"),
    ],
)
def test_more_votes_where_the_student_takes_none(config: DictConfig, method: str, reason: str) -> None:
    config.co_rewarding.method, config.co_rewarding.num_votes = method, 8
    with pytest.raises(ValueError, match=r"^co_rewarding\.num_votes=8: ") as refused:
        check_settings(config)
    assert reason in str(refused.value)


def test_a_library_that_does_not_register_our_rollout_loop(refused_after: Callable[..., str]) -> None:
    for lib in (None, "json"):
        refused_after(
            "actor_rollout_ref.model.external_lib", lib, "one of co_rewarding.training.engine, co_rewarding.cpu"
        )


def test_a_run_without_the_pass_of_the_old_log_probabilities(config: DictConfig) -> None:
    config.algorithm.rollout_correction.bypass_mode = True
    check_fixed_choices(config)  # only a method that needs logits reads what that pass says
    config.co_rewarding.method = "self_certainty"
    with pytest.raises(ValueError, match=r"bypass_mode=True: self_certainty needs the pass"):
        check_fixed_choices(config)


def test_rollouts_that_are_all_alike(refused_after: Callable[..., str]) -> None:
    refused_after("actor_rollout_ref.rollout.temperature", 0, "all rollouts of a question would be alike")


def test_a_temperature_that_vllm_refuses(config: DictConfig, refused_after: Callable[..., str]) -> None:
    refused_after("actor_rollout_ref.rollout.temperature", 2.1, "must be a number from 0 to 2")
    with pytest.raises(VLLMValidationError, match="temperature must be in"):  # or the bound is not needed any more
        SamplingParams(temperature=2.1)
    SamplingParams(temperature=MAX_TEMPERATURE)


def test_a_last_good_checkpoint_that_would_not_be_kept(config: DictConfig) -> None:
    # window 5, saved every 2 steps: a sign seen at step s is of s-4 … s; saved before s in that window: at most 2, of
    # steps s-4 … s-1. The one before them is the third
    config.co_rewarding.early_stop_after, config.co_rewarding.watch_window = 3, 5
    config.trainer.save_freq, config.trainer.max_actor_ckpt_to_keep = 2, 2
    with pytest.raises(ValueError, match=r"max_actor_ckpt_to_keep=2: .*null or at least 3"):
        check_early_stop(config)
    for keep in (3, None):
        config.trainer.max_actor_ckpt_to_keep = keep
        check_early_stop(config)
    config.trainer.max_actor_ckpt_to_keep, config.trainer.save_freq = 2, 4  # at most one of four steps is saved
    check_early_stop(config)


def test_arguments_of_another_optimizer(config: DictConfig, refused_after: Callable[..., str]) -> None:
    optim = "actor_rollout_ref.actor.optim"
    refused_after(
        f"{optim}.optimizer_impl", "bitsandbytes.optim", "takes no argument fused", "override_optimizer_config=null"
    )
    config.actor_rollout_ref.actor.optim.override_optimizer_config = None
    config.actor_rollout_ref.actor.optim.optimizer_impl = "bitsandbytes.optim"
    check_config(config)
    refused_after(f"{optim}.override_optimizer_config", "fused", "must be a mapping")


def test_a_method_of_two_views_in_the_script_of_one(config: DictConfig, refusal: Callable[..., str]) -> None:
    config.data.custom_cls.name = None  # as scripts/run_baseline.sh has it
    config.data.train_aug_files = None
    refusal("co_rewarding.method=co_rewarding_I", "run script of Co-rewarding-I")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("actor_rollout_ref.actor.fsdp_config.fsdp_size", ("many", None, -2)),
        ("actor_rollout_ref.model.lora_rank", ("many", -4)),
        ("actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes", ("many", 0)),
        ("transfer_queue.backend.SimpleStorage.num_data_storage_units", ("many", 0)),
        ("actor_rollout_ref.actor.use_dynamic_bsz", ("maybe", None)),
        ("actor_rollout_ref.actor.fsdp_config.offload_policy", ("maybe",)),
        ("actor_rollout_ref.ref.log_prob_use_dynamic_bsz", (False,)),
        ("trainer.default_local_dir", (None, 7)),
        ("trainer.total_training_steps", ("abc", 0, -3, 1.5)),
        ("trainer.max_actor_ckpt_to_keep", ("abc", 0, -1)),
        ("trainer.val_before_train", ("maybe", None)),
        ("actor_rollout_ref.actor.optim.lr", (float("inf"), float("nan"))),
        ("actor_rollout_ref.rollout.n", (10**9, 1)),
        ("actor_rollout_ref.rollout.val_kwargs.n", (8,)),  # at temperature 0
        ("co_rewarding_run_dir", (7,)),
        ("data.seed", ("abc", -1, 1.5)),
        ("data.train_max_samples", ("abc", 0, None)),
        ("data.val_max_samples", ("abc", 0)),
        ("data.truncation", ("foo",)),
        ("data.shuffle", ("maybe",)),
        ("data.apply_chat_template_kwargs", (None, 5)),
        ("actor_rollout_ref.actor.kl_loss_type", ("foo", "full", None)),
        ("actor_rollout_ref.rollout.top_p", (0, 5, "abc")),
        ("actor_rollout_ref.rollout.val_kwargs.top_k", ("abc", 0)),
        ("actor_rollout_ref.rollout.load_format", (None, 5)),
        ("ray_kwargs.ray_init.num_cpus", ("abc", 0)),
        ("trainer.val_only", ("maybe",)),
    ],
)
def test_values_that_the_checks_themselves_read(
    refused_after: Callable[..., str], key: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        refused_after(key, value)


def test_a_reward_of_ones_own_before_ray(config: DictConfig, refused_after: Callable[..., str], tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def good(inputs):\n    return inputs.lengths\n\ndef bad(data, text):\n    return 0.0\n")
    key = "co_rewarding.method"
    refused_after(key, f"{tmp_path}/gone.py:good", "gone.py cannot be read")
    refused_after(key, f"{own}:better", "has no function better; it has good, bad")
    refused_after(key, f"{own}:bad", "must take one argument: def bad(inputs)")
    refused_after(key, f"majority_voting+co_rewarding_I+{own}:good", "votes; a sum may have only one")
    refused_after(key, f"co_rewarding_I+0.1*{own}:goo", "has no function goo")
    for name in (f"{own}:good", f"co_rewarding_I+0.1*{own}:good"):
        config.co_rewarding.method = name
        config.co_rewarding.min_agreement = 0.5 * ("co_rewarding_I" in name)
        check_config(config)
