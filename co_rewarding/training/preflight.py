# SPDX-License-Identifier: Apache-2.0
"""Everything about a run that can be wrong before it starts, checked in seconds and reported in one line.

Each check raises ValueError naming the key, the value and the fix. Checks need files and a tokenizer, not Ray, vLLM or
the model's weights. What verl checks by itself (`validate_config`) is left to it.
"""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from co_rewarding.algo.methods import METHODS
from co_rewarding.storage.provenance import PROJECT
from co_rewarding.training.checkpoint import check_checkpoints
from co_rewarding.training.checkpoint_files import check_checkpoint_files
from co_rewarding.training.preflight_batches import check_attention, check_batch_sizes
from co_rewarding.training.preflight_data import check_data
from co_rewarding.training.preflight_machine import check_platform, check_ray
from co_rewarding.training.preflight_memory import check_memory
from co_rewarding.training.preflight_names import check_data_paths, check_model_path, check_names
from co_rewarding.training.preflight_outputs import check_folders, check_loggers
from co_rewarding.training.preflight_overrides import check_overrides
from co_rewarding.training.preflight_prompts import check_prompts
from co_rewarding.training.preflight_weights import check_weights, model_folder
from co_rewarding.training.settings import MAX_TEMPERATURE, Settings
from co_rewarding.training.started_as import check_older_name, check_started_as

# verl 0.9.1 keeps these blocks for older scripts and reads them nowhere on its own main entry
LEGACY_BLOCKS = {
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model": "reward.reward_model",
    "custom_reward_function": "reward.custom_reward_function",
    "sandbox_fusion": "reward.sandbox_fusion",
}
EXTERNAL_LIBS = ("co_rewarding.training.engine", "co_rewarding.cpu.engine")  # each registers engine and rollout loop


def check_config(config: DictConfig) -> None:
    """Run every check on a composed configuration.

    Raises:
        ValueError: one line; the first thing that is wrong.
    """
    checks: Sequence[Callable[[DictConfig], None]] = (
        check_settings,
        check_overrides,
        check_legacy_keys,
        check_missing,
        check_views,
        check_fixed_choices,
        check_numbers,
        check_optimizer,
        check_group_size,
        check_batch_sizes,
        check_attention,
        check_checkpoints,
        check_checkpoint_files,
        check_early_stop,
        check_names,
        check_run_dir,
        check_data_paths,
        check_folders,
        check_loggers,
        check_model_path,
        check_data,
        check_model,
        check_started_as,
        check_older_name,
        check_platform,
        check_ray,
        check_memory,
    )
    for check in checks:
        check(config)


def check_missing(config: DictConfig) -> None:
    # blocks of engines that are switched off keep their own ??? in verl; only what a run reads is listed
    for key in ("data.train_files", "data.train_aug_files", "data.val_files", "actor_rollout_ref.model.path"):
        block, _, name = key.rpartition(".")
        parent = OmegaConf.select(config, block)
        if name not in parent.keys():  # noqa: SIM118 - "in parent" is False for a missing value too
            continue  # the baselines, which ask one view, have no train_aug_files
        if OmegaConf.is_missing(parent, name):
            raise ValueError(f"{key} is not set; set it in the run script or append {key}=… to the command")
        value = parent[name]
        if name == "train_aug_files" and value is None:
            continue  # asked for by check_views, if the method needs it
        if name == "val_files" and not value:
            continue  # nothing is validated
        paths = value if isinstance(value, ListConfig) and name != "path" else [value]
        if not paths or not all(isinstance(path, str) and path for path in paths):
            raise ValueError(
                f"{key}={value}: must be a path; set it in the run script or append {key}=… to the command"
            )


def check_views(config: DictConfig) -> None:
    """Two views for the votes that need them, and for no other vote."""
    method, files = METHODS[config.co_rewarding.method], OmegaConf.select(config, "data.train_aug_files")
    asks_both = OmegaConf.select(config, "data.custom_cls.name") == "PairedDataset"
    if method.needs_both_views and not asks_both:
        raise ValueError(
            f"co_rewarding.method={method.name}: asks each question in two views, here it is asked in one; use the run "
            "script of Co-rewarding-I or -II"
        )
    if method.needs_both_views and not files:
        raise ValueError(
            f"data.train_aug_files={files}: {method.name} needs the rephrased questions; give their parquet file "
            "(TRAIN_AUG_FILE in the run script)"
        )
    if files and not asks_both:
        raise ValueError(
            f"data.train_aug_files={files}: here each question is asked in one view; for both use the run script of "
            "Co-rewarding-I or -II"
        )
    if files and method.is_consensus and not method.needs_both_views:
        raise ValueError(
            f"data.train_aug_files={files}: {method.name} asks each question in one wording; set it to null "
            "(for a baseline on the rephrased questions give their file as data.train_files)"
        )


