# SPDX-License-Identifier: Apache-2.0
"""The command line of scripts/evaluate.py: options, their checks, and the order of the work.

    --model     check everything -> generate what is missing -> grade -> lm_eval -> results.json and tables
    --regrade   grade saved responses again -> scores, and where they differ from the stored verdicts
    --compare   tables of the results that are there

An evaluation's directory:
    results.json                     scores and what they depend on
    table.md, .csv, .png, details.csv
    generations/TASK.jsonl           every response, as it came; what a continued evaluation goes on from
    graded/TASK.jsonl                the same with answer and verdict
    lm_eval/TASK/                    what lm_eval wrote, with its log

Tasks that an earlier call left in results.json stay there, each with the settings that it was made with.

Exit codes: 0 done; 2 something to mend, told in one line; 130 interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from co_rewarding.cpu.build import is_cpu
from co_rewarding.equivalence import MODES, Equivalence, WorkerError
from co_rewarding.evaluation import harness
from co_rewarding.evaluation.generate import (
    Sampling,
    generate,
    model_fingerprint,
    seeding,
    vllm_version,
    weights_dtype,
)
from co_rewarding.evaluation.grade import Graded, agreement, as_row, grade, group, read_saved, scores
from co_rewarding.evaluation.records import Generation, Generations
from co_rewarding.evaluation.results import (
    FILE_NAME,
    FORMAT,
    METHOD_ORDER,
    Result,
    commit,
    find_results,
    in_paper_order,
    read_result,
    versions,
    write_result,
)
from co_rewarding.evaluation.tables import make_table, markdown, write_tables
from co_rewarding.evaluation.tasks import (
    MATHS_SAMPLES,
    MAX_TOKENS,
    TEMPERATURE,
    QuestionSet,
    default_file,
    in_table_order,
    read_questions,
)
from co_rewarding.files import write_whole
from co_rewarding.report import printable
from co_rewarding.settings import Settings
from co_rewarding.vllm_engine import EngineOptions, load_tokenizer, prompt_text

PROGRAM = "evaluate.py"
USED_BY = {"regrade": {"output_dir", "name", "method", "base_model", "equivalence"}, "compare": {"output_dir"}}
MAX_SHOWN = 5  # differing verdicts that are printed
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

DESCRIPTION = """\
The paper's row of numbers for a model: MATH-500 and GSM8K pass@1, AMC avg@8 (graded as in training), IFEval, MMLU-Pro
and CRUXEval (through lm_eval). An evaluation that was stopped goes on when the same command is given again.

  python scripts/evaluate.py --model MODEL --tasks math500,gsm8k,amc
  python scripts/evaluate.py --model MODEL --data mine=my.parquet --limit 20
  python scripts/evaluate.py --compare RUN_DIR ... --output_dir DIR
  python scripts/evaluate.py --regrade RUN_DIR/validation/10.jsonl"""


class UserError(Exception):
    """Something the user can mend; its message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


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


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = _Parser(prog=PROGRAM, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="Hugging Face model folder or hub id to evaluate")
    what.add_argument(
        "--regrade", type=Path, metavar="FILE.jsonl", help="validation dump or generations to grade again"
    )
    what.add_argument("--compare", type=Path, nargs="+", metavar="DIR", help="one table of the evaluations below DIRs")

    asked = parser.add_argument_group("what is asked")
    known = [*MATHS_SAMPLES, *harness.TASKS]
    asked.add_argument("--tasks", default="", help=f"of {', '.join(known)}, separated by commas")
    asked.add_argument(
        "--data", action="append", default=[], metavar="NAME=FILE",
        help="parquet in verl's schema for a task, known or new; for lm_eval tasks a folder as on the hub",
    )  # fmt: skip
    asked.add_argument("--data_dir", type=Path, default=Path("data"), help="where scripts/data_preprocess wrote (data)")
    asked.add_argument("--limit", type=int, help="only the first questions of each set, for a quick look")

    drawn = parser.add_argument_group("how responses are drawn (mathematics)")
    drawn.add_argument("--samples", type=int, help="responses a question (default: amc 8, others 1)")
    drawn.add_argument("--temperature", type=float, default=TEMPERATURE, help=f"0: greedy (default {TEMPERATURE})")
    drawn.add_argument("--top_p", type=float, default=1.0, help="default 1.0")
    drawn.add_argument("--max_tokens", type=int, default=MAX_TOKENS, help=f"of a response (default {MAX_TOKENS})")
    drawn.add_argument("--seed", type=int, default=0, help="default 0")
    drawn.add_argument(
        "--chat_template_kwargs", default="{}", metavar="JSON", help="such as '{\"enable_thinking\": false}'"
    )

    engine = parser.add_argument_group("how the model runs")
    engine.add_argument("--tensor_parallel_size", type=int, default=1, help="GPUs (default 1)")
    engine.add_argument("--gpu_memory_utilization", type=float, default=0.9, help="0-1 (default 0.9)")
    engine.add_argument("--kv_cache_mb", type=int, default=1024, help="on a machine without GPU (default 1024)")
    engine.add_argument("--dtype", default="auto", help="auto: the model's; float32 without GPU")
    engine.add_argument("--lm_eval", default="lm_eval", metavar="COMMAND", help="may be of another environment")
    engine.add_argument("--lm_eval_args", default="", metavar="'...'", help="further arguments of lm_eval")
    engine.add_argument("--confirm_run_unsafe_code", action="store_true", help="cruxeval runs what the model writes")

    out = parser.add_argument_group("what comes out")
    out.add_argument("--output_dir", type=Path, help="default: RUN_DIR/evaluation/NAME, or runs/evaluation/NAME")
    out.add_argument("--name", help="of the row (default: of the model's folder)")
    out.add_argument("--method", help=f"orders and names the row: {', '.join(METHOD_ORDER)}")
    out.add_argument("--base_model", help="groups rows in tables of several models")
    out.add_argument("--equivalence", default=Settings().equivalence, help=f"{', '.join(MODES)} (as in training)")
    out.add_argument("--restart", action="store_true", help="throw away earlier generations of these tasks")
    options = parser.parse_args(arguments)
    mode = "compare" if options.compare else "regrade" if options.regrade else None
    if mode is not None:
        for name, value in vars(options).items():
            if name not in {mode, *USED_BY[mode]} and value != parser.get_default(name):
                raise UserError(f"--{name} has no effect with --{mode}: leave it out")
    _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    def require(ok: bool, option: str, allowed: str) -> None:
        if not ok:
            raise UserError(f"--{option} {getattr(options, option)}: must be {allowed}")

    for option in ("limit", "samples", "max_tokens", "tensor_parallel_size", "kv_cache_mb"):
        value = getattr(options, option)
        require(value is None or value >= 1, option, "1 or more")
    require(0 <= options.temperature < math.inf, "temperature", "0 (greedy) or more")
    require(0 < options.top_p <= 1, "top_p", "above 0 and at most 1")
    require(0 < options.gpu_memory_utilization <= 1, "gpu_memory_utilization", "above 0 and at most 1")
    require(0 <= options.seed < 2**31, "seed", "from 0 to 2147483647")
    require(options.equivalence in MODES, "equivalence", f"one of {', '.join(MODES)}")
    require(options.method is None or options.method in METHOD_ORDER, "method", f"one of {', '.join(METHOD_ORDER)}")
    require(options.name is None or options.name.strip() != "", "name", "a name")
    if options.temperature == 0 and (options.samples or 1) > 1:
        raise UserError(
            f"--samples {options.samples} with --temperature 0 would draw the same response {options.samples} times: "
            "use --samples 1, or a temperature above 0"
        )
    try:
        options.chat_template_kwargs = json.loads(options.chat_template_kwargs)
    except ValueError:
        raise UserError(f"--chat_template_kwargs {options.chat_template_kwargs}: not JSON") from None
    require(isinstance(options.chat_template_kwargs, dict), "chat_template_kwargs", "a JSON object")
    if options.output_dir is not None and options.output_dir.exists() and not options.output_dir.is_dir():
        raise UserError(f"--output_dir {options.output_dir}: is a file; name a folder")
    _check_tasks(options)


