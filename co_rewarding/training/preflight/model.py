# SPDX-License-Identifier: Apache-2.0
"""Checks that the model exists, has matching weights and tokenizer, and allows the lengths (see check.py)."""

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import AutoConfig, AutoTokenizer

from co_rewarding.training.preflight.weights import check_weights, model_folder


def check_model(config: DictConfig) -> tuple[Any, int]:
    """Returns: the tokenizer, and the size of the model's vocabulary. Raises: ValueError, one line."""

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
    except Exception as error:  # any error of transformers on a damaged file, or of code that came with the model
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        if not isinstance(error, OSError | ValueError):
            first_line = f"{type(error).__name__}: {first_line}"
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
    return tokenizer, hf_config.get_text_config().vocab_size
