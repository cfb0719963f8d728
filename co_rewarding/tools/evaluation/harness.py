# SPDX-License-Identifier: Apache-2.0
"""IFEval, MMLU-Pro and CRUXEval: the lm_eval command line, and what it wrote.

    task       lm_eval's task        number in the table
    ifeval     ifeval                prompt-level strict accuracy
    mmlu_pro   mmlu_pro              exact match, 5 examples, over all 14 subjects
    cruxeval   cruxeval_output_cot   output prediction with reasoning, from the responses that lm_eval logs (below)

Prompts, decoding (IFEval and MMLU-Pro greedy, CRUXEval ten responses at temperature 0.2) and graders are lm_eval's own;
the model's chat template is applied. The paper used lm_eval for the first two and ZeroEval for CRUX, whose prompt is
another one: compare CRUX numbers only with CRUX numbers from here.

Checked with lm_eval 0.4.13. Its grader of CRUXEval outputs takes the quotes off an answer before it runs it, so that a
right answer which is a string counts as wrong. The logged responses are therefore graded here once more:

    right = the literal after == in the answer's assertion equals the set's literal (ast.literal_eval: nothing is run)

and lm_eval's own number is kept beside it.

Degenerate cases: a finished task (lm_eval ended with exit code 0) whose command line is the same is not run again;
responses of an interrupted greedy task are taken from lm_eval's cache; a failed command is an error that names its log.

Deliberately absent: LiveCodeBench (docs/EVALUATION.md).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from co_rewarding.tools.evaluation.estimates import Estimate, avg_at_n

INSTALL = "pip install 'lm-eval[hf,ifeval,api]==0.4.13' (with vllm instead of hf on GPUs where it is missing)"
MAX_LITERAL_CHARS = 10_000
# what models put around an assertion: fences, and tags that the prompt uses elsewhere
_AROUND = re.compile(r"^[ \t]*```(?:python|py)?|```[ \t]*$|\[/?(?:PYTHON|THOUGHT|ANSWER)\]", flags=re.MULTILINE)


@dataclass(frozen=True)
class HarnessTask:
    """A task of lm_eval."""

    lm_eval_task: str
    metric: str  # in its results: "name,filter"
    primary: str  # what the number is called here
    hub: str  # data set
    runs_code: bool = False  # lm_eval executes what the model writes


TASKS = {
    "ifeval": HarnessTask("ifeval", "prompt_level_strict_acc,none", "strict prompt", "google/IFEval"),
    "mmlu_pro": HarnessTask("mmlu_pro", "exact_match,custom-extract", "exact match", "TIGER-Lab/MMLU-Pro"),
    "cruxeval": HarnessTask(
        "cruxeval_output_cot", "pass@1,create_test", "pass@1", "cruxeval-org/cruxeval", runs_code=True
    ),
}


@dataclass(frozen=True)
class HarnessOptions:
    """How lm_eval is called."""

    command: str = "lm_eval"
    extra: str = ""  # further arguments, as a shell would read them
    limit: int | None = None  # first questions; of each subject of MMLU-Pro
    seed: int = 0
    on_cpu: bool = False
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    dtype: str = "auto"
    confirm_run_unsafe_code: bool = False


def find_command(command: str) -> list[str]:
    """The words of the lm_eval command, checked to exist, on PATH or beside this Python.

    Raises:
        ValueError: one line: it is not there.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("--lm_eval is empty: name the command")
    found = shutil.which(words[0]) or shutil.which(words[0], path=str(Path(sys.executable).parent))
    if found is None:
        raise ValueError(f"--lm_eval {command}: no such command, which IFEval, MMLU-Pro and CRUXEval need: {INSTALL}")
    return [str(Path(found).absolute()), *words[1:]]


