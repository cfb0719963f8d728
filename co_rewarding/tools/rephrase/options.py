# SPDX-License-Identifier: Apache-2.0
"""The options of rewrite_questions.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import field_validator

from co_rewarding.cpu.build import is_cpu
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER
from co_rewarding.tools.data.validators import VALIDATORS
from co_rewarding.tools.generation.engine import MAX_TEMPERATURE, LocalOptions, ServerOptions
from co_rewarding.tools.options import REQUIRED, Names, Options, option, parse

PROGRAM = "rewrite_questions.py"
DESCRIPTION = """\
Rephrase each question of a file with any model that vLLM can run or an OpenAI-compatible server can serve.
Writes three files, aligned row by row: the rewrites as parquet and as JSONL, and the originals. The same
command resumes a stopped run."""
USAGE = f"{PROGRAM} FILES (--model_path MODEL | --base_url URL | --rewrites_from FILE) [OPTIONS]"
EPILOG = (
    "validators:\n"
    + "\n".join(f"  {name:<18} {meaning}" for name, (meaning, _) in VALIDATORS.items())
    + "\n\nexit codes: 0 done, 1 no rows remain, 2 a user error, 3 the server or vLLM is down, 130 interrupted"
)
PARQUET = "FILE.parquet"


class Files(Options):
    """files"""

    input_path: Path = option(
        REQUIRED, "the questions: CSV, TSV, JSONL, JSON, parquet, or a folder of them", metavar="FILE"
    )
    output_jsonl: Path = option(REQUIRED, "the rewrites, one JSON object a row", metavar="FILE.jsonl")
    output_parquet: Path = option(REQUIRED, "the rows with rewritten questions", metavar=PARQUET)
    output_original_parquet: Path = option(REQUIRED, "the same rows with their original questions", metavar=PARQUET)
    question_column: str = option(
        "prompt", "column of text, or of messages {role, content}; found automatically except in parquet"
    )
    answer_format: str = option(
        "",
        "answer format of rows that name none, as ANSWER_FORMAT of a run; for files not in verl's schema",
        metavar="SPEC",
    )
    max_samples: int = option(0, "only the first N rows (0: all)", ge=0)
    restart: Literal["all", "verify"] | None = option(
        None, "discard an earlier run's records in OUTPUT_JSONL.journal and OUTPUT_JSONL.verify.journal (all, or no "
        "value), or only in the latter (verify)", const="all",
    )  # fmt: skip


class Model(Options):
    """model"""

    model_path: str = option("", "model folder or hub id for vLLM; with --base_url the served model's name")
    tokenizer_path: str = option("", "its chat template is used (the model's; a server uses its own)")
    enable_thinking: bool = option(
        False, "enable thinking of a model that can think (no)", const="true", metavar="BOOL"
    )
    rewrites_from: Path | None = option(
        None, "no model: take the rewrites from this file, row by row, to check existing pairs",
        metavar=PARQUET,
    )  # fmt: skip


class Asking(Options):
    """instruction and sampling"""

    instruction_file: Path | None = option(None, "text with {question} and both markers (ours)", metavar="FILE")
    begin_marker: str = option(BEGIN_MARKER, "")
    end_marker: str = option(END_MARKER, "")
    temperature: float = option(0.7, "", ge=0, le=MAX_TEMPERATURE)
    top_p: float = option(0.8, "", gt=0, le=1)
    top_k: int = option(0, "0: no limit", ge=0)
    max_tokens: int = option(4096, "longest response, thinking included", ge=1)
    seed: int | None = option(None, "sample reproducibly if the engine can (not with vLLM on a CPU)")


class Checking(Options):
    """checks of a rewrite"""

    max_retries: int = option(3, "attempts after the first; raise it to retry failed rows later", ge=0)
    on_invalid: Literal["retry", "drop", "keep"] = option(
        "retry", "a rewrite that a validator objects to: sample again and finally drop the row (retry), drop "
        "it at once (drop), keep it (keep); each is listed in the quarantine",
    )  # fmt: skip
    skip_validators: Names = option((), "validators to skip", metavar="NAME,...")

    @field_validator("skip_validators")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in VALIDATORS:
                raise ValueError(f"{name} is unknown; use names from {', '.join(VALIDATORS)}")
        return names


class Verifying(Options):
    """do both views have the same answer?"""

    verify: bool = option(False, "let a model answer both views and compare the majority answers")
    on_different: Literal["keep", "flag", "drop"] = option(
        "flag", "a pair with different majorities: count it (keep), list it in the quarantine too (flag), drop it "
        "(drop)",
    )  # fmt: skip
    verify_samples: int = option(5, "answers to each view", ge=1)
    verify_min_agreement: float = option(
        0.6, "smallest share for a majority; otherwise undecided, and kept", ge=0, le=1
    )
    verify_model_path: str = option("", "another model (the rewriting one)")
    verify_temperature: float = option(0.8, "", ge=0, le=MAX_TEMPERATURE)
    verify_max_tokens: int = option(3072, "", ge=1)


class Recording(Options):
    """recording"""

    batch_size: int = option(128, "rows between disk syncs; not a batch: all questions are submitted at once", ge=1)


@dataclass(frozen=True)
class RewriteOptions:
    """All options."""

    files: Files
    model: Model
    local: LocalOptions
    server: ServerOptions
    asking: Asking
    checking: Checking
    verifying: Verifying
    recording: Recording

    @property
    def judge(self) -> tuple[str, ServerOptions]:
        """The model that answers both views, and where it runs. A model in a folder runs here."""
        name = self.verifying.verify_model_path
        in_folder = bool(name) and Path(name).is_dir()
        return name or self.model.model_path, ServerOptions() if in_folder else self.server


def parse_options(arguments: Sequence[str]) -> RewriteOptions:
    """The options, checked.

    Raises:
        UserError: an invalid one.
    """
    groups = [Files, Model, LocalOptions, ServerOptions, Asking, Checking, Verifying, Recording]
    options = RewriteOptions(*parse(PROGRAM, DESCRIPTION, groups, arguments, EPILOG, USAGE))
    files, model, verifying = options.files, options.model, options.verifying
    has_model = bool(model.model_path or options.server.base_url)
    if files.restart == "verify" and not verifying.verify:
        raise UserError("--restart verify works only with --verify: add it")
    if model.rewrites_from is None and not has_model:
        raise UserError("--model_path is missing: name a model for vLLM, or a server with --base_url")
    if verifying.verify and not has_model and not verifying.verify_model_path:
        raise UserError("--verify needs a model: name one with --model_path, or a server with --base_url")
    if options.asking.seed is not None and not options.server.base_url and is_cpu():
        raise UserError("--seed cannot be used with vLLM on a CPU, where request seeds fail: leave it out")
    if options.local.chat_template and options.judge[1].base_url:
        raise UserError(f"--chat_template {options.local.chat_template}: a server uses its own; leave it out")
    taken = {path.resolve(): name for name, path in (("input_path", files.input_path),)}
    if model.rewrites_from is not None:
        taken[model.rewrites_from.resolve()] = "rewrites_from"
    for name in ("output_jsonl", "output_parquet", "output_original_parquet"):
        path: Path = getattr(files, name)
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"--{name} {path}: its folder must exist, and it must not be a folder")
        if (other := taken.setdefault(path.resolve(), name)) != name:
            raise UserError(f"--{name} {path} is --{other} too: name another file")
    return options
