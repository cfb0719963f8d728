# SPDX-License-Identifier: Apache-2.0
"""A run of scripts/evaluate.py from its options to its exit code: the order of the work.

    --model     check everything -> generate what is missing -> grade -> lm_eval -> results.json and tables
    --regrade   grade saved responses again -> scores, and where they differ from the stored verdicts
    --compare   tables of the results that are there

An evaluation's directory:
    results.json                     scores and what they depend on
    table.md, .csv, .png, details.csv
    generations/TASK.jsonl           every response, as it came; what a continued evaluation resumes from
    graded/TASK.jsonl                the same with answer and verdict
    lm_eval/TASK/                    what lm_eval wrote, with its log

Tasks that other calls put into results.json stay there, each with the settings that it was made with, whether they came
before or beside this one: the file is read again and locked (.results.lock) for each entry.

Exit codes: 0 done; 2 a user error, reported in one line; 130 interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from co_rewarding.algo.equivalence.relation import TIMEOUT_S, Equivalence, WorkerError
from co_rewarding.cpu.build import is_cpu
from co_rewarding.storage.files import atomic_write_text
from co_rewarding.storage.provenance import commit, versions
from co_rewarding.storage.run_dir import RunDir
from co_rewarding.tools.cli import UserError, printable
from co_rewarding.tools.evaluation import harness
from co_rewarding.tools.evaluation.generate import (
    Generation,
    Generations,
    Sampling,
    generate,
    model_fingerprint,
    seeding,
    vllm_version,
    weights_dtype,
)
from co_rewarding.tools.evaluation.grade import (
    Graded,
    agreement,
    as_row,
    grade,
    group,
    read_saved,
    scores,
)
from co_rewarding.tools.evaluation.options import PROGRAM, parse
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
from co_rewarding.tools.evaluation.tasks import MATHS_SAMPLES, QuestionSet, default_file, in_table_order, read_questions
from co_rewarding.tools.generation.vllm_engine import EngineOptions, load_tokenizer, prompt_text

MAX_SHOWN = 5  # differing verdicts that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = parse(arguments)
        if options.compare:
            compare(options)
        elif options.regrade:
            regrade(options)
        else:
            evaluate(options)
    except (UserError, ValueError, WorkerError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{PROGRAM}: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; what was generated is kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


# --- --model


def evaluate(options: argparse.Namespace) -> None:
    fingerprint = model_fingerprint(options.model)
    exported = _export_facts(options.model)
    name = options.name or exported.get("name") or _model_name(options.model)
    run = _run_of(options.model)
    folder: Path = options.output_dir or (run or RunDir("runs")).evaluation / re.sub(r"[^\w.-]+", "-", name)
    # what is wrong with the folder, the data or the calls of lm_eval is told before hours of generation
    _earlier(folder, fingerprint, restart=options.restart)
    result = _result(options, name)
    result["method"] = result["method"] or exported.get("method")
    result["model"] = {"path": options.model, "fingerprint": fingerprint}
    sets = [
        read_questions(
            task,
            options.data.get(task) or default_file(options.data_dir, task),
            options.samples or (1 if options.temperature == 0 else MATHS_SAMPLES.get(task, 1)),
            options.limit,
        )
        for task in options.tasks
        if task not in harness.TASKS
    ]
    calls = _harness_calls(options, fingerprint, folder.absolute())
    if sets:
        _evaluate_maths(options, sets, fingerprint, folder, result)
        _add(folder, result, restart=options.restart)
    for task, (command, where) in calls.items():
        if options.restart and where.is_dir():
            shutil.rmtree(where)
        found = harness.run(task, command, fingerprint, where, options.data.get(task))
        entry = harness.read_scores(task, found)
        entry["data"]["folder"] = str(options.data[task]) if task in options.data else None
        result["tasks"][task] = {**entry, "command": command[1:]}
        _add(folder, result, restart=options.restart)
    print(markdown(make_table([(folder / FILE_NAME, read_result(folder / FILE_NAME))])))
    print(f"results: {folder}")
    if run is not None and folder.resolve().is_relative_to(run.evaluation):
        table = make_table(in_paper_order(find_results([run.evaluation])))
        print(f"table of this run directory: {write_tables(run.evaluation, table)[0]}")


def _evaluate_maths(
    options: argparse.Namespace, sets: Sequence[QuestionSet], fingerprint: str, folder: Path, result: Result
) -> None:
    """Generate, grade, and put the entry of each set into `result`."""
    sampling = Sampling(
        options.temperature, options.top_p, options.max_tokens, options.seed, options.chat_template_kwargs
    )
    engine = EngineOptions(
        options.tensor_parallel_size, options.gpu_memory_utilization, options.kv_cache_mb, options.dtype
    )
    tokenizer = load_tokenizer(options.model, f"--model {options.model}: its tokenizer")
    how = asdict(sampling) | {"dtype": weights_dtype(options.model, options.dtype), "vllm": vllm_version()}
    with ExitStack() as stack:
        records = {
            s.name: stack.enter_context(
                Generations(
                    folder / "generations" / f"{s.name}.jsonl",
                    how | {"model": fingerprint, "data": s.content_sha256},
                    options.restart,
                )
            )
            for s in sets
        }
        generate(options.model, sets, records, sampling, engine)
        for s in sets:
            asked = {question.index for question in s.questions}
            rows = [g for g in records[s.name].done.values() if g.index in asked and g.sample < s.samples]
            graded, entry = _score(rows, options.equivalence)
            _write_lines(
                folder / "graded" / f"{s.name}.jsonl", [as_row(row) for graded_G in group(graded) for row in graded_G]
            )
            first = s.questions[0]
            result["tasks"][s.name] = {
                **entry,
                "num_rows": s.num_rows,
                "data": {"file": str(s.path), "file_sha256": s.file_sha256, "content_sha256": s.content_sha256},
                "sampling": {"n": s.samples, **how, "seeding": seeding(sampling)},
                "prompt": {
                    "system": next((m["content"] for m in first.messages if m["role"] == "system"), None),
                    "example": prompt_text(tokenizer, first.messages, **sampling.chat_template_kwargs),
                },
            }


def _score(generations: Sequence[Generation], mode: str) -> tuple[list[Graded], dict[str, Any]]:
    """Verdicts in the order of `generations`, and the scores with the grader that they are by."""
    with Equivalence(mode=mode) as equivalence:
        graded = [grade(generation, equivalence.same) for generation in generations]
        found = scores(group(graded), equivalence.same)
        counts = equivalence.counts
    return graded, found | {"grader": _grader(mode), "comparisons": asdict(counts)}


def _grader(mode: str) -> dict[str, Any]:
    found = versions(PACKAGES)
    return {
        "extraction": "content of the last closed \\boxed{} (co_rewarding.algo.answers)",
        "equivalence": mode,
        "timeout_s": TIMEOUT_S,
        "co-rewarding": found["co-rewarding"],
        "commit": commit(),
        "math-verify": found.get("math-verify"),
        "sympy": found.get("sympy"),
    }


def _harness_calls(options: argparse.Namespace, fingerprint: str, folder: Path) -> dict[str, tuple[list[str], Path]]:
    """Command line and folder by task."""
    tasks = [task for task in options.tasks if task in harness.TASKS]
    if not tasks:
        return {}
    how = harness.HarnessOptions(
        command=options.lm_eval,
        extra=options.lm_eval_args,
        limit=options.limit,
        seed=options.seed,
        on_cpu=is_cpu(),
        tensor_parallel_size=options.tensor_parallel_size,
        gpu_memory_utilization=options.gpu_memory_utilization,
        dtype=options.dtype,
        confirm_run_unsafe_code=options.confirm_run_unsafe_code,
    )
    where = {task: folder / "lm_eval" / task for task in tasks}
    calls = {task: (harness.command_line(task, options.model, where[task], how), where[task]) for task in tasks}
    for task, (command, place) in calls.items():
        if not options.restart:
            harness.check_folder(command, fingerprint, place, options.data.get(task))
    return calls


def _result(options: argparse.Namespace, name: str) -> Result:
    """The head of a result; its tasks are those of this call."""
    return {
        "format": FORMAT,
        "name": name,
        "method": options.method,
        "base_model": options.base_model,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(PACKAGES),
        "commit": commit(),
        "tasks": {},
    }


def _earlier(folder: Path, fingerprint: str | None, restart: bool) -> Result:
    """The result that is to be added to, {} where there is none."""
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
        f"{path} is of another model ({found}, this one is {fingerprint}): choose another --output_dir, or throw it "
        "away with --restart"
    )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    atomic_write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _add(folder: Path, result: Result, restart: bool) -> None:
    """Put the tasks of `result` beside those that results.json has by now: another call may have added some."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".results.lock").open("a") as lock:
        with suppress(OSError):  # a file system without locks: reading again is what is left
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        earlier = _earlier(folder, result["model"]["fingerprint"], restart)
        kept = {key: result[key] or earlier.get(key) for key in ("method", "base_model")}
        _write(folder, result | kept | {"tasks": {**earlier.get("tasks", {}), **result["tasks"]}})