def command_line(task: str, model: str, folder: Path, options: HarnessOptions) -> list[str]:
    """The call of lm_eval for one task.

    Raises:
        ValueError: one line: a model name that its syntax cannot hold, or model code that nobody allowed to run.
    """
    spec = TASKS[task]
    name = str(Path(model).absolute()) if Path(model).exists() else model
    if "," in name or "=" in name:
        raise ValueError(f"--model {name}: lm_eval cannot be told a name with ',' or '='; rename or link the folder")
    if spec.runs_code and not options.confirm_run_unsafe_code:
        raise ValueError(
            f"--tasks {task}: lm_eval runs Python that the model writes; do it in a container and say so with "
            "--confirm_run_unsafe_code, or leave the task out"
        )
    model_args = {"pretrained": name, "dtype": options.dtype}
    if options.on_cpu:
        backend, device = "hf", ["--device", "cpu", "--batch_size", "8"]
        model_args["dtype"] = "float32" if options.dtype == "auto" else options.dtype
    else:
        backend, device = "vllm", ["--batch_size", "auto"]
        model_args["tensor_parallel_size"] = str(options.tensor_parallel_size)
        model_args["gpu_memory_utilization"] = str(options.gpu_memory_utilization)
    return [
        *find_command(options.command),
        "run",
        *("--model", backend, "--model_args", ",".join(f"{k}={v}" for k, v in model_args.items())),
        *("--tasks", spec.lm_eval_task, "--apply_chat_template", *device, "--seed", str(options.seed)),
        *("--log_samples", "--output_path", str(folder / "output"), "--use_cache", str(folder / "cache")),
        *(["--limit", str(options.limit)] if options.limit is not None else []),
        *(["--confirm_run_unsafe_code"] if spec.runs_code else []),
        *shlex.split(options.extra),
    ]


def check_folder(command: Sequence[str], fingerprint: str, folder: Path, local_data: Path | None = None) -> None:
    """Raises ValueError, one line, where `folder` was made by another command line, model or data."""
    note = folder / "command.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) != _asked(command, fingerprint, local_data):
        raise ValueError(
            f"{folder} was made by another command line, model or data: choose another --output_dir, or throw it "
            "away with --restart"
        )


def _asked(command: Sequence[str], fingerprint: str, local_data: Path | None) -> dict[str, Any]:
    return {
        "command": list(command)[1:],
        "model": fingerprint,
        "data": str(local_data.absolute()) if local_data else None,
    }


def run(task: str, command: Sequence[str], fingerprint: str, folder: Path, local_data: Path | None = None) -> Path:
    """Run lm_eval unless this very command has finished before; its results file.

    Args:
        folder: of this task; absolute.
        local_data: folder with the data set as it is on the hub, for a machine without network.

    Raises:
        ValueError: one line: the folder was made for something else, or lm_eval failed.
    """
    check_folder(command, fingerprint, folder, local_data)
    finished = folder / "finished"  # it writes its results before it ends, and may fail after that
    if finished.is_file() and (done := _results(folder)):
        return done[-1]
    folder.mkdir(parents=True, exist_ok=True)
    asked = _asked(command, fingerprint, local_data)
    (folder / "command.json").write_text(json.dumps(asked, indent=1), encoding="utf-8")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    if local_data is not None:
        # the library that loads the set looks for a folder of its name before it asks the hub
        link = work / TASKS[task].hub
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(local_data.absolute(), target_is_directory=True)
    log = folder / "lm_eval.log"
    print(f"evaluate.py: {task}: {shlex.join(command)} (log: {log})", file=sys.stderr, flush=True)
    with log.open("ab") as out:
        code = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        ).returncode  # fmt: skip
    done = _results(folder)
    if code != 0 or not done:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise ValueError(
            f"{task}: lm_eval ended with exit code {code} and {'no' if not done else 'a'} result; see {log}, which "
            f"ends: {lines[-1].strip()[:200] if lines else 'empty'}"
        )
    finished.touch()
    return done[-1]


def _results(folder: Path) -> list[Path]:
    return sorted((folder / "output").rglob("results_*.json"))


def read_scores(task: str, results_file: Path) -> dict[str, Any]:
    """The numbers of one task, with the names that results.json has for every task.

    Raises:
        ValueError: one line: the file lacks what lm_eval 0.4.13 writes.
    """
    spec = TASKS[task]
    found = json.loads(results_file.read_text(encoding="utf-8"))
    try:
        metrics = {**found["results"], **found.get("groups", {})}[spec.lm_eval_task]
        own = _estimate(metrics, spec.metric)
        counts = found["n-samples"].values()
        asked, available = sum(c["effective"] for c in counts), sum(c["original"] for c in counts)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{results_file}: has no {error} where lm_eval 0.4.13 writes it; install that version: {INSTALL}"
        ) from None
    accuracy = {spec.primary: own}
    samples = 1
    if task == "cruxeval":
        correct_P_G = crux_verdicts(_logged(results_file, spec.lm_eval_task))
        samples = min(map(len, correct_P_G))
        accuracy = {spec.primary: avg_at_n(correct_P_G), "pass@1 by lm_eval": own}
    for name in metrics:
        metric, _, of_filter = name.partition(",")
        if of_filter and not metric.endswith("_stderr") and name != spec.metric:
            accuracy[metric] = _estimate(metrics, name)
    return {
        "questions": asked,
        "num_rows": available,
        "samples": samples,
        "primary": spec.primary,
        "accuracy": {name: asdict(estimate) for name, estimate in accuracy.items()},
        **_made_how(found, spec.lm_eval_task, results_file, samples),
        "lm_eval": found.get("lm_eval_version"),
        "task_versions": found.get("versions"),
    }