def check_settings(config: DictConfig) -> None:
    settings = Settings.read(config)
    if settings.min_agreement > 0 and not METHODS[settings.method].is_consensus:
        raise ValueError(
            f"co_rewarding.min_agreement={settings.min_agreement}: {settings.method} takes no vote; set it to 0 "
            "(MIN_AGREEMENT in the run script)"
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
        "trainer.v1.trainer_mode": ("sync", "votes need whole groups of one policy; only sync is supported"),
        "algorithm.adv_estimator": ("grpo", "rewards are made for group advantages"),
        "actor_rollout_ref.rollout.name": ("vllm", "the rollout loop and the sync of weights are made for it"),
        "actor_rollout_ref.rollout.agent.default_agent_loop": ("single_turn_agent", "ours is built on that one"),
        "algorithm.filter_groups.enable": (False, "it filters before the vote, when every reward is still 0"),
        "reward.reward_model.enable": (False, "the reward is a vote, a reward model would be ignored"),
        "reward.custom_reward_function.path": (None, "the reward is a vote, a reward function would be ignored"),
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
    """The module that registers our rollout loop and our engine; for token statistics, in a pass that is made."""
    lib = config.actor_rollout_ref.model.external_lib
    if lib not in EXTERNAL_LIBS:
        raise ValueError(
            f"actor_rollout_ref.model.external_lib={lib}: must be one of {', '.join(EXTERNAL_LIBS)}, which register "
            "the rollout loop of training rows and the engine that computes token statistics"
        )
    needs_logits = METHODS[config.co_rewarding.method].needs_logits
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
    """`fused` is an argument of torch's AdamW; verl hands it to whatever optimizer is asked for."""
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


WHOLE_NUMBERS_FROM_1 = (
    "data.train_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "actor_rollout_ref.rollout.val_kwargs.n",
    "actor_rollout_ref.model.lora_alpha",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
    "trainer.total_epochs",
)
WHOLE_NUMBERS = ("trainer.test_freq", "trainer.save_freq")  # -1: never
OPTIONAL_FROM_1 = ("trainer.total_training_steps", "trainer.max_actor_ckpt_to_keep")  # null: not set
ABOVE_0 = ("actor_rollout_ref.rollout.gpu_memory_utilization",)
WHOLE_NUMBERS_FROM_0 = ("actor_rollout_ref.model.lora_rank",)  # 0: no adapter
SHARD_SIZES = ("actor_rollout_ref.actor.fsdp_config.fsdp_size", "actor_rollout_ref.ref.fsdp_config.fsdp_size")
SWITCHES = (
    "actor_rollout_ref.actor.use_dynamic_bsz",
    "actor_rollout_ref.model.use_remove_padding",
    "actor_rollout_ref.model.use_fused_kernels",
    "actor_rollout_ref.actor.fsdp_config.param_offload",
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload",
    "actor_rollout_ref.actor.fsdp_config.offload_policy",
    "trainer.val_before_train",
)
NUMBERS = {  # smallest and largest value allowed
    "actor_rollout_ref.actor.optim.lr": (0.0, float("inf")),
    "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio": (0.0, 1.0),
    "actor_rollout_ref.actor.clip_ratio": (0.0, float("inf")),
    "actor_rollout_ref.actor.clip_ratio_low": (0.0, 1.0),
    "actor_rollout_ref.actor.clip_ratio_high": (0.0, float("inf")),
    "actor_rollout_ref.actor.kl_loss_coef": (0.0, float("inf")),
    "actor_rollout_ref.rollout.temperature": (0.0, MAX_TEMPERATURE),
    "actor_rollout_ref.rollout.val_kwargs.temperature": (0.0, MAX_TEMPERATURE),
    "actor_rollout_ref.rollout.gpu_memory_utilization": (0.0, 1.0),
}
MAX_ROLLOUTS = 4096  # of a question; more are a slip of the finger
CHOICES = {
    "actor_rollout_ref.actor.optim.lr_scheduler_type": ("constant", "cosine"),
    "actor_rollout_ref.actor.loss_agg_mode": (
        "token-mean",
        "seq-mean-token-sum",
        "seq-mean-token-mean",
        "seq-mean-token-sum-norm",
    ),
}


def check_numbers(config: DictConfig) -> None:
    """Values that the run scripts pass on and that verl would trip over only once Ray is running."""
    for keys, smallest, allowed in (
        (WHOLE_NUMBERS_FROM_1, 1, "a whole number from 1"),
        (WHOLE_NUMBERS_FROM_0, 0, "a whole number from 0"),
        (WHOLE_NUMBERS, -1, "a whole number of steps, -1 for never"),
        (SHARD_SIZES, -1, "a number of GPUs, -1 for all"),
    ):
        for key in keys:
            value = OmegaConf.select(config, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise ValueError(f"{key}={value}: must be {allowed}")
    for key in OPTIONAL_FROM_1:
        value = OmegaConf.select(config, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{key}={value}: must be a whole number from 1, or null")
    for key in SWITCHES:
        value = OmegaConf.select(config, key)
        if not isinstance(value, bool):
            raise ValueError(f"{key}={value}: must be True or False")
    for key, (low, high) in NUMBERS.items():
        value = OmegaConf.select(config, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= value <= high:
            bounds = f"from {low:g} to {high:g}" if high < float("inf") else f"from {low:g}"
            raise ValueError(f"{key}={value}: must be a number {bounds}")
    for key in ABOVE_0:
        if (value := OmegaConf.select(config, key)) == 0:
            raise ValueError(f"{key}={value}: must be above 0")
    longest = config.data.max_prompt_length + config.data.max_response_length
    value = OmegaConf.select(config, key := "actor_rollout_ref.rollout.max_model_len")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < longest):
        raise ValueError(
            f"{key}={value}: must be null, or at least data.max_prompt_length + data.max_response_length = {longest} "
            "tokens"
        )
    for key, choices in CHOICES.items():
        value = OmegaConf.select(config, key)
        if value not in choices:
            raise ValueError(f"{key}={value}: must be one of {', '.join(choices)}")


def check_group_size(config: DictConfig) -> None:
    n = config.actor_rollout_ref.rollout.n
    if not isinstance(n, int) or not 2 <= n <= MAX_ROLLOUTS:
        raise ValueError(
            f"actor_rollout_ref.rollout.n={n!r}: must be from 2 to {MAX_ROLLOUTS} (NUM_ROLLOUTS in the run script); a "
            "group of one has no vote and no advantage"
        )
    if config.actor_rollout_ref.rollout.temperature == 0:
        raise ValueError(
            "actor_rollout_ref.rollout.temperature=0: all rollouts of a question would be alike, so that nothing is "
            "learned; use 1.0 (TRAIN_TEMPERATURE in the run script)"
        )
    validation = config.actor_rollout_ref.rollout.val_kwargs
    if validation.n > 1 and validation.temperature == 0:
        raise ValueError(
            f"actor_rollout_ref.rollout.val_kwargs.n={validation.n}: at val_kwargs.temperature=0 all of them would be "
            "alike; use 1, or a temperature above 0 (VAL_NUM_ROLLOUTS, VAL_TEMPERATURE in the run script)"
        )


def check_early_stop(config: DictConfig) -> None:
    """The last good checkpoint must outlive those that are saved while a sign of collapse builds up.

    A sign that is seen at step s is of the steps from s − W + 1, W the window; checkpoints of the W − 1 steps before s
    are saved already, and the newest before them is the good one.
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


def check_run_dir(config: DictConfig) -> None:
    """A run that was begun in the folder where this is started, as runs once were, does not silently start anew."""
    if os.environ.get("RUNS_DIR") == "":
        raise ValueError("RUNS_DIR is empty: name a folder for runs, or unset it")
    if not isinstance(config.co_rewarding_run_dir, str):
        raise ValueError(f"co_rewarding_run_dir={config.co_rewarding_run_dir}: must be a folder")
    name = Path("runs", config.trainer.project_name, config.trainer.experiment_name)
    run_dir, here = Path(config.co_rewarding_run_dir).absolute(), name.absolute()
    if run_dir == PROJECT / name and here != run_dir and here.is_dir() and not run_dir.exists():
        raise ValueError(
            f"co_rewarding_run_dir={run_dir}: does not exist, but {here} does; to resume that run move it there or set "
            "RUNS_DIR=runs; for a new run choose another RUN_NAME"
        )


def check_model(config: DictConfig) -> None:
    from transformers import AutoConfig, AutoTokenizer

    model = config.actor_rollout_ref.model
    path = str(Path(model.path).expanduser()) if model.path.startswith("~") else model.path
    if not os.path.isdir(path) and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        raise ValueError(
            f"actor_rollout_ref.model.path={model.path}: no such directory, and not a hub name of the form owner/name "
            "(MODEL_PATH in the run script)"
        )
    try:
        hf_config = AutoConfig.from_pretrained(path, trust_remote_code=model.trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(model.tokenizer_path or path)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ValueError(f"actor_rollout_ref.model.path={model.path}: not a loadable model: {first_line}") from error
    if (folder := model_folder(path)) is not None:
        where = f"actor_rollout_ref.model.path={model.path}"
        check_weights(where, folder, hf_config.to_dict(), may_download=not os.path.isdir(path))
    tokens = config.data.max_prompt_length + config.data.max_response_length
    limit = getattr(hf_config, "max_position_embeddings", None)
    if limit is not None and tokens > limit:
        raise ValueError(
            f"data.max_prompt_length={config.data.max_prompt_length} and data.max_response_length="
            f"{config.data.max_response_length}: their sum is above the model's {limit} positions"
        )
    if model.use_fused_kernels and not hf_config.tie_word_embeddings:
        raise ValueError(
            f"actor_rollout_ref.model.use_fused_kernels=True: {model.path} has an output layer of its own, which verl "
            "0.9.1 shards apart from where its fused kernels read it; set it to False"
        )
    check_prompts(config, tokenizer, hf_config.get_text_config().vocab_size)


def _leaves(node: Any, key: str) -> list[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        return [leaf for name, value in node.items() for leaf in _leaves(value, f"{key}.{name}")]
    return [(key, node)]
