# SPDX-License-Identifier: Apache-2.0
"""The options of scripts/evaluate.py and their checks."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from co_rewarding.algo.equivalence.relation import MODES
from co_rewarding.tools.cli import Parser, UserError
from co_rewarding.tools.evaluation import harness
from co_rewarding.tools.evaluation.grade import EQUIVALENCE
from co_rewarding.tools.evaluation.results import METHOD_ORDER
from co_rewarding.tools.evaluation.tasks import MATHS_SAMPLES, MAX_TOKENS, TEMPERATURE, default_file, in_table_order
from co_rewarding.tools.generation.engine import MAX_TEMPERATURE

PROGRAM = "evaluate.py"
USED_BY = {"regrade": {"output_dir", "name", "method", "base_model", "equivalence"}, "compare": {"output_dir"}}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

DESCRIPTION = """\
The paper's row of numbers for a model: MATH-500 and GSM8K pass@1, AMC avg@8 (graded as in training), IFEval, MMLU-Pro
and CRUXEval (through lm_eval). An evaluation that was stopped goes on when the same command is given again.

  python scripts/evaluate.py --model MODEL --tasks math500,gsm8k,amc
  python scripts/evaluate.py --model MODEL --data mine=my.parquet --limit 20
  python scripts/evaluate.py --compare RUN_DIR ... --output_dir DIR
  python scripts/evaluate.py --regrade RUN_DIR/validation/10.jsonl"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    out.add_argument("--name", help="of the row (default: an export's run and step, else the model's folder)")
    out.add_argument("--method", help=f"orders and names the row (default: an export's): {', '.join(METHOD_ORDER)}")
    out.add_argument("--base_model", help="groups rows in tables of several models")
    out.add_argument("--equivalence", default=EQUIVALENCE, help=f"{', '.join(MODES)} (as in training)")
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
    require(
        0 <= options.temperature <= MAX_TEMPERATURE, "temperature", f"a number from 0 (greedy) to {MAX_TEMPERATURE:g}"
    )
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
