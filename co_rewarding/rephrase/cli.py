# SPDX-License-Identifier: Apache-2.0
"""The command line of rewrite_questions.py: options, their checks, and the order of the work.

read the questions -> open the journal -> rewrite what is not settled -> answer both wordings (--verify) -> write the
outputs, the quarantine and the report.

Exit codes: 0 done; 1 done, but no row is left; 2 something to mend, told in one line; 3 the server stopped answering;
130 interrupted. After 3, 130 and any kill the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from co_rewarding.cpu.build import is_cpu
from co_rewarding.equivalence import MODES, Equivalence, WorkerError
from co_rewarding.files import json_line, whole, write_whole
from co_rewarding.journal import JournalError
from co_rewarding.rephrase.engines import (
    Engine,
    EngineDown,
    EngineError,
    Sampling,
    VLLMEngine,
)
from co_rewarding.rephrase.http_engine import HTTPEngine
from co_rewarding.rephrase.instruction import BEGIN_MARKER, END_MARKER, Instruction, InstructionError, Markers
from co_rewarding.rephrase.records import RewriteJournal
from co_rewarding.rephrase.report import Progress, check_fields, markdown, quarantine, summary
from co_rewarding.rephrase.rewriting import Outcome, Policy, Rewriting, judge
from co_rewarding.rephrase.table import Questions, TableError
from co_rewarding.rephrase.validators import VALIDATORS, Limits
from co_rewarding.rephrase.verify import SYSTEM_PROMPT, PairCheck, Verification
from co_rewarding.vllm_engine import EngineOptions, ModelError, prompt_ids

PROGRAM = "rewrite_questions.py"
DESCRIPTION = """\
Write each question of a parquet file a second time in other words, with any model that vLLM can run or an
OpenAI-compatible server can serve. Three files come out, aligned row by row: the rewrites as parquet and as JSONL,
and the originals. A run that was stopped goes on when the same command is given again."""


class UserError(Exception):
    """Something the user can mend; its message is one line."""


class Stopped(Exception):
    """The run ends before its end; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = parse(arguments)
        return run(options)
    except (UserError, InstructionError, JournalError, EngineError, ModelError, TableError, WorkerError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"{PROGRAM}: {stopped}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before there was anything to record", file=sys.stderr)
        return 130


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
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} FILES (--model_path MODEL | --base_url URL | --rewrites_from FILE) [OPTIONS]",
        description=DESCRIPTION,
        epilog=f"validators:\n{validators}\n\nexit codes: 0 done, 1 no row is left, 2 something to mend, 3 the server "
        "is down, 130 interrupted",
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
        "--restart", action="store_true",
        help="forget what an earlier run recorded in OUTPUT_JSONL.journal, and begin anew",
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
        ("verify_max_tokens", 1), ("batch_size", 1), ("temperature", 0), ("verify_temperature", 0),
    ):  # fmt: skip
        if not getattr(options, name) >= least:
            raise UserError(f"--{name} {getattr(options, name)} is out of range: use {least} or more")
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


@dataclass(frozen=True)
class EngineChoice:
    """Which engine answers: vLLM with a model, or a server."""

    model: str
    base_url: str = ""
    tokenizer: str = ""


def _rewriter(options: argparse.Namespace) -> EngineChoice:
    return EngineChoice(options.model_path, options.base_url, options.tokenizer_path)


def _verifier(options: argparse.Namespace) -> EngineChoice:
    if options.verify_base_url:
        return EngineChoice(options.verify_model_path, options.verify_base_url)
    if options.verify_model_path:
        same_server = options.base_url if options.base_url and not Path(options.verify_model_path).is_dir() else ""
        return EngineChoice(options.verify_model_path, same_server)
    return _rewriter(options)