def _check_tasks(options: argparse.Namespace) -> None:
    """options.data becomes {task: path}, options.tasks the names in the order of the tables."""
    files: dict[str, Path] = {}
    for item in options.data:
        name, mark, path = item.partition("=")
        if not mark or not _NAME.fullmatch(name) or not path:
            raise UserError(f"--data {item}: must be NAME=FILE, NAME of letters, digits and ._-")
        if name in files:
            raise UserError(f"--data {item}: {name} was given before as {files[name]}")
        files[name] = Path(path)
    tasks = [task.strip() for task in options.tasks.split(",") if task.strip()]
    if len(set(tasks)) < len(tasks):
        raise UserError(f"--tasks {options.tasks}: names a task twice")
    for task in tasks:
        if task == "livecodebench":
            raise UserError("--tasks livecodebench: needs an environment of its own; docs/EVALUATION.md has the recipe")
        if task not in MATHS_SAMPLES and task not in harness.TASKS and task not in files:
            known = ", ".join([*MATHS_SAMPLES, *harness.TASKS])
            raise UserError(f"--tasks {task}: unknown; use {known}, or --data {task}=FILE for a set of your own")
    if options.model and not tasks and not files:
        raise UserError("no task: name some with --tasks math500,gsm8k,amc or a file with --data NAME=FILE")
    options.data, options.tasks = files, in_table_order([*tasks, *files])
    for task in options.tasks:
        path = files.get(task)
        if task in harness.TASKS:
            if path is not None and not path.is_dir():
                raise UserError(f"--data {task}={path}: must be a folder with {harness.TASKS[task].hub} as on the hub")
        elif path is None and not default_file(options.data_dir, task).is_file():
            raise UserError(
                f"--tasks {task}: {default_file(options.data_dir, task)} is missing; make it with "
                f"python scripts/data_preprocess/{task}.py, or name a file: --data {task}=FILE"
            )


