# SPDX-License-Identifier: Apache-2.0
"""Keys that must be set, must not be set, or must agree (see check.py); numbers are in numbers.py."""

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from co_rewarding.algo.methods import method
from co_rewarding.training.settings import Settings

# verl 0.9.1 keeps these blocks for older scripts; its main entry ignores them
LEGACY_BLOCKS = {
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model": "reward.reward_model",
    "custom_reward_function": "reward.custom_reward_function",
    "sandbox_fusion": "reward.sandbox_fusion",
}
EXTERNAL_LIBS = ("co_rewarding.training.engine", "co_rewarding.cpu.engine")  # each registers engine and rollout loop


def check_missing(config: DictConfig) -> None:
    # only keys that a run reads are listed; verl leaves ??? in blocks of disabled engines
    for key in ("data.train_files", "data.train_aug_files", "data.val_files", "actor_rollout_ref.model.path"):
        block, _, name = key.rpartition(".")
        parent = OmegaConf.select(config, block)
        if name not in parent.keys():  # noqa: SIM118 - "in parent" is False for a missing value too
            continue  # baselines use one view and have no train_aug_files
        if OmegaConf.is_missing(parent, name):
            raise ValueError(f"{key} is not set; set it in the run script or append {key}=… to the command")
        value = parent[name]
        if name == "train_aug_files" and value is None:
            continue  # check_views requires it if the method does
        if name == "val_files" and not value:
            continue  # nothing is validated
        paths = value if isinstance(value, ListConfig) and name != "path" else [value]
        if not paths or not all(isinstance(path, str) and path for path in paths):
            raise ValueError(
                f"{key}={value}: must be a path; set it in the run script or append {key}=… to the command"
            )


def check_views(config: DictConfig) -> None:
    """Two views exactly for the votes that need them."""
    chosen, files = method(config.co_rewarding.method), OmegaConf.select(config, "data.train_aug_files")
    asks_both = OmegaConf.select(config, "data.custom_cls.name") == "PairedDataset"
    if chosen.needs_both_views and not asks_both:
        raise ValueError(
            f"co_rewarding.method={chosen.name}: needs each question in two views, this run has one; use the run "
            f"script of Co-rewarding-{'II' if chosen.needs_teacher else 'I'}"
        )
    if chosen.needs_both_views and not files:
        raise ValueError(
            f"data.train_aug_files={files}: {chosen.name} needs the rephrased questions; give their file "
            "(TRAIN_AUG_FILE in the run script)"
        )
    if files and not asks_both:
        raise ValueError(
            f"data.train_aug_files={files}: this run uses one view of each question; for both use the run script of "
            "Co-rewarding-I or -II"
        )
    if files and chosen.is_consensus and not chosen.needs_both_views:
        both = "" if chosen.needs_teacher else ", or the method to majority_voting_both_views"
        raise ValueError(
            f"data.train_aug_files={files}: {chosen.name} uses one view of each question; set it to null{both} "
            "(to train a baseline on the rephrased questions, set data.train_files to their file)"
        )


def check_settings(config: DictConfig) -> None:
    """Settings of the vote are set only for a method that has one."""
    settings = Settings.read(config)
    chosen = method(settings.method)
    for key, nothing in {"min_agreement": 0, "payout": "hard", "max_label_flips": -1, "num_votes": 0}.items():
        value = getattr(settings, key)
        if value != nothing and not chosen.is_consensus:
            raise ValueError(
                f"co_rewarding.{key}={value}: {settings.method} has no vote; set it to {nothing} "
                f"({key.upper()} in the run script)"
            )
    if settings.num_votes and chosen.needs_teacher:
        raise ValueError(
            f"co_rewarding.num_votes={settings.num_votes}: counts student votes, but in {settings.method} the teacher "
            "votes; leave it out and set actor_rollout_ref.teacher.n (TEACHER_NUM_ROLLOUTS in the run script)"
        )


def check_legacy_keys(config: DictConfig) -> None:
    for block, successor in LEGACY_BLOCKS.items():
        for key, value in _leaves(OmegaConf.select(config, block), block):
            if value is not None:
                new = successor if key == block else successor + key.removeprefix(block)
                raise ValueError(f"{key}={value!r}: verl 0.9.1 silently ignores this key; use {new}")