def _write(folder: Path, result: Result) -> None:
    result["tasks"] = {task: result["tasks"][task] for task in in_table_order(list(result["tasks"]))}
    write_tables(folder, make_table([(write_result(folder, result), result)]))


def _export_facts(model: str) -> dict[str, str]:
    """Method and name of a model that scripts/export_checkpoint.py made; {} of any other."""
    try:
        facts = json.loads((Path(model) / EXPORT_NAME).read_text(encoding="utf-8"))
        name = f"{facts['run']}-step_{facts['step']}_{facts['weights']}"
        return {"method": facts["method"], "name": name} if facts["method"] in METHOD_ORDER else {}
    except (OSError, ValueError, KeyError, TypeError):  # another tool's file may have the name
        return {}


def _model_name(model: str) -> str:
    """The folder's name; inside a run directory the path below it."""
    run = _run_of(model)
    if run is not None:
        return "-".join(Path(model).resolve().relative_to(run.path.resolve()).parts)
    return Path(model).resolve().name if Path(model).exists() else model


def _run_of(model: str) -> RunDir | None:
    """The training run whose directory holds the model; None outside of one."""
    path = Path(model).resolve()
    return RunDir.containing(path) if path.is_dir() else None


# --- --compare


def compare(options: argparse.Namespace) -> None:
    found = in_paper_order(find_results(options.compare))
    table = make_table(found)
    print(markdown(table))
    if options.output_dir is None:
        print("(--output_dir DIR writes it as Markdown, CSV and PNG)")
    else:
        print(f"table: {write_tables(options.output_dir, table)[0]}")


