# SPDX-License-Identifier: Apache-2.0
"""IFEval, MMLU-Pro and CRUXEval: the lm_eval command line and its results.

    task       lm_eval's task        number in the table
    ifeval     ifeval                prompt-level strict accuracy
    mmlu_pro   mmlu_pro              exact match, 5 examples, over all 14 subjects
    cruxeval   cruxeval_output_cot   pass@1: output prediction with reasoning

Prompts, decoding (IFEval and MMLU-Pro greedy, CRUXEval ten responses at temperature 0.2) and graders are lm_eval's own;
the model's chat template is applied. The paper used lm_eval for the first two and ZeroEval for CRUX, with another
prompt: compare CRUX numbers only with CRUX numbers from here. lm_eval 0.4.13 strips the quotes of a predicted output
before running it, so a right answer that is a string counts as wrong (NOTES).

A finished task (lm_eval ended with exit code 0) with the same command line is not run again; an interrupted greedy task
reuses responses from lm_eval's cache; a failed command is an error that names its log. LiveCodeBench:
docs/EVALUATION.md.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from co_rewarding.tools.cli import UserError
from co_rewarding.tools.evaluation.estimates import Estimate
from co_rewarding.tools.generation.engine import LocalOptions
from co_rewarding.tools.generation.vllm_engine import LOOPBACK

INSTALL = "pip install 'lm-eval[hf,ifeval,api]==0.4.13' (with vllm instead of hf on GPUs where it is missing)"
NOTES = {"cruxeval": "by lm_eval, which counts a right output that is a string as wrong; not the paper's (ZeroEval)"}


@dataclass(frozen=True)
class HarnessTask:
    """A task of lm_eval."""

    lm_eval_task: str
    metric: str  # in its results: "name,filter"
    primary: str  # name of the number here
    hub: str  # data set
    runs_code: bool = False  # lm_eval executes model output


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

    local: LocalOptions = field(default_factory=LocalOptions)
    command: str = "lm_eval"
    extra: str = ""  # further arguments, as a shell would read them
    limit: int | None = None  # number of first questions; for MMLU-Pro of each subject
    seed: int = 0
    on_cpu: bool = False
    confirm_run_unsafe_code: bool = False


def find_command(command: str) -> list[str]:
    """The words of the lm_eval command, found on PATH or beside this Python. Raises UserError."""
    words = shlex.split(command)
    if not words:
        raise UserError("--lm_eval is empty: name the command")
    found = shutil.which(words[0]) or shutil.which(words[0], path=str(Path(sys.executable).parent))
    if found is None:
        raise UserError(f"--lm_eval {command}: no such command, which IFEval, MMLU-Pro and CRUXEval need: {INSTALL}")
    return [str(Path(found).absolute()), *words[1:]]


def command_line(task: str, model: str, folder: Path, options: HarnessOptions) -> list[str]:
    """The call of lm_eval for one task.

    Raises:
        UserError: a model name that its syntax cannot hold, or model code that may not be run.
    """
    spec, local = TASKS[task], options.local
    name = str(Path(model).absolute()) if Path(model).exists() else model
    if "," in name or "=" in name:
        raise UserError(f"--model {name}: lm_eval cannot take a name with ',' or '='; rename or link the folder")
    if spec.runs_code and not options.confirm_run_unsafe_code:
        raise UserError(
            f"--tasks {task}: lm_eval runs Python written by the model; use a container and confirm with "
            "--confirm_run_unsafe_code, or leave the task out"
        )
    model_args = {"pretrained": name, "dtype": local.dtype}
    if options.on_cpu:
        backend, device = "hf", ["--device", "cpu", "--batch_size", "8"]
        model_args["dtype"] = "float32" if local.dtype == "auto" else local.dtype
    else:
        backend, device = "vllm", ["--batch_size", "auto"]
        model_args["tensor_parallel_size"] = str(local.tensor_parallel_size or 1)
        model_args["gpu_memory_utilization"] = str(local.gpu_memory_utilization)
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
    """Raises UserError if `folder` was made by another command line, model or data."""
    note = folder / "command.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) != _asked(command, fingerprint, local_data):
        raise UserError(
            f"{folder} was made by another command line, model or data: choose another --output_dir, or discard it "
            "away with --restart"
        )


def _asked(command: Sequence[str], fingerprint: str, local_data: Path | None) -> dict[str, Any]:
    return {
        "command": list(command)[1:],
        "model": fingerprint,
        "data": str(local_data.absolute()) if local_data else None,
    }


def run(task: str, command: Sequence[str], fingerprint: str, folder: Path, local_data: Path | None = None) -> Path:
    """Run lm_eval unless the same command has finished before; return its results file.

    Args:
        folder: the task's; absolute.
        local_data: folder with the data set as on the hub, for a machine without network.

    Raises:
        UserError: the folder was made for something else, or lm_eval failed.
    """
    check_folder(command, fingerprint, folder, local_data)
    finished = folder / "finished"  # it writes results before it exits, and may still fail
    if finished.is_file() and (done := _results(folder)):
        return done[-1]
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    (folder / "command.json").write_text(json.dumps(_asked(command, fingerprint, local_data), indent=1), "utf-8")
    if local_data is not None:
        # the datasets library looks for a folder of that name before the hub
        link = work / TASKS[task].hub
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(local_data.absolute(), target_is_directory=True)
    log = folder / "lm_eval.log"
    print(f"evaluate.py: {task}: {shlex.join(command)} (log: {log})", file=sys.stderr, flush=True)
    with log.open("ab") as out:
        code = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
            env=os.environ | LOOPBACK | {"TOKENIZERS_PARALLELISM": "false"},
        ).returncode  # fmt: skip
    done = _results(folder)
    if code != 0 or not done:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise UserError(
            f"{task}: lm_eval ended with exit code {code} and {'no' if not done else 'a'} result; see {log}, which "
            f"ends: {lines[-1].strip()[:200] if lines else 'empty'}"
        )
    finished.touch()
    return done[-1]


def _results(folder: Path) -> list[Path]:
    return sorted((folder / "output").rglob("results_*.json"))


def read_scores(task: str, results_file: Path) -> dict[str, Any]:
    """The numbers of one task, with the names of results.json.

    Raises:
        UserError: the file lacks fields of lm_eval 0.4.13.
    """
    spec = TASKS[task]
    try:
        found = json.loads(results_file.read_text(encoding="utf-8"))
        metrics = {**found["results"], **found.get("groups", {})}[spec.lm_eval_task]
        names = [spec.metric, *(name for name in metrics if "," in name and "_stderr," not in name)]
        accuracy = {spec.primary if name == spec.metric else name.partition(",")[0]: name for name in names}
        counts = found["n-samples"].values()
        return {
            "questions": sum(count["effective"] for count in counts),
            "num_rows": sum(count["original"] for count in counts),
            "samples": 1,
            "primary": spec.primary,
            "accuracy": {name: asdict(_estimate(metrics, key)) for name, key in accuracy.items()},
            "data": {"dataset": spec.hub},
            "lm_eval": found.get("lm_eval_version"),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{results_file}: has no {error} where lm_eval 0.4.13 writes it; install that version: {INSTALL}"
        ) from None


def _estimate(metrics: Mapping[str, Any], name: str) -> Estimate:
    metric, _, of_filter = name.partition(",")
    error = metrics.get(f"{metric}_stderr,{of_filter}")
    return Estimate(float(metrics[name]), float(error) if isinstance(error, int | float) else None)
