# SPDX-License-Identifier: Apache-2.0
"""A run of rewrite_questions.py from its options to its exit code: the order of the work.

read the questions -> open the journal -> rewrite what is not settled -> answer both wordings (--verify) -> write the
outputs, the quarantine and the report.

Exit codes: 0 done; 1 done, but no row is left; 2 a user error, reported in one line; 3 the server or
vLLM stopped answering; 130 interrupted. After 3, 130 and any kill the same command goes on.
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
from typing import Any

from co_rewarding.algo.equivalence.relation import Equivalence, WorkerError
from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.files import atomic_write, atomic_write_text, json_line
from co_rewarding.storage.journal import JournalError
from co_rewarding.tools.cli import Progress, UserError
from co_rewarding.tools.data.markers import Markers
from co_rewarding.tools.generation.engine import Engine, EngineDown, EngineError, Sampling, VLLMEngine
from co_rewarding.tools.generation.http_engine import HTTPEngine
from co_rewarding.tools.generation.vllm_engine import EngineOptions, ModelError, prompt_ids
from co_rewarding.tools.rephrase.instruction import Instruction, InstructionError
from co_rewarding.tools.rephrase.options import PROGRAM, parse
from co_rewarding.tools.rephrase.report import check_fields, markdown, quarantine, summary
from co_rewarding.tools.rephrase.rewriting import AnswerJournal, Outcome, Policy, RewriteJournal, Rewriting, judge
from co_rewarding.tools.rephrase.table import Questions, TableError
from co_rewarding.tools.rephrase.verify import SYSTEM_PROMPT, PairCheck, Verification


class Stopped(Exception):
    """The run ends before its end; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return run(parse(arguments))
    except (UserError, InstructionError, JournalError, EngineError, ModelError, TableError, WorkerError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"{PROGRAM}: {stopped}", file=sys.stderr)
        return stopped.code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before there was anything to record", file=sys.stderr)
        return 130


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
            outcomes = _rewrite(options, questions, instruction, policy, engines)
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
    questions: Questions,
    instruction: Instruction,
    policy: Policy,
    engines: Engines,
) -> list[Outcome]:
    questions_P = questions.questions_P
    path = options.output_jsonl.with_name(options.output_jsonl.name + ".journal")
    settings = {
        "input": _digest(*questions.texts),  # of the whole file, whatever --max_samples is
        "question_column": options.question_column,
        "model": options.model_path,
        "instruction": _digest(instruction.template, instruction.markers.begin, instruction.markers.end),
        **_sampling_settings(options),
    }
    sampling = Sampling(options.temperature, options.top_p, options.top_k, options.max_tokens, options.enable_thinking)
    with RewriteJournal(path, settings, options.restart == "all", options.batch_size) as journal:
        work = Rewriting(questions_P, instruction, policy, journal, sampling, options.seed)
        progress = Progress("rewriting", "rows", len(questions_P), len(work.outcomes))

        def shown(outcome: Outcome) -> None:
            again = work.num_repeated
            progress.remark = f", {again:,} further attempts" if again > 0 else ""
            progress.step()

        if not work.pending():
            return work.in_order()
        with _stoppable(progress, path):
            return work.run(engines.get(rewriter(options)), shown)


def _verify(
    options: argparse.Namespace, questions_P: Sequence[str], outcomes: Sequence[Outcome], engines: Engines
) -> list[PairCheck]:
    pairs = [(o.row, questions_P[o.row], o.rewrite) for o in outcomes if o.rewrite is not None]
    choice = verifier(options)
    path = options.output_jsonl.with_name(options.output_jsonl.name + ".verify.journal")
    settings = {
        "verify_model": choice.model,
        "verify_temperature": options.verify_temperature,
        "verify_max_tokens": options.verify_max_tokens,
        "seed": options.seed,
    }
    sampling = Sampling(options.verify_temperature, 1.0, 0, options.verify_max_tokens)
    with AnswerJournal(path, settings, options.restart is not None, options.batch_size) as journal:
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
    atomic_write_text(report_path, report)
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
    with atomic_write(path) as part, part.open("wb") as out:
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
        told["verify_model"] = verifier(options).model
    return told


def _digest(*texts: str) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return found.hexdigest()


# --- which engine rewrites and which one answers, opened when it is needed


@dataclass(frozen=True)
class EngineChoice:
    """Which engine answers: vLLM with a model, or a server."""

    model: str
    base_url: str = ""
    tokenizer: str = ""


def rewriter(options: argparse.Namespace) -> EngineChoice:
    return EngineChoice(options.model_path, options.base_url, options.tokenizer_path)


def verifier(options: argparse.Namespace) -> EngineChoice:
    if options.verify_base_url:
        return EngineChoice(options.verify_model_path, options.verify_base_url)
    if options.verify_model_path:
        same_server = options.base_url if options.base_url and not Path(options.verify_model_path).is_dir() else ""
        return EngineChoice(options.verify_model_path, same_server)
    return rewriter(options)


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
            how = EngineOptions(
                options.tensor_parallel_size, options.gpu_memory_utilization, options.kv_cache_mb, options.dtype
            )
            engine = VLLMEngine(choice.model, choice.tokenizer or choice.model, self._context, how)
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
            asked = len(prompt_ids(tokenizer, answered, enable_thinking=False))
            needed = max(needed, asked + options.verify_max_tokens)
        return needed

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
