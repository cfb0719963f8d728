# SPDX-License-Identifier: Apache-2.0
"""All checks of a run before it starts; they take seconds and report errors in one line.

Each check raises ValueError naming the key, the value and the fix. Checks need files and a tokenizer, not Ray, vLLM or
the model's weights. verl's own checks (`validate_config`) are not repeated.
"""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from co_rewarding.training.checkpoint import check_checkpoints
from co_rewarding.training.checkpoint_files import check_checkpoint_files
from co_rewarding.training.preflight.adapter import check_adapter
from co_rewarding.training.preflight.batches import check_attention, check_batch_sizes
from co_rewarding.training.preflight.data import check_data, read_data
from co_rewarding.training.preflight.keys import (
    check_early_stop,
    check_fixed_choices,
    check_legacy_keys,
    check_missing,
    check_optimizer,
    check_settings,
    check_views,
)
from co_rewarding.training.preflight.machine import check_address, check_platform, check_ray
from co_rewarding.training.preflight.memory import check_memory
from co_rewarding.training.preflight.model import check_model
from co_rewarding.training.preflight.names import check_data_paths, check_model_path, check_names
from co_rewarding.training.preflight.numbers import check_group_size, check_numbers
from co_rewarding.training.preflight.outputs import check_folders, check_loggers, check_run_dir
from co_rewarding.training.preflight.overrides import check_overrides
from co_rewarding.training.preflight.prompts import check_prompts
from co_rewarding.training.started_as import check_older_name, check_started_as

Checks = Sequence[Callable[[DictConfig], None]]
OF_SETTINGS: Checks = (
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
    check_adapter,
)
OF_RUN_AND_MACHINE: Checks = (
    check_started_as,
    check_older_name,
    check_platform,
    check_ray,
    check_address,
    check_memory,
)


def check_config(config: DictConfig) -> None:
    """Run every check on a composed configuration.

    Raises:
        ValueError: the first error, in one line.
    """
    for check in OF_SETTINGS:
        check(config)
    files = read_data(config)
    check_data(config, files)
    tokenizer, vocabulary = check_model(config)
    check_prompts(config, files, tokenizer, vocabulary)
    for check in OF_RUN_AND_MACHINE:
        check(config)
