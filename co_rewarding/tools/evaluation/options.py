# SPDX-License-Identifier: Apache-2.0
"""The options of scripts/evaluate.py and their checks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator

from co_rewarding.algo.answer_format import answer_format
from co_rewarding.algo.equivalence.relation import MODES
from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation import harness
from co_rewarding.tools.evaluation.grade import EQUIVALENCE
from co_rewarding.tools.evaluation.results import METHOD_ORDER
from co_rewarding.tools.evaluation.tasks import MATHS, MAX_TOKENS, TEMPERATURE, default_file, in_table_order
from co_rewarding.tools.generation.engine import MAX_TEMPERATURE, LocalOptions, ServerOptions
from co_rewarding.tools.options import Names, Options, option, parse

PROGRAM = "evaluate.py"
KNOWN = [*MATHS, *harness.TASKS]
USED_BY = {"regrade": {"output_dir", "name", "method", "base_model", "equivalence"}, "compare": {"output_dir"}}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

DESCRIPTION = """\
The paper's benchmarks for a model: MATH-500 and GSM8K pass@1 (as in training, or as in lighteval), AMC avg@8, IFEval,
MMLU-Pro and CRUXEval (through lm_eval). The same command resumes a stopped evaluation.

  python scripts/evaluate.py --model MODEL --tasks math500,gsm8k,amc
  python scripts/evaluate.py --base_url http://localhost:8000/v1 --tasks math500_lighteval
  python scripts/evaluate.py --model MODEL --data mine=my.csv --limit 20
  python scripts/evaluate.py --compare RUN_DIR ... --output_dir DIR
  python scripts/evaluate.py --regrade RUN_DIR/validation/10.jsonl"""


def _json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("must be a JSON object") from None


class What(Options):
    """model and tasks"""

    model: str = option("", "Hugging Face model folder or hub id; with --base_url the served model's name")
    regrade: Path | None = option(None, "validation dump or generations to grade again", metavar="FILE.jsonl")
    compare: list[Path] = option([], "one table of the evaluations below the DIRs", metavar="DIR")


class Questions(Options):
    """questions"""

    tasks: Names = option((), f"of {', '.join(KNOWN)}, separated by commas", metavar="NAME,...")
    data: list[str] = option(
        [], "file of questions (CSV, JSONL, JSON, parquet) for a task, known or new; for lm_eval tasks a folder as on "
        "the hub",
        metavar="NAME=FILE",
    )  # fmt: skip
    answer_format: str = option(
        "", "answer format of --data rows that name none, as ANSWER_FORMAT of a run (an export's)", metavar="SPEC"
    )
    data_dir: Path = option(Path("data"), "output folder of scripts/data_preprocess")
    limit: int | None = option(None, "only the first N questions of each set, for a quick look", ge=1)

    @field_validator("answer_format")
    @classmethod
    def _is_one(cls, spec: str) -> str:
        answer_format(spec)
        return spec


class Drawing(Options):
    """sampling (mathematics)"""

    samples: int | None = option(None, "responses a question (amc 8, others 1)", ge=1)
    temperature: float = option(TEMPERATURE, "0: greedy", ge=0, le=MAX_TEMPERATURE)
    top_p: float = option(1.0, "", gt=0, le=1)
    max_tokens: int = option(MAX_TOKENS, "longest response; lighteval's tasks have their own", ge=1)
    seed: int = option(0, "", ge=0, lt=2**31)
    chat_template_kwargs: Annotated[dict[str, Any], BeforeValidator(_json)] = option(
        {}, "such as '{\"enable_thinking\": false}' (an export's: as in its run)", metavar="JSON"
    )


class Harness(Options):
    """lm_eval"""

    lm_eval: str = option("lm_eval", "may be in another environment", metavar="COMMAND")
    lm_eval_args: str = option("", "further arguments", metavar="'...'")
    confirm_run_unsafe_code: bool = option(False, "cruxeval runs code from the model")


class Output(Options):
    """output"""

    output_dir: Path | None = option(None, "RUN_DIR/evaluation/NAME, or runs/evaluation/NAME")
    name: str | None = option(None, "name of the row (an export's run and step, else the model's folder)")
    method: Literal[METHOD_ORDER] | None = option(None, "orders and names the row (an export's)", metavar="NAME")
    base_model: str | None = option(None, "groups rows in tables of several models")
    equivalence: Literal[MODES] = option(EQUIVALENCE, "when two answers are the same")
    restart: bool = option(False, "discard earlier generations of these tasks")


@dataclass(frozen=True)
class EvaluateOptions:
    """All options; `files` and `tasks` are parsed and checked from `questions`."""

    what: What
    questions: Questions
    drawing: Drawing
    local: LocalOptions
    server: ServerOptions
    harness: Harness
    output: Output
    files: dict[str, Path]
    tasks: list[str]


def parse_options(arguments: Sequence[str]) -> EvaluateOptions:
    """The options, checked. Raises UserError."""
    groups = [What, Questions, Drawing, LocalOptions, ServerOptions, Harness, Output]
    found = parse(PROGRAM, DESCRIPTION, groups, arguments)
    what, questions, drawing, _, server, _, output = found
    modes = {"regrade": what.regrade, "compare": what.compare, "model": what.model or server.base_url}
    chosen = [f"--{mode}" for mode, value in modes.items() if value]
    if len(chosen) != 1:
        raise UserError(
            f"{' and '.join(chosen) or 'nothing'}: give one of --model, --base_url, --regrade and --compare"
        )
    mode = chosen[0].removeprefix("--")
    for name in {name for group in found for name in group.model_fields_set}:
        if mode in USED_BY and name not in USED_BY[mode] | {mode}:
            raise UserError(f"--{name} has no effect with --{mode}: leave it out")
    if drawing.temperature == 0 and (drawing.samples or 1) > 1:
        raise UserError(
            f"--samples {drawing.samples} with --temperature 0 would give the same response {drawing.samples} times: "
            "use --samples 1, or a temperature above 0"
        )
    if output.name is not None and not output.name.strip():
        raise UserError(f"--name {output.name}: must be a name")
    if output.output_dir is not None and output.output_dir.exists() and not output.output_dir.is_dir():
        raise UserError(f"--output_dir {output.output_dir}: is a file; name a folder")
    files, tasks = _tasks(questions) if mode == "model" else ({}, [])
    if server.base_url and (through := [task for task in tasks if task in harness.TASKS]):
        raise UserError(f"--tasks {through[0]}: lm_eval runs the model itself; give --model without --base_url")
    if template := found[3].chat_template:
        if server.base_url:
            raise UserError(f"--chat_template {template}: a server uses its own; leave it out, or give --model")
        if through := [task for task in tasks if task in harness.TASKS]:
            raise UserError(f"--chat_template {template}: lm_eval runs {through[0]} with the model's own; leave it out")
    return EvaluateOptions(*found, files, tasks)


def _tasks(questions: Questions) -> tuple[dict[str, Path], list[str]]:
    """{task: path} of --data, and all tasks in the order of the tables."""
    files: dict[str, Path] = {}
    for item in questions.data:
        name, mark, path = item.partition("=")
        if not mark or not _NAME.fullmatch(name) or not path:
            raise UserError(f"--data {item}: must be NAME=FILE, NAME of letters, digits and ._-")
        if name in files:
            raise UserError(f"--data {item}: {name} was already given as {files[name]}")
        files[name] = Path(path)
    named = [task.strip() for task in questions.tasks if task.strip()]
    if len(set(named)) < len(named):
        raise UserError(f"--tasks {','.join(named)}: names a task twice")
    if not named and not files:
        raise UserError("no task: name some with --tasks math500,gsm8k,amc or a file with --data NAME=FILE")
    tasks = in_table_order([*named, *files])
    for task in tasks:
        _check_task(task, files.get(task), questions.data_dir)
    return files, tasks


def _check_task(task: str, path: Path | None, data_dir: Path) -> None:
    if task == "livecodebench":
        raise UserError("--tasks livecodebench: needs a separate environment; docs/EVALUATION.md has the recipe")
    if task not in KNOWN and path is None:
        raise UserError(f"--tasks {task}: unknown; use {', '.join(KNOWN)}, or --data {task}=FILE for your own set")
    if task in harness.TASKS:
        if path is not None and not path.is_dir():
            raise UserError(f"--data {task}={path}: must be a folder with {harness.TASKS[task].hub} as on the hub")
    elif path is None and not (file := default_file(data_dir, task)).is_file():
        raise UserError(
            f"--tasks {task}: {file} is missing; make it with python scripts/data_preprocess/{MATHS[task].file}.py, or "
            f"name a file: --data {task}=FILE"
        )