class Engines:
    """At most one engine open at a time; asking for the open one gives it again."""

    def __init__(self, options: argparse.Namespace, questions_P: Sequence[str], instruction: Instruction) -> None:
        self._options, self._questions_P, self._instruction = options, questions_P, instruction
        self._open: tuple[EngineChoice, Engine] | None = None

    def get(self, choice: EngineChoice) -> Engine:
        if self._open is not None and self._open[0] == choice:
            return self._open[1]
        self.close()
        options = self._options
        if choice.base_url:
            engine: Engine = HTTPEngine(
                choice.base_url,
                choice.model,
                os.environ.get(options.api_key_env, ""),
                options.max_concurrency,
                options.http_retries,
                options.http_timeout,
                not options.no_thinking_field,
            )
        else:
            if options.seed is not None and is_cpu():
                raise UserError("--seed cannot be used with vLLM on a CPU, which a request's seed stops: leave it out")
            engine = VLLMEngine(
                choice.model,
                choice.tokenizer or None,
                self._context,
                EngineOptions(
                    options.tensor_parallel_size,
                    options.gpu_memory_utilization,
                    options.kv_cache_mb,
                    options.dtype,
                ),
            )
        self._open = (choice, engine)
        return engine

    def _context(self, tokenizer: Any) -> int:
        """Tokens that the longest prompt and its response need, in either stage."""
        longest = max(self._questions_P, key=len)
        options = self._options
        asked = len(prompt_ids(tokenizer, self._instruction.messages(longest), enable_thinking=options.enable_thinking))
        needed = asked + len(longest) // 4 + options.max_tokens
        if options.verify:
            answered = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": longest + longest}]
            needed = max(
                needed, len(prompt_ids(tokenizer, answered, enable_thinking=False)) + options.verify_max_tokens
            )
        return needed

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def run(options: argparse.Namespace) -> int:
    """All of it; the exit code."""
    instruction = Instruction.from_file(options.instruction_file, Markers(options.begin_marker, options.end_marker))
    questions = Questions(options.input_path, options.question_column, options.max_samples)
    questions_P = questions.questions_P
    policy = Policy(options.on_invalid, options.max_retries, options.limits, options.skip_validators)
    engines = Engines(options, questions_P, instruction)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.rewrites_from is not None:
            outcomes = _given(options, questions, policy)
        else:
            outcomes = _rewrite(options, questions_P, instruction, policy, engines)
        checks = _verify(options, questions_P, outcomes, engines) if options.verify else []
    finally:
        engines.close()
    try:
        return _write(options, questions, outcomes, checks)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}") from None


def _given(options: argparse.Namespace, questions: Questions, policy: Policy) -> list[Outcome]:
    """Outcomes of rewrites that exist."""
    rewrites = Questions(options.rewrites_from, options.question_column, options.max_samples)
    if len(rewrites) != len(questions):
        raise UserError(
            f"--rewrites_from {rewrites.path} has {len(rewrites):,} rows, {questions.path} has {len(questions):,}: "
            "they must be the same rows in the same order"
        )
    progress = Progress("checking", "rows", len(questions))
    outcomes = []
    for row, (question, rewrite) in enumerate(zip(questions.questions_P, rewrites.questions_P, strict=True)):
        outcomes.append(judge(row, question, rewrite, policy))
        progress.step()
    return outcomes


def _rewrite(
    options: argparse.Namespace,
    questions_P: Sequence[str],
    instruction: Instruction,
    policy: Policy,
    engines: Engines,
) -> list[Outcome]:
    path = options.output_jsonl.with_name(options.output_jsonl.name + ".journal")
    settings = {
        "input": _digest(*questions_P),
        "question_column": options.question_column,
        "model": options.model_path,
        "instruction": _digest(instruction.template, instruction.markers.begin, instruction.markers.end),
        **_sampling_settings(options),
    }
    sampling = Sampling(options.temperature, options.top_p, options.top_k, options.max_tokens, options.enable_thinking)
    with RewriteJournal(path, settings, options.restart, options.batch_size) as journal:
        work = Rewriting(questions_P, instruction, policy, journal, sampling, options.seed)
        progress = Progress("rewriting", "rows", len(questions_P), len(work.outcomes))

        def shown(outcome: Outcome) -> None:
            again = work.num_repeated
            progress.remark = f", {again:,} further attempts" if again > 0 else ""
            progress.step()

        if not work.pending():
            return work.in_order()
        with _stoppable(progress, path):
            return work.run(engines.get(_rewriter(options)), shown)


