# SPDX-License-Identifier: Apache-2.0
"""The options of rewrite_questions.py and their checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from co_rewarding.algo.equivalence.relation import MODES
from co_rewarding.tools.cli import Parser, UserError
from co_rewarding.tools.data.markers import BEGIN_MARKER, END_MARKER, Markers
from co_rewarding.tools.data.validators import VALIDATORS, Limits
from co_rewarding.tools.generation.engine import MAX_TEMPERATURE

PROGRAM = "rewrite_questions.py"
DESCRIPTION = """\
Write each question of a parquet file a second time in other words, with any model that vLLM can run or an
OpenAI-compatible server can serve. Three files come out, aligned row by row: the rewrites as parquet and as JSONL,
and the originals. A run that was stopped goes on when the same command is given again."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked.

    Raises:
        UserError: one that cannot be meant.
    """
    options = _parser().parse_args(arguments)
    _check(options)
    return options


def _parser() -> argparse.ArgumentParser:
    validators = "\n".join(f"  {name:<18} {meaning}" for name, (meaning, _) in VALIDATORS.items())
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} FILES (--model_path MODEL | --base_url URL | --rewrites_from FILE) [OPTIONS]",
        description=DESCRIPTION,
        epilog=f"validators:\n{validators}\n\nexit codes: 0 done, 1 no row is left, 2 something to mend, 3 the server "
        "or vLLM is down, 130 interrupted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("files").add_argument
    add("--input_path", type=Path, required=True, metavar="FILE.parquet", help="the questions")
    add("--output_jsonl", type=Path, required=True, metavar="FILE.jsonl", help="the rewrites, one JSON object a row")
    add("--output_parquet", type=Path, required=True, metavar="FILE.parquet", help="the rows with rewritten questions")
    add(
        "--output_original_parquet", type=Path, required=True, metavar="FILE.parquet",
        help="the same rows with their own questions",
    )  # fmt: skip
    add("--question_column", default="prompt", help="column of text, or of messages {role, content} (default prompt)")
    add("--max_samples", type=int, default=0, help="the first so many rows only (default 0: all)")
    add(
        "--restart", nargs="?", const="all", choices=("all", "verify"),
        help="forget what an earlier run recorded in OUTPUT_JSONL.journal and OUTPUT_JSONL.verify.journal, and begin "
        "anew (all, or no value), or only in the latter, and answer anew (verify)",
    )  # fmt: skip

    add = parser.add_argument_group("model").add_argument
    add("--model_path", default="", help="model folder or hub id for vLLM; with --base_url the served model's name")
    add(
        "--tokenizer_path", default="", help="whose chat template is used (default: the model's; a server uses its own)"
    )
    add(
        "--enable_thinking", nargs="?", const=True, default=False, type=_truth, metavar="BOOL",
        help="let a model think that can (default: no)",
    )  # fmt: skip
    add(
        "--rewrites_from", type=Path, metavar="FILE.parquet",
        help="no model: take the rewrites from this file, row by row, to check pairs that exist already",
    )  # fmt: skip

    add = parser.add_argument_group("vLLM in this process").add_argument
    add(
        "--tensor_parallel_size", type=int, default=0,
        help="GPUs to split the model over (default 0: the visible ones)",
    )  # fmt: skip
    add("--gpu_memory_utilization", type=float, default=0.9, help="share of each GPU that may be filled (default 0.9)")
    add("--dtype", default="auto", help="type of the weights (default auto: the model's own, float32 on a CPU)")
    add("--kv_cache_mb", type=int, default=1024, help="size of the KV cache on a CPU (default 1024)")

    add = parser.add_argument_group("an OpenAI-compatible server instead").add_argument
    add("--base_url", default="", metavar="URL", help="such as http://localhost:8000/v1")
    add(
        "--api_key_env", default="OPENAI_API_KEY", metavar="NAME",
        help="environment variable that holds the key, if one is needed (default OPENAI_API_KEY)",
    )  # fmt: skip
    add("--max_concurrency", type=int, default=64, help="requests under way at a time (default 64)")
    add("--http_retries", type=int, default=6, help="times to ask again after 429, 5xx or silence (default 6)")
    add("--http_timeout", type=float, default=600.0, metavar="SECONDS", help="of one request (default 600)")
    add(
        "--no_thinking_field", action="store_true",
        help="do not send chat_template_kwargs, for servers that know only OpenAI's fields",
    )  # fmt: skip

    add = parser.add_argument_group("instruction and sampling").add_argument
    add("--instruction_file", type=Path, metavar="FILE", help="text with {question} and both markers (default: ours)")
    add("--begin_marker", default=BEGIN_MARKER, help=f"(default {BEGIN_MARKER!r})")
    add("--end_marker", default=END_MARKER, help=f"(default {END_MARKER!r})")
    add("--temperature", type=float, default=0.7, help="(default 0.7)")
    add("--top_p", type=float, default=0.8, help="(default 0.8)")
    add("--top_k", type=int, default=0, help="(default 0: no limit)")
    add("--max_tokens", type=int, default=4096, help="longest response, thinking included (default 4096)")
    add("--seed", type=int, help="sample reproducibly, as far as the engine does (not with vLLM on a CPU)")

    add = parser.add_argument_group("checks of a rewrite").add_argument
    add("--max_retries", type=int, default=3, help="attempts after the first (default 3); raise it to go on later")
    add(
        "--on_invalid", choices=("retry", "drop", "keep"), default="retry",
        help="a rewrite that a validator objects to: sample again and in the end leave the row out (retry, default), "
        "leave it out at once (drop), keep it (keep); each is listed in the quarantine",
    )  # fmt: skip
    add("--skip_validators", default="", metavar="NAME,...", help="validators that are not asked")
    add("--min_length_ratio", type=float, default=Limits.min_length_ratio, help="too_short below (default %(default)s)")
    add("--max_length_ratio", type=float, default=Limits.max_length_ratio, help="too_long above (default %(default)s)")
    add(
        "--max_vanished_share", type=float, default=Limits.max_vanished_share,
        help="numbers_vanished above this share of the question's numbers (default %(default)s)",
    )  # fmt: skip

    add = parser.add_argument_group("do both wordings have the same answer?").add_argument
    add("--verify", action="store_true", help="let a model answer both wordings and compare the majorities")
    add(
        "--on_different", choices=("keep", "flag", "drop"), default="flag",
        help="a pair whose majorities differ: count it (keep), list it in the quarantine too (flag, default), "
        "leave it out (drop)",
    )  # fmt: skip
    add("--verify_samples", type=int, default=5, help="answers to each wording (default 5)")
    add(
        "--verify_min_agreement", type=float, default=0.6,
        help="0-1, share of the answers that a majority needs; otherwise undecided, and kept (default 0.6)",
    )  # fmt: skip
    add("--verify_equivalence", choices=MODES, default="math", help="when two answers are one (default math)")
    add("--verify_model_path", default="", help="another model (default: the one that rewrites)")
    add("--verify_base_url", default="", metavar="URL", help="another server")
    add("--verify_temperature", type=float, default=0.8, help="(default 0.8)")
    add("--verify_max_tokens", type=int, default=3072, help="(default 3072)")

    add = parser.add_argument_group("recording").add_argument
    add(
        "--batch_size", type=int, default=128,
        help="checkpointing interval: rows after which the disk is waited for (default 128); not a batch, all "
        "questions are handed to the engine at once",
    )  # fmt: skip
    return parser


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return known[text.lower()]


def _check(options: argparse.Namespace) -> None:
    for name, least in (
        ("max_samples", 0), ("tensor_parallel_size", 0), ("kv_cache_mb", 16), ("max_concurrency", 1),
        ("http_retries", 0), ("top_k", 0), ("max_tokens", 1), ("max_retries", 0), ("verify_samples", 1),
        ("verify_max_tokens", 1), ("batch_size", 1),
    ):  # fmt: skip
        if not getattr(options, name) >= least:
            raise UserError(f"--{name} {getattr(options, name)} is out of range: use {least} or more")
    for name in ("temperature", "verify_temperature"):
        if not 0 <= getattr(options, name) <= MAX_TEMPERATURE:
            raise UserError(
                f"--{name} {getattr(options, name)} is out of range: use a number from 0 to {MAX_TEMPERATURE:g}"
            )
    for name in ("gpu_memory_utilization", "top_p"):
        if not 0 < getattr(options, name) <= 1:
            raise UserError(f"--{name} {getattr(options, name)} is out of range: use a share above 0 and at most 1")
    if not 0 <= options.verify_min_agreement <= 1:
        raise UserError(
            f"--verify_min_agreement {options.verify_min_agreement} is out of range: use a share from 0 to 1"
        )
    if not options.http_timeout > 0:
        raise UserError(f"--http_timeout {options.http_timeout} is out of range: use seconds above 0")
    options.skip_validators = tuple(name for name in options.skip_validators.split(",") if name)
    for name in options.skip_validators:
        if name not in VALIDATORS:
            raise UserError(f"--skip_validators {name}: unknown, use names out of {', '.join(VALIDATORS)}")
    try:
        options.limits = Limits(
            options.min_length_ratio,
            options.max_length_ratio,
            options.max_vanished_share,
            Markers(options.begin_marker, options.end_marker),
        )
    except ValueError as error:
        raise UserError(f"--{error}") from None
    if options.restart == "verify" and not options.verify:
        raise UserError("--restart verify answers anew, which is only done with --verify: add it")
    needs_rewriter = options.rewrites_from is None
    if needs_rewriter and not options.model_path and not options.base_url:
        raise UserError("--model_path is missing: name a model for vLLM, or a server with --base_url")
    if (
        options.verify
        and not needs_rewriter
        and not any((options.model_path, options.base_url, options.verify_model_path, options.verify_base_url))
    ):
        raise UserError("--verify needs a model: name one with --model_path, or a server with --base_url")
    outputs = {name: getattr(options, name) for name in ("output_jsonl", "output_parquet", "output_original_parquet")}
    taken = {path.resolve(): name for name in ("input_path", "rewrites_from") if (path := getattr(options, name))}
    for name, path in outputs.items():
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"--{name} {path}: its folder must exist, and it must not be a folder itself")
        if (other := taken.setdefault(path.resolve(), name)) != name:
            raise UserError(f"--{name} {path} is --{other} too: name another file")