def _made_how(found: Mapping[str, Any], lm_eval_task: str, results_file: Path, samples: int) -> dict[str, Any]:
    """How lm_eval asked, as far as its files say: None for what they do not. The first of a task's parts (the subjects
    of MMLU-Pro) stands for all."""
    configs = found.get("configs") or {}
    part = lm_eval_task if lm_eval_task in configs else next(iter(configs), lm_eval_task)
    config = configs.get(part) or {}
    how = config.get("generation_kwargs") or {}
    shots = config.get("num_fewshot")
    example = None
    if (path := _samples_file(results_file, part)).is_file():
        with path.open(encoding="utf-8") as lines:
            arguments = json.loads(next(lines, "{}")).get("arguments") or {}
        example = (arguments.get("gen_args_0") or {}).get("arg_0")
    return {
        "sampling": {
            "n": samples,
            "temperature": how.get("temperature", 0.0 if how.get("do_sample") is False else None),
            "top_p": how.get("top_p"),
            "max_tokens": how.get("max_gen_toks"),
            "generation_kwargs": how,
        },
        "num_fewshot": (found.get("n-shot") or {}).get(part) if shots is None else shots,
        "data": {"dataset": config.get("dataset_path"), "dataset_name": config.get("dataset_name")},
        "prompt": {"system": found.get("system_instruction"), "example": example},
    }


def crux_verdicts(rows: Iterable[Mapping[str, Any]]) -> list[list[bool]]:
    """Verdicts by question of the samples that lm_eval logs for cruxeval_output tasks."""
    return [[predicts(response, str(row["doc"]["output"])) for response in row["resps"][0]] for row in rows]


def predicts(response: str, output: str) -> bool:
    """Whether the assertion in a response says the literal `output`; nothing of it is run."""
    answer = response.rpartition("[ANSWER]")[2].partition("[/ANSWER]")[0].strip()
    found, wanted = _literal_of(answer), _literal(output)
    return found is not None and wanted is not None and found[0] == wanted[0]


def _literal_of(answer: str) -> tuple[Any] | None:
    """The literal that an answer says: of all of it if that is one statement, else of its last line that is an
    assertion, else of its last line with ==, else of its first line."""
    if len(answer) > MAX_LITERAL_CHARS:
        return None
    lines = [line.strip(" \t`*") for line in _AROUND.sub("\n", answer).split("\n")]
    lines = [line for line in lines if line]
    equations = [line for line in reversed(lines) if "==" in line]
    equations.sort(key=lambda line: not line.startswith("assert"))  # stable: each kind from the last to the first
    for text in ("\n".join(lines), *equations, *lines[:1]):
        try:
            (statement,) = ast.parse(text).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        expression = statement.test if isinstance(statement, ast.Assert) else getattr(statement, "value", None)
        if isinstance(expression, ast.Compare) and isinstance(expression.ops[-1], ast.Eq):
            expression = expression.comparators[-1]
        elif isinstance(statement, ast.Assert):
            continue  # one that compares nothing
        return _literal(expression) if isinstance(expression, ast.expr) else None
    return None


def _literal(node_or_text: ast.expr | str) -> tuple[Any] | None:
    """The value in a tuple of one, so that the value None is told from no literal."""
    try:
        return (ast.literal_eval(node_or_text),)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def _estimate(metrics: Mapping[str, Any], name: str) -> Estimate:
    metric, _, of_filter = name.partition(",")
    error = metrics.get(f"{metric}_stderr,{of_filter}")
    return Estimate(float(metrics[name]), float(error) if isinstance(error, int | float) else None)


def _logged(results_file: Path, lm_eval_task: str) -> list[dict[str, Any]]:
    path = _samples_file(results_file, lm_eval_task)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; lm_eval should have logged its samples there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _samples_file(results_file: Path, lm_eval_task: str) -> Path:
    stamp = results_file.stem.removeprefix("results_")
    return results_file.with_name(f"samples_{lm_eval_task}_{stamp}.jsonl")
