# SPDX-License-Identifier: Apache-2.0
"""Runs scripts/evaluate.py, from options to exit code.

    --model     check everything -> generate missing responses -> grade -> lm_eval -> results.json and tables
    --regrade   grade saved responses again -> scores, and differences from the stored verdicts
    --compare   tables of existing results

An evaluation's directory:
    results.json                     scores and everything they depend on
    table.md, .csv, .tex, details.csv
    generations/TASK.jsonl           every response in order of arrival; an evaluation resumes from it
    graded/TASK.jsonl                the same with answer and verdict
    lm_eval/TASK/                    lm_eval's output and log

Tasks of other calls stay in results.json with their settings, whether those calls ran before or concurrently: the file
is locked and read again for each entry.

Exit codes: 0 done; 2 a user error, reported in one line; 3 the server or vLLM stopped answering; 130 interrupted. After
3, 130 and any kill the same command resumes.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from co_rewarding.algo.answer_format import BOXED
from co_rewarding.algo.equivalence.relation import TIMEOUT_S, Equivalence
from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.journal import Journal
from co_rewarding.storage.provenance import commit, versions
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import UserError, command, printable
from co_rewarding.tools.evaluation import harness
from co_rewarding.tools.evaluation.generate import Generation, engine_seed, generate, missing, of_set, record_key
from co_rewarding.tools.evaluation.grade import Graded, grade, group, read_saved, scores
from co_rewarding.tools.evaluation.model import Model, run_of
from co_rewarding.tools.evaluation.options import PROGRAM, EvaluateOptions, parse_options
from co_rewarding.tools.evaluation.protocols import TRAINING, Protocol
from co_rewarding.tools.evaluation.results import (
    EXPORT_NAME,
    FILE_NAME,
    FORMAT,
    METHOD_ORDER,
    PACKAGES,
    Result,
    find_results,
    in_paper_order,
    read_result,
    write_result,
)
from co_rewarding.tools.evaluation.tables import make_table, markdown, write_tables
from co_rewarding.tools.evaluation.tasks import MATHS, QuestionSet, default_file, in_table_order, read_questions
from co_rewarding.tools.generation.engine import EngineDown, Sampling
from co_rewarding.tools.generation.vllm_engine import num_gpus

MAX_SHOWN = 5  # differing verdicts to print


@command(PROGRAM)
def main(arguments: Sequence[str]) -> int:
    options = parse_options(arguments)
    if options.what.compare:
        return compare(options)
    if options.what.regrade:
        return regrade(options)
    try:
        return evaluate(options)
    except (EngineDown, KeyboardInterrupt) as error:
        why, code = (f"stopped: {error}", 3) if isinstance(error, EngineDown) else ("interrupted", 130)
        print(f"{PROGRAM}: {why}\nFinished responses are kept: the same command resumes.", file=sys.stderr)
        return code


# --- --model


def evaluate(options: EvaluateOptions) -> int:
    exported = _export_facts(options.what.model)
    options = _as_trained(options, exported.pop("chat_template_kwargs", {}), exported.pop("answer_format", ""))
    with ExitStack() as stack:
        model = Model(options, stack)
        name = options.output.name or exported.get("name") or model.row_name
        run = run_of(options.what.model)
        folder = options.output.output_dir or (run or RunDir("runs")).evaluation / re.sub(r"[^\w.-]+", "-", name)
        restart = options.output.restart
        # faults of folder, data or lm_eval calls are reported before hours of generation
        _earlier(folder, model.fingerprint, restart)
        result = _result(options, name)
        result["method"] = result["method"] or exported.get("method")
        result["model"] = {"path": options.what.model or None, "fingerprint": model.fingerprint}
        questions = options.questions
        sets = [
            read_questions(
                task,
                options.files.get(task) or default_file(questions.data_dir, task),
                options.drawing.samples or (1 if options.drawing.temperature == 0 else None),
                questions.limit,
                questions.answer_format if task in options.files else "",
            )
            for task in options.tasks
            if task not in harness.TASKS
        ]
        calls = _harness_calls(options, model.fingerprint, folder.absolute())
        if sets:
            _evaluate_maths(options, sets, model, folder, result)
            _add(folder, result, restart)
    for task, (command_words, where) in calls.items():
        if restart and where.is_dir():
            shutil.rmtree(where)
        data = options.files.get(task)
        found = harness.run(task, command_words, model.fingerprint, where, data)
        entry = harness.read_scores(task, found)
        entry["data"]["folder"] = str(data) if data else None
        entry["sampling"] = {"dtype": options.local.dtype}
        arguments = options.harness.lm_eval_args
        result["tasks"][task] = {**entry, "command": command_words[1:], "arguments": arguments}
        _add(folder, result, restart)
    print(markdown(make_table([(folder / FILE_NAME, read_result(folder / FILE_NAME))])))
    print(f"results: {folder}")
    if run is not None and folder.resolve().is_relative_to(run.evaluation.resolve()):
        table = make_table(in_paper_order(find_results([run.evaluation])))
        print(f"table of this run directory: {write_tables(run.evaluation, table)[0]}")
    return 0


def _evaluate_maths(
    options: EvaluateOptions, sets: Sequence[QuestionSet], model: Model, folder: Path, result: Result
) -> None:
    """Generate, grade, and put the entry of each set into `result`."""
    drawing = options.drawing
    sampling = Sampling(
        drawing.temperature,
        drawing.top_p,
        max_tokens=drawing.max_tokens,
        chat_template_kwargs=drawing.chat_template_kwargs,
    )
    with ExitStack() as stack:
        journals = {}
        for asked in sets:
            settings = model.settings(asked, sampling, drawing.seed)
            settings |= {"model": model.fingerprint, "data": asked.content_sha256}
            path = folder / "generations" / f"{asked.name}.jsonl"
            digests = {"data": f"questions than {asked.path} has now"}
            journal = Journal(path, settings, record_key, restart=options.output.restart, digests=digests)
            journals[asked.name] = stack.enter_context(journal)
        if wanted := missing(sets, journals):
            print(f"{PROGRAM}: {len(wanted):,} responses to generate", file=sys.stderr, flush=True)
            engine = model.engine(sets, engine_seed(drawing.seed, journals))
            if failed := generate(engine, wanted, journals, sampling, drawing.seed):
                raise EngineDown(f"the server failed on {failed:,} of {len(wanted):,} requests and answered the rest")
        for asked in sets:
            graded, entry = _score(of_set(journals[asked.name], asked), options.output.equivalence, asked.protocol)
            _write_lines(
                folder / "graded" / f"{asked.name}.jsonl",
                [row.as_row() for graded_G in group(graded) for row in graded_G],
            )
            first = asked.questions[0]
            result["tasks"][asked.name] = {
                **entry,
                "protocol": asked.protocol.name,
                "num_rows": asked.num_rows,
                "data": {
                    "file": str(asked.path),
                    "file_sha256": asked.file_sha256,
                    "content_sha256": asked.content_sha256,
                },
                "sampling": {
                    "n": asked.samples,
                    **model.settings(asked, sampling, drawing.seed),
                    "seeding": model.seeding,
                },
                "prompt": {
                    "system": next((m["content"] for m in first.messages if m["role"] == "system"), None),
                    "example": model.example(asked, sampling),
                },
            }


def _score(
    generations: Sequence[Generation], mode: str, protocol: Protocol = TRAINING
) -> tuple[list[Graded], dict[str, Any]]:
    """Verdicts in the order of `generations`, and the scores with their grader."""
    with Equivalence(mode=mode) as equivalence:
        graded = grade(generations, equivalence.same, protocol)
        found = scores(group(graded), equivalence.same)
        counts = equivalence.counts
    made_with = versions(PACKAGES)
    formats = ", ".join(sorted({generation.answer_format or BOXED for generation in generations}))
    where = f"answer format {formats}" if protocol is TRAINING else "anywhere, by math-verify"
    grader = {
        "extraction": f"{where} (protocol {protocol.name})",
        "equivalence": mode,
        "timeout_s": TIMEOUT_S,
        "co-rewarding": made_with["co-rewarding"],
        "commit": commit(),
        "math-verify": made_with.get("math-verify"),
        "sympy": made_with.get("sympy"),
    }
    return graded, found | {"grader": grader, "comparisons": asdict(counts)}


def _harness_calls(options: EvaluateOptions, fingerprint: str, folder: Path) -> dict[str, tuple[list[str], Path]]:
    """Command line and folder by task."""
    tasks = [task for task in options.tasks if task in harness.TASKS]
    local = options.local
    if tasks and not is_cpu():
        local = local.model_copy(update={"tensor_parallel_size": num_gpus(options.what.model, local)})
    how = harness.HarnessOptions(
        local=local,
        command=options.harness.lm_eval,
        extra=options.harness.lm_eval_args,
        limit=options.questions.limit,
        seed=options.drawing.seed,
        on_cpu=is_cpu(),
        confirm_run_unsafe_code=options.harness.confirm_run_unsafe_code,
    )
    calls = {}
    for task in tasks:
        where = folder / "lm_eval" / task
        calls[task] = (harness.command_line(task, options.what.model, where, how), where)
        if not options.output.restart:
            harness.check_folder(calls[task][0], fingerprint, where, options.files.get(task))
    return calls


def _result(options: EvaluateOptions, name: str) -> Result:
    """The head of a result, with the tasks of this call."""
    return {
        "format": FORMAT,
        "name": name,
        "method": options.output.method,
        "base_model": options.output.base_model,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(PACKAGES),
        "commit": commit(),
        "tasks": {},
    }


def _earlier(folder: Path, fingerprint: str | None, restart: bool) -> Result:
    """The existing result to extend, {} if there is none."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    result = read_result(path)
    found = (result.get("model") or {}).get("fingerprint")
    if found == fingerprint:
        return result
    if restart:
        return {}
    raise UserError(
        f"{path} is from another model ({found}, this is {fingerprint}): choose another --output_dir, or discard it "
        "away with --restart"
    )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    atomic_write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _add(folder: Path, result: Result, restart: bool) -> None:
    """Merge the tasks of `result` into the current results.json, to which another call may have added some."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks: reading again must do
            stack.enter_context(FileLock(folder / f".{FILE_NAME}.lock"))
        earlier = _earlier(folder, result["model"]["fingerprint"], restart)
        kept = {key: result[key] or earlier.get(key) for key in ("method", "base_model")}
        _write(folder, result | kept | {"tasks": {**earlier.get("tasks", {}), **result["tasks"]}})


def _write(folder: Path, result: Result) -> None:
    result["tasks"] = {task: result["tasks"][task] for task in in_table_order(list(result["tasks"]))}
    write_tables(folder, make_table([(write_result(folder, result), result)]))


def _as_trained(options: EvaluateOptions, kwargs: dict[str, Any], spec: str) -> EvaluateOptions:
    """With the run's chat template arguments and answer format, unless others are given."""
    if spec and options.files and "answer_format" not in options.questions.model_fields_set:
        print(f"{PROGRAM}: as in training: --answer_format '{spec}'", file=sys.stderr)
        options = replace(options, questions=options.questions.model_copy(update={"answer_format": spec}))
    is_given = "chat_template_kwargs" in options.drawing.model_fields_set
    if not kwargs or is_given or all(task in harness.TASKS for task in options.tasks):
        return options
    print(f"{PROGRAM}: as in training: --chat_template_kwargs '{json.dumps(kwargs)}'", file=sys.stderr)
    return replace(options, drawing=options.drawing.model_copy(update={"chat_template_kwargs": kwargs}))


