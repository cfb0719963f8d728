# SPDX-License-Identifier: Apache-2.0
"""Runs rewrite_questions.py, from options to exit code.

read the questions -> open the journal -> rewrite unsettled rows -> answer both views (--verify) -> write the outputs,
the quarantine and the report.

Exit codes: 0 done; 1 done, but no rows remain; 2 a user error, reported in one line; 3 the server or
vLLM stopped answering; 130 interrupted. After 3, 130 and any kill the same command resumes.
"""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from co_rewarding.algo.equivalence.relation import Equivalence
from co_rewarding.storage.files import atomic_write, atomic_write_text, json_line
from co_rewarding.storage.journal import Journal
from co_rewarding.storage.messages import template_in
from co_rewarding.tools.cli import UserError, command, progress
from co_rewarding.tools.data.markers import Markers
from co_rewarding.tools.generation.engine import (
    Engine,
    EngineDown,
    LocalOptions,
    Sampling,
    ServerOptions,
    open_engine,
)
from co_rewarding.tools.generation.vllm_engine import prompt_ids
from co_rewarding.tools.rephrase.instruction import Instruction
from co_rewarding.tools.rephrase.options import PROGRAM, RewriteOptions, parse_options
from co_rewarding.tools.rephrase.report import check_fields, quarantine, report, summary
from co_rewarding.tools.rephrase.rewriting import Outcome, Policy, Rewriting, judge, record_key
from co_rewarding.tools.rephrase.table import Questions
from co_rewarding.tools.rephrase.verify import PairCheck, Verification


