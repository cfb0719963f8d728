# SPDX-License-Identifier: Apache-2.0
"""The command `co-rewarding`: each subcommand is a script of the clone, which gets the arguments unchanged.

This only chooses the script, which replaces this process: help, signals and exit code are the script's. It runs in the
environment in which `co-rewarding` is installed, active or not.

Exit codes: the script's; 2 with one line for an unknown command, method or script.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from co_rewarding import __version__
from co_rewarding.algo.method_names import terms_of
from co_rewarding.algo.methods import METHODS, consensus_of
from co_rewarding.storage.provenance import PROJECT
from co_rewarding.tools.cli import UserError, command

COMMANDS = {  # name → script or module, what it does
    "doctor": ("scripts/dev/check_env.py", "check that this environment can train (GPUs: scripts/gpu_check.sh)"),
    "inspect": ("scripts/inspect_data.py", "check a data file, or a pair of original and rephrased questions"),
    "rewrite": ("rewrite_questions.py", "rephrase questions, for methods with two views"),
    "estimate": ("scripts/estimate.py", "estimate GPUs, host memory and disk for a run"),
    "train": ("", "train with I, II, III, a baseline or your own reward"),
    "report": ("scripts/report.py", "results of runs, curves, a page of rollouts"),
    "export": ("scripts/export_checkpoint.py", "turn a checkpoint into a Hugging Face model with its card"),
    "evaluate": ("scripts/evaluate.py", "measure models on benchmarks, compare evaluations"),
    "score": ("co_rewarding.score", "rewards of a method for a file of responses"),
}
SHORT = {"I": "co_rewarding_I", "II": "co_rewarding_II", "III": "co_rewarding_III"}
HELP = ("-h", "--help")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=.*", re.DOTALL)


@command("co-rewarding")
def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in HELP:
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"co-rewarding {__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"{name}: no such command; {nearest(name, COMMANDS)}")
    if name == "train":
        return train(rest)
    place = COMMANDS[name][0]
    run([sys.executable, *([script(place)] if place.endswith(".py") else ["-m", place]), *rest])


def usage() -> str:
    lines = "\n".join(f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items())
    return f"usage: co-rewarding COMMAND [ARGUMENT ...]\n\n{lines}\n\nco-rewarding COMMAND --help prints its options."


def train(arguments: Sequence[str]) -> int:
    """Start the run script of a method; KEY=VALUE and the environment reach it unchanged, METHOD is set."""
    if not arguments or arguments[0] in HELP:
        print(train_usage())
        return 0 if arguments else 2
    method, *overrides = SHORT.get(arguments[0], arguments[0]), *arguments[1:]
    if unknown := [term.name for term in terms_of(method) if not term.is_own and term.name not in METHODS]:
        there = [*SHORT, *METHODS] if unknown == [method] else METHODS  # a sum uses the long names
        raise UserError(f"{unknown[0]}: no such method; {nearest(unknown[0], there)}")
    if (os.environ.get("METHOD") or method) != method:
        raise UserError(
            f"METHOD={os.environ['METHOD']}: conflicts with the method {method} of the command; unset METHOD"
        )
    if variables := [text for text in overrides if VARIABLE.fullmatch(text)]:
        raise UserError(f"{variables[0]}: set variables before the command: {variables[0]} co-rewarding train …")
    run(["bash", script(run_script(method)), *overrides], METHOD=method)


def train_usage() -> str:
    """The methods by their run scripts."""
    short, scripts = {name: letter for letter, name in SHORT.items()}, defaultdict(list)
    for name in METHODS:
        scripts[run_script(name)].append(short.get(name, name))
    lines = "\n".join(f"  {place:<40}{', '.join(names)}" for place, names in scripts.items())
    return f"""usage: [VARIABLE=VALUE ...] co-rewarding train METHOD [KEY=VALUE ...]

METHOD chooses the script:

{lines}

Your own function, FILE.py:FUNCTION, uses the baselines' script; a weighted sum uses that of its vote: I's for
co_rewarding_I+0.1*FILE.py:FUNCTION.
co-rewarding train METHOD --help prints the script's variables; KEY=VALUE is any key of the configuration."""


def run_script(method: str) -> str:
    """The run script of a method, below the clone; for a sum that of its vote."""
    vote = consensus_of(method)
    if vote and vote.voter == "teacher":
        return f"Co-rewarding-II/run_corewarding-{'III' if vote.second_view else 'II'}.sh"
    return "Co-rewarding-I/run_corewarding-I.sh" if vote and vote.second_view else "scripts/run_baseline.sh"


def script(place: str) -> str:
    """Raises: UserError: the package is installed without its clone."""
    path = PROJECT / place
    if not path.is_file():
        raise UserError(
            f"{place} is not at {PROJECT}: a wheel has only the package, the scripts are in a clone of the project; "
            "run `bash scripts/install_env.sh` there"
        )
    return str(path)


def nearest(name: str, names: Iterable[str]) -> str:
    """A suggestion for an unknown name."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def run(program: Sequence[str], **variables: str) -> NoReturn:
    """Replace this process by `program`, with this Python first on PATH."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.execvpe(program[0], program, os.environ | {"PATH": here, "VIRTUAL_ENV": sys.prefix} | variables)


if __name__ == "__main__":
    sys.exit(main())