def check_fixed_choices(config: DictConfig) -> None:
    """Settings of verl that would make the group reward wrong or empty."""
    required = {
        "trainer.use_v1": (True, "the group reward is built on verl's V1 trainer"),
        "trainer.v1.trainer_mode": ("sync", "votes need complete groups of one policy; only sync is supported"),
        "algorithm.adv_estimator": ("grpo", "rewards are defined for group advantages"),
        "actor_rollout_ref.rollout.name": ("vllm", "rollout loop and weight sync are built for it"),
        "actor_rollout_ref.rollout.agent.default_agent_loop": ("single_turn_agent", "ours is built on that one"),
        "algorithm.filter_groups.enable": (False, "it filters before the vote, when every reward is still 0"),
        "reward.reward_model.enable": (False, "the reward is a vote; a reward model would be ignored"),
        "reward.custom_reward_function.path": (None, "the reward is a vote; a reward function would be ignored"),
        "data.return_raw_chat": (True, "prompts are built from the chat messages"),
    }
    for key, (value, why) in required.items():
        actual = OmegaConf.select(config, key)
        if actual != value:
            raise ValueError(f"{key}={actual!r}: must be {value!r}, because {why}")
    check_external_lib(config)
    if config.actor_rollout_ref.actor.strategy != "fsdp2":
        raise ValueError(
            f"actor_rollout_ref.actor.strategy={config.actor_rollout_ref.actor.strategy!r}: must be 'fsdp2', the only "
            "engine that this project is tested with"
        )


def check_external_lib(config: DictConfig) -> None:
    """The module that registers our rollout loop and engine, and the pass that token statistics need."""
    lib = config.actor_rollout_ref.model.external_lib
    if lib not in EXTERNAL_LIBS:
        raise ValueError(
            f"actor_rollout_ref.model.external_lib={lib}: must be one of {', '.join(EXTERNAL_LIBS)}, which register "
            "the rollout loop of training rows and the engine that computes token statistics"
        )
    needs_logits = method(config.co_rewarding.method).needs_logits
    if needs_logits and config.actor_rollout_ref.model.use_fused_kernels:
        raise ValueError(
            f"actor_rollout_ref.model.use_fused_kernels=True: {config.co_rewarding.method} needs the logits, which "
            "fused kernels never make; set it to False"
        )
    if needs_logits and OmegaConf.select(config, "algorithm.rollout_correction.bypass_mode"):
        raise ValueError(
            f"algorithm.rollout_correction.bypass_mode=True: {config.co_rewarding.method} needs the pass of the old "
            "log-probabilities, which it leaves out; set it to False"
        )


def check_optimizer(config: DictConfig) -> None:
    """`fused` is an argument of torch's AdamW; verl passes it to any optimizer."""
    optim = config.actor_rollout_ref.actor.optim
    key = "actor_rollout_ref.actor.optim.override_optimizer_config"
    options = optim.override_optimizer_config
    if options is not None and not isinstance(options, DictConfig):
        raise ValueError(f"{key}={options}: must be a mapping of the optimizer's arguments, or null")
    if optim.optimizer_impl != "torch.optim" and options and "fused" in options:
        raise ValueError(
            f"actor_rollout_ref.actor.optim.optimizer_impl={optim.optimizer_impl}: takes no argument fused, which is "
            f"set for torch's AdamW; append {key}=null"
        )


def check_early_stop(config: DictConfig) -> None:
    """The last good checkpoint must outlive those saved while a sign of collapse builds up.

    A sign at step s covers steps s − W + 1 to s, W the window; checkpoints of the W − 1 steps before s are saved
    already, and the newest before them is the good one.
    """
    keep, every = config.trainer.max_actor_ckpt_to_keep, config.trainer.save_freq
    if config.co_rewarding.early_stop_after == 0 or keep is None or every < 1:
        return
    needed = 1 + -(-(config.co_rewarding.watch_window - 1) // every)
    if keep < needed:
        raise ValueError(
            f"trainer.max_actor_ckpt_to_keep={keep}: with co_rewarding.early_stop_after="
            f"{config.co_rewarding.early_stop_after}, trainer.save_freq={every} and co_rewarding.watch_window="
            f"{config.co_rewarding.watch_window} it must be null or at least {needed}, or the last good checkpoint "
            "is removed before a collapse is seen"
        )


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        return [leaf for name, value in node.items() for leaf in _leaves(value, f"{key}.{name}")]
    return [(key, node)]