def _export_facts(model: str) -> dict[str, Any]:
    """Method, name and prompt settings of a model from scripts/export_checkpoint.py; {} for any other."""
    try:
        facts = json.loads((Path(model) / EXPORT_NAME).read_text(encoding="utf-8"))
        name = f"{facts['run']}-step_{facts['step']}_{facts['weights']}"
        kwargs = facts.get("chat_template_kwargs", {})
        spec = facts.get("answer_format", "")
        if not isinstance(kwargs, dict) or not isinstance(spec, str):
            return {}
        method = facts["method"] if facts["method"] in METHOD_ORDER else None
        return {"method": method, "name": name, "chat_template_kwargs": kwargs, "answer_format": spec}
    except (OSError, ValueError, KeyError, TypeError):  # another tool's file may have this name
        return {}


# --- --compare


def compare(options: EvaluateOptions) -> int:
    table = make_table(in_paper_order(find_results(options.what.compare)))
    print(markdown(table))
    if options.output.output_dir is None:
        print("(--output_dir DIR writes it as Markdown, CSV and LaTeX)")
    else:
        print(f"table: {write_tables(options.output.output_dir, table)[0]}")
    return 0


# --- --regrade


def regrade(options: EvaluateOptions) -> int:
    path, output = options.what.regrade, options.output
    target = output.output_dir
    if target is not None and (
        (target / "generations").is_dir()
        or ((target / FILE_NAME).exists() and "regraded" not in read_result(target / FILE_NAME))
    ):
        raise UserError(f"--output_dir {target}: has an evaluation, which this would overwrite; choose another one")
    saved = read_saved(path)
    place = path.resolve()
    # RUN_DIR/validation/10.jsonl and EVALUATION/generations/math500.jsonl
    task = place.parent.name if place.stem.isdecimal() else place.stem
    protocol = MATHS[task].protocol if task in MATHS else TRAINING
    graded, entry = _score(saved.generations, output.equivalence, protocol)
    pairs = [(ours, stored) for ours, stored in zip(graded, saved.verdicts, strict=True) if stored is not None]
    differing = [(ours, stored) for ours, stored in pairs if ours.correct != stored]
    result = _result(options, output.name or f"{place.parent.parent.name}/{place.stem}")
    result |= {"regraded": str(path), "model": {"path": None, "fingerprint": saved.settings.get("model")}}
    known = ("temperature", "top_p", "max_tokens", "seed", "dtype", "chat_template_kwargs")
    result["tasks"][task] = {
        **entry,
        "protocol": protocol.name,
        "num_rows": None,
        "sampling": {key: saved.settings.get(key) for key in known},
        "stored_verdicts": {"compared": len(pairs), "agreed": len(pairs) - len(differing)},
    }
    print(markdown(make_table([(path, result)])))
    if pairs:
        print(f"stored verdicts: {len(pairs) - len(differing):,} of {len(pairs):,} agree with ours")
    for ours, stored in differing[:MAX_SHOWN]:
        print(_difference(ours, stored))
    if len(differing) > MAX_SHOWN:
        print(f"  and {len(differing) - MAX_SHOWN} more; with --output_dir all are in graded/")
    if target is not None:
        rows = zip(graded, saved.verdicts, strict=True)
        _write_lines(target / "graded" / f"{task}.jsonl", [row.as_row() | {"stored": stored} for row, stored in rows])
        _write(target, result)
        print(f"results: {target}")
    return 0


def _difference(ours: Graded, stored: bool) -> str:
    words = {True: "right", False: "wrong"}
    return (
        f"  question {ours.generation.index}, response {ours.generation.sample}: stored {words[stored]}, here "
        f"{words[bool(ours.correct)]}; answer {printable(ours.answer, 40)}, ground truth "
        f"{printable(ours.generation.ground_truth, 40)}"
    )