# --- --regrade


def regrade(options: argparse.Namespace) -> None:
    if options.output_dir is not None:
        _refuse_evaluation(options.output_dir)
    saved = read_saved(options.regrade)
    graded, entry = _score(saved.generations, options.equivalence)
    match = agreement(graded, saved.verdicts)
    path = options.regrade.resolve()
    # RUN_DIR/validation/10.jsonl and EVALUATION/generations/math500.jsonl
    task = path.parent.name if path.stem.isdecimal() else path.stem
    result = _result(options, options.name or f"{path.parent.parent.name}/{path.stem}")
    result |= {"regraded": str(options.regrade), "model": {"path": None, "fingerprint": saved.settings.get("model")}}
    known = ("temperature", "top_p", "max_tokens", "seed", "dtype", "chat_template_kwargs")
    sampling = {key: saved.settings.get(key) for key in known}
    stored = {"compared": match.compared, "agreed": match.agreed}
    result["tasks"][task] = {**entry, "num_rows": None, "sampling": sampling, "stored_verdicts": stored}
    print(markdown(make_table([(path, result)])))
    print(f"stored verdicts: {f'{match.agreed} of {match.compared} are ours too' if match.compared else 'none'}")
    for ours, verdict in match.differing[:MAX_SHOWN]:
        print(_difference(ours, verdict))
    if len(match.differing) > MAX_SHOWN:
        print(f"  and {len(match.differing) - MAX_SHOWN} more; with --output_dir all are in graded/")
    if options.output_dir is not None:
        rows = zip(graded, saved.verdicts, strict=True)
        _write_lines(
            options.output_dir / "graded" / f"{task}.jsonl",
            [as_row(row) | {"stored": verdict} for row, verdict in rows],
        )
        _write(options.output_dir, result)
        print(f"results: {options.output_dir}")


def _refuse_evaluation(folder: Path) -> None:
    path = folder / FILE_NAME
    if (folder / "generations").is_dir() or (path.exists() and "regraded" not in read_result(path)):
        raise UserError(f"--output_dir {folder}: holds an evaluation, which this would overwrite; choose another one")


def _difference(ours: Graded, stored: bool) -> str:
    words = {True: "right", False: "wrong"}
    return (
        f"  question {ours.generation.index}, response {ours.generation.sample}: stored {words[stored]}, here "
        f"{words[bool(ours.correct)]}; answer {printable(ours.answer, 40)}, ground truth "
        f"{printable(ours.generation.ground_truth, 40)}"
    )