class Stopped(Exception):
    """The run ends early; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@command(PROGRAM)
def main(arguments: Sequence[str]) -> int:
    try:
        return run(parse_options(arguments))
    except Stopped as stopped:
        print(f"{PROGRAM}: {stopped}", file=sys.stderr)
        return stopped.code


def run(options: RewriteOptions) -> int:
    """Run everything; return the exit code."""
    files, model = options.files, options.model
    instruction = Instruction.from_file(
        options.asking.instruction_file, Markers(options.asking.begin_marker, options.asking.end_marker)
    )
    questions = Questions(files.input_path, files.question_column, files.max_samples, files.answer_format)
    checking = options.checking
    policy = Policy(checking.on_invalid, checking.max_retries, instruction.markers, checking.skip_validators)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Engines(options, questions, instruction) as engines:
        if model.rewrites_from is not None:
            outcomes, writers = _given(options, questions, policy), [str(model.rewrites_from)]
        else:
            outcomes, writers = _rewrite(options, questions, instruction, policy, engines)
        checks = _verify(options, questions, outcomes, engines) if options.verifying.verify else []
    return _write(options, questions, Result(outcomes, checks, writers))


def _given(options: RewriteOptions, questions: Questions, policy: Policy) -> list[Outcome]:
    """Outcomes of existing rewrites."""
    files = options.files
    rewrites = Questions(options.model.rewrites_from, files.question_column, files.max_samples, files.answer_format)
    if len(rewrites) != len(questions):
        raise UserError(
            f"--rewrites_from {rewrites.path} has {len(rewrites):,} rows, {questions.path} has {len(questions):,}: "
            "they must be the same rows in the same order"
        )
    outcomes = []
    with progress("checking", "rows", len(questions)) as bar:
        for row, (question, rewrite) in enumerate(zip(questions.questions_P, rewrites.questions_P, strict=True)):
            outcomes.append(judge(row, question, rewrite, policy))
            bar.update()
    return outcomes


def _rewrite(
    options: RewriteOptions, questions: Questions, instruction: Instruction, policy: Policy, engines: Engines
) -> tuple[list[Outcome], list[str]]:
    """Outcomes, and the models that wrote them."""
    asking, thinking = options.asking, options.model.enable_thinking
    drawn = {"temperature": asking.temperature, "top_p": asking.top_p, "top_k": asking.top_k}
    drawn["max_tokens"] = asking.max_tokens
    settings = {
        "input": _digest(*questions.texts),  # of the complete file, independent of --max_samples
        "question_column": options.files.question_column,
        "model": options.model.model_path,
        "instruction": _digest(instruction.template, instruction.markers.begin, instruction.markers.end),
        **drawn,
        "seed": asking.seed,
        "enable_thinking": thinking,
        "tokenizer_path": options.model.tokenizer_path,
        "chat_template": _template(options.local),
    }
    sampling = Sampling(**drawn, chat_template_kwargs={"enable_thinking": thinking})
    with _journal(options, "journal", settings, "--restart") as journal:
        work = Rewriting(questions.questions_P, instruction, policy, journal, sampling, asking.seed)
        if work.pending():
            with _counted("rewriting", "rows", len(questions), len(work.outcomes), journal) as step:
                work.run(engines.get(options.model.model_path, options.server), step)
        return work.in_order(), work.writers or [options.model.model_path]


def _verify(
    options: RewriteOptions, questions: Questions, outcomes: Sequence[Outcome], engines: Engines
) -> list[PairCheck]:
    pairs = [(o.row, questions.questions_P[o.row], o.rewrite) for o in outcomes if o.rewrite is not None]
    verifying, seed = options.verifying, options.asking.seed
    settings = {
        "verify_model": options.judge[0],
        "verify_temperature": verifying.verify_temperature,
        "verify_max_tokens": verifying.verify_max_tokens,
        "seed": seed,
        "chat_template": _template(_local_of(options, options.judge[0])),
    }
    sampling = Sampling(
        verifying.verify_temperature,
        top_p=1.0,
        max_tokens=verifying.verify_max_tokens,
        chat_template_kwargs={"enable_thinking": False},
    )
    with _journal(options, "verify.journal", settings, "--restart verify") as journal:
        work = Verification(
            pairs, journal, sampling, verifying.verify_samples, verifying.verify_min_agreement, seed, questions.asked
        )  # fmt: skip
        if pending := len(work.pending()):
            with _counted("answering", "answers", work.num_answers, work.num_answers - pending, journal) as step:
                work.run(engines.get(*options.judge), step)
        with Equivalence() as equivalence:
            return work.checks(equivalence.same)


def _journal(options: RewriteOptions, ending: str, settings: dict[str, Any], restart_option: str) -> Journal:
    restart = options.files.restart
    path = options.files.output_jsonl
    return Journal(
        path.with_name(f"{path.name}.{ending}"),
        settings,
        record_key,
        restart=restart == "all" or (restart is not None and restart_option.endswith(restart)),
        restart_option=restart_option,
        digests={
            "input": f"questions than {options.files.input_path} has now",
            "instruction": "instruction (--instruction_file or markers)",
        },
        checkpoint=options.recording.batch_size,
    )


@contextmanager
def _counted(what: str, unit: str, total: int, already: int, journal: Journal) -> Iterator[Callable[[], None]]:
    """Counts progress; turns an interruption or an outage into Stopped, with the saved part and how to resume."""
    if already:
        print(f"{what}: resuming, {already:,} of {total:,} {unit} are done", file=sys.stderr, flush=True)
    with progress(what, unit, total, already) as bar:
        try:
            yield bar.update
        except (KeyboardInterrupt, EngineDown) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            why = "interrupted" if interrupted else f"stopped: {error}"
            done = f"{bar.n:,} of {total:,} {unit} are finished and recorded in {journal.path}"
            raise Stopped(f"{why}\n{done}. Run the same command again to resume.", 130 if interrupted else 3) from None


@dataclass(frozen=True)
class Result:
    """The results of a run."""

    outcomes: Sequence[Outcome]
    checks: Sequence[PairCheck]
    writers: Sequence[str]  # models, or a file


def _write(options: RewriteOptions, questions: Questions, result: Result) -> int:
    """Outputs, quarantine, report; the exit code."""
    files, on_different = options.files, options.verifying.on_different
    checks = result.checks
    dropped = {c.row for c in checks if c.verdict == "different"} if on_different == "drop" else set()
    kept = [outcome for outcome in result.outcomes if outcome.is_kept and outcome.row not in dropped]
    stem = files.output_jsonl.with_suffix("")
    quarantine_path, report_path = Path(f"{stem}.quarantine.jsonl"), Path(f"{stem}.report.md")
    listed = [] if on_different == "keep" else checks
    _write_lines(quarantine(result.outcomes, questions.questions_P, listed, dropped), quarantine_path)
    settings = _settings_of_report(options, result.writers)
    atomic_write_text(
        report_path, report(files.input_path.name, settings, result.outcomes, questions.questions_P, checks, dropped)
    )
    print(summary(result.outcomes, checks, dropped))
    if not kept:
        print(f"{PROGRAM}: no rows remain, so no output was written; reasons: {report_path}", file=sys.stderr)
        return 1
    rows = [outcome.row for outcome in kept]
    verdicts = {check.row: check for check in checks}
    _write_lines((_kept_row(o, questions.questions_P[o.row], verdicts.get(o.row)) for o in kept), files.output_jsonl)
    questions.write_rewritten(
        rows, [o.rewrite or "" for o in kept], files.output_parquet, made_of=f"rephrased by {', '.join(result.writers)}"
    )
    questions.write_original(rows, files.output_original_parquet)
    for path in (files.output_parquet, files.output_original_parquet, files.output_jsonl):
        print(f"  {path}: {len(kept):,} rows")
    print(f"  {quarantine_path}, {report_path}")
    return 0


def _kept_row(outcome: Outcome, question: str, check: PairCheck | None) -> dict[str, Any]:
    return {
        "row": outcome.row,
        "question": question,
        "rewrite": outcome.rewrite,
        "attempts": outcome.attempts,
        "findings": [str(finding) for finding in outcome.findings],
        **({"verify": check_fields(check)} if check is not None else {}),
    }


def _write_lines(objects: Iterable[dict[str, Any]], path: Path) -> None:
    with atomic_write(path) as part, part.open("wb") as out:
        out.writelines(map(json_line, objects))


def _settings_of_report(options: RewriteOptions, writers: Sequence[str]) -> dict[str, Any]:
    """What the report lists: of the options, those that were used."""
    asking, checking, verifying = options.asking, options.checking, options.verifying
    settings: dict[str, Any] = {"input_path": options.files.input_path}
    if options.model.rewrites_from is not None:
        settings["rewrites_from"] = options.model.rewrites_from
    else:
        settings["model"] = ", ".join(writers) + (" (a server)" if options.server.base_url else "")
        settings |= asking.model_dump(include={"temperature", "top_p", "top_k", "max_tokens", "seed"})
        settings |= {"enable_thinking": options.model.enable_thinking, "max_retries": checking.max_retries}
    settings |= {"on_invalid": checking.on_invalid, "skip_validators": ", ".join(checking.skip_validators) or "none"}
    if verifying.verify:
        settings["verify_model"] = options.judge[0] or "the same"
        settings |= verifying.model_dump(include={"verify_samples", "verify_min_agreement", "on_different"})
    return settings


def _local_of(options: RewriteOptions, model: str) -> LocalOptions:
    """With --chat_template for the first model that runs here; a separate judge uses its own."""
    is_meant = model == options.model.model_path or not options.model.model_path or bool(options.server.base_url)
    return options.local if is_meant else options.local.model_copy(update={"chat_template": None})


def _template(local: LocalOptions) -> str | None:
    return _digest(template_in(local.chat_template)) if local.chat_template else None


def _digest(*texts: str) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return found.hexdigest()


class Engines:
    """Opens engines on demand, at most one at a time; reuses the open one."""

    def __init__(self, options: RewriteOptions, questions: Questions, instruction: Instruction) -> None:
        self._options, self._questions, self._instruction = options, questions, instruction
        self._open: tuple[tuple[str, ServerOptions], Engine] | None = None

    def __enter__(self) -> Engines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open[1].close()

    def get(self, model: str, server: ServerOptions) -> Engine:
        if self._open is not None and self._open[0] == (model, server):
            return self._open[1]
        self.__exit__()
        self._open = None
        paths = self._options.model
        tokenizer = paths.tokenizer_path if model == paths.model_path else ""
        engine = open_engine(model, server, _local_of(self._options, model), self._room, tokenizer=tokenizer)
        self._open = ((model, server), engine)
        return engine

    def _room(self, tokenizer: Any) -> int:
        """Tokens needed by the longest prompt and its response, in either stage."""
        texts = self._questions.questions_P
        longest = max(texts, key=len)
        options, thinking = self._options, self._options.model.enable_thinking
        rewritten = len(prompt_ids(tokenizer, self._instruction.messages(longest), enable_thinking=thinking))
        needed = rewritten + len(longest) // 4 + options.asking.max_tokens
        if options.verifying.verify:
            asked = max(map(self._questions.asked, range(len(texts))), key=lambda asked: len(asked.system))
            answered = asked.messages(longest + longest)
            needed = max(needed, len(prompt_ids(tokenizer, answered)) + options.verifying.verify_max_tokens)
        return needed