# --- --model


def evaluate(options: argparse.Namespace) -> None:
    fingerprint = model_fingerprint(options.model)
    name = options.name or _model_name(options.model)
    run_dir = _run_dir(options.model)
    folder: Path = options.output_dir or (run_dir or Path("runs")) / "evaluation" / re.sub(r"[^\w.-]+", "-", name)
    result = _result(options, name, _earlier(folder, fingerprint, restart=options.restart))
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
    calls = _harness_calls(options, folder.absolute())  # what is wrong with them is told before hours of generation
    if sets:
        _evaluate_maths(options, sets, fingerprint, folder, result)
        _write(folder, result)
    for task, (command, where) in calls.items():
        if options.restart and where.is_dir():
            shutil.rmtree(where)
        found = harness.run(task, command, fingerprint, where, options.data.get(task))
        result["tasks"][task] = {**harness.read_scores(task, found), "command": command[1:]}
        _write(folder, result)
    print(markdown(make_table([(folder / FILE_NAME, result)])))
    print(f"results: {folder}")
    if run_dir is not None and folder.resolve().is_relative_to(run_dir / "evaluation"):
        table = make_table(in_paper_order(find_results([run_dir / "evaluation"])))
        print(f"table of this run directory: {write_tables(run_dir / 'evaluation', table)[0]}")


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
    timeout_s = Settings().verify_timeout_s
    with Equivalence(mode=mode, timeout_s=timeout_s) as equivalence:
        graded = [grade(generation, equivalence.same) for generation in generations]
        found = scores(group(graded), equivalence.same)
        counts = equivalence.counts
    return graded, found | {"grader": _grader(mode, timeout_s), "comparisons": asdict(counts)}


def _grader(mode: str, timeout_s: float) -> dict[str, Any]:
    found = versions()
    return {
        "extraction": "content of the last closed \\boxed{} (co_rewarding.answers)",
        "equivalence": mode,
        "timeout_s": timeout_s,
        "co-rewarding": found["co-rewarding"],
        "commit": commit(),
        "math-verify": found.get("math-verify"),
        "sympy": found.get("sympy"),
    }


def _harness_calls(options: argparse.Namespace, folder: Path) -> dict[str, tuple[list[str], Path]]:
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
    return {task: (harness.command_line(task, options.model, where[task], how), where[task]) for task in tasks}


def _result(options: argparse.Namespace, name: str, earlier: Result | None = None) -> Result:
    """The head of a result, with the tasks of an earlier one."""
    earlier = earlier or {}
    return {
        "format": FORMAT,
        "name": name,
        "method": options.method or earlier.get("method"),
        "base_model": options.base_model or earlier.get("base_model"),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "tasks": earlier.get("tasks", {}),
    }


def _earlier(folder: Path, fingerprint: str, restart: bool) -> Result | None:
    """The result that is to be added to, None where there is none."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    result = read_result(path)
    found = (result.get("model") or {}).get("fingerprint")
    if found == fingerprint:
        return result
    if restart:
        return None
    raise UserError(
        f"{path} is of another model ({found}, this one is {fingerprint}): choose another --output_dir, or throw it "
        "away with --restart"
    )


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write(folder: Path, result: Result) -> None:
    result["tasks"] = {task: result["tasks"][task] for task in in_table_order(list(result["tasks"]))}
    write_tables(folder, make_table([(write_result(folder, result), result)]))


def _model_name(model: str) -> str:
    """The folder's name; inside a run directory the path below it."""
    run_dir = _run_dir(model)
    if run_dir is not None:
        return "-".join(Path(model).resolve().relative_to(run_dir.resolve()).parts)
    return Path(model).resolve().name if Path(model).exists() else model


def _run_dir(model: str) -> Path | None:
    """The training run's directory that holds the model, known by its metrics/ or checkpoints/; None outside of one."""
    path = Path(model).resolve()
    if not path.is_dir():
        return None
    return next((p for p in path.parents if (p / "metrics").is_dir() or (p / "checkpoints").is_dir()), None)


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
    saved = read_saved(options.regrade)
    graded, entry = _score(saved.generations, options.equivalence)
    match = agreement(graded, saved.verdicts)
    path = options.regrade.resolve()
    # RUN_DIR/validation/10.jsonl and EVALUATION/generations/math500.jsonl
    task = path.parent.name if path.stem.isdecimal() else path.stem
    result = _result(options, options.name or f"{path.parent.parent.name}/{path.stem}")
    result |= {"regraded": str(options.regrade), "model": {"path": None, "fingerprint": saved.settings.get("model")}}
    sampling = {key: saved.settings.get(key) for key in ("temperature", "top_p", "max_tokens", "seed")}
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


def _difference(ours: Graded, stored: bool) -> str:
    words = {True: "right", False: "wrong"}
    return (
        f"  question {ours.generation.index}, response {ours.generation.sample}: stored {words[stored]}, here "
        f"{words[bool(ours.correct)]}; answer {printable(ours.answer, 40)}, ground truth "
        f"{printable(ours.generation.ground_truth, 40)}"
    )