def _verify(
    options: argparse.Namespace, questions_P: Sequence[str], outcomes: Sequence[Outcome], engines: Engines
) -> list[PairCheck]:
    pairs = [(o.row, questions_P[o.row], o.rewrite) for o in outcomes if o.rewrite is not None]
    choice = _verifier(options)
    path = options.output_jsonl.with_name(options.output_jsonl.name + ".verify.journal")
    settings = {
        "verify_model": choice.model,
        "verify_temperature": options.verify_temperature,
        "verify_max_tokens": options.verify_max_tokens,
        "seed": options.seed,
    }
    sampling = Sampling(options.verify_temperature, 1.0, 0, options.verify_max_tokens)
    with RewriteJournal(path, settings, options.restart, options.batch_size) as journal:
        work = Verification(
            pairs, journal, sampling, options.verify_samples, options.verify_min_agreement, options.seed
        )
        pending = len(work.pending())
        progress = Progress("answering", "answers", work.num_answers, work.num_answers - pending)
        with _stoppable(progress, path):
            if pending:
                work.run(engines.get(choice), progress.step)
            with Equivalence(options.verify_equivalence) as equivalence:
                return work.checks(equivalence.same)


@contextmanager
def _stoppable(progress: Progress, journal: Path) -> Iterator[None]:
    """Turns an interruption or an outage into Stopped, with what is safe and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, EngineDown) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        why = "interrupted" if interrupted else f"stopped: {error}"
        done = f"{progress.line_short()} and recorded in {journal}"
        raise Stopped(f"{why}\n{done}. Give the same command again to go on.", 130 if interrupted else 3) from None


def _write(options: argparse.Namespace, questions: Questions, outcomes: list[Outcome], checks: list[PairCheck]) -> int:
    """Outputs, quarantine, report; the exit code."""
    dropped = {c.row for c in checks if c.verdict == "different"} if options.on_different == "drop" else set()
    kept = [outcome for outcome in outcomes if outcome.is_kept and outcome.row not in dropped]
    stem = options.output_jsonl.with_suffix("")
    quarantine_path, report_path = Path(f"{stem}.quarantine.jsonl"), Path(f"{stem}.report.md")
    listed = [] if options.on_different == "keep" else checks
    _write_lines(quarantine(outcomes, questions.questions_P, listed, dropped), quarantine_path)
    report = markdown(
        f"Rewriting of {options.input_path.name}",
        _told(options),
        outcomes,
        questions.questions_P,
        checks,
        dropped,
    )
    write_whole(report_path, report)
    print(summary(outcomes, checks, dropped))
    if not kept:
        print(f"{PROGRAM}: no row is left, so no output was written; the reasons: {report_path}", file=sys.stderr)
        return 1
    rows = [outcome.row for outcome in kept]
    verdicts = {check.row: check for check in checks}
    _write_lines(
        (
            {
                "row": o.row,
                "question": questions.questions_P[o.row],
                "rewrite": o.rewrite,
                "attempts": o.attempts,
                "findings": [str(finding) for finding in o.findings],
                **({"verify": check_fields(verdicts[o.row])} if o.row in verdicts else {}),
            }
            for o in kept
        ),
        options.output_jsonl,
    )
    questions.write_rewritten(rows, [o.rewrite or "" for o in kept], options.output_parquet)
    questions.write_original(rows, options.output_original_parquet)
    for path in (options.output_parquet, options.output_original_parquet, options.output_jsonl):
        print(f"  {path}: {len(kept):,} rows")
    print(f"  {quarantine_path}, {report_path}")
    return 0


def _write_lines(objects: Iterable[dict[str, Any]], path: Path) -> None:
    with whole(path) as part, part.open("wb") as out:
        out.writelines(map(json_line, objects))


def _sampling_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "max_tokens", "seed", "enable_thinking", "tokenizer_path")
    return {name: getattr(options, name) for name in names}


def _told(options: argparse.Namespace) -> dict[str, Any]:
    """Settings for the report."""
    names = ["input_path"]
    if options.rewrites_from is not None:
        names.append("rewrites_from")
    else:
        names += ["model_path", "temperature", "top_p", "top_k", "max_tokens", "seed", "enable_thinking", "max_retries"]
    names += ["on_invalid", "skip_validators"]
    if options.verify:
        names += ["verify_samples", "verify_min_agreement", "verify_equivalence", "on_different"]
    told = {name: getattr(options, name) for name in names}
    if options.verify:
        told["verify_model"] = _verifier(options).model
    return told


def _digest(*texts: str) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return found.hexdigest()
