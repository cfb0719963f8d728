# SPDX-License-Identifier: Apache-2.0
"""`co-rewarding`: which script it becomes, with what, and that help, output and exit code are the script's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from co_rewarding.algo.methods import METHODS
from co_rewarding.tools.dispatch import COMMANDS, SHORT, run_script

REPO = Path(__file__).resolve().parents[2]


def called(*program: str, **variables: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    environment = {name: value for name, value in os.environ.items() if name not in ("METHOD", "VIRTUAL_ENV")}
    environment |= variables
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def co_rewarding(*arguments: str, **variables: str) -> tuple[int, str, str]:
    return called(sys.executable, "-m", "co_rewarding.tools.dispatch", *arguments, **variables)


def test_help_has_a_line_for_each_command() -> None:
    code, out, err = co_rewarding("--help")
    assert (code, err) == (0, "")
    assert re.findall(r"^  (\w+)  +\w.{20,}$", out, flags=re.MULTILINE) == list(COMMANDS)
    assert co_rewarding() == (2, out, "")


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"train", "score"}))
def test_a_command_is_a_script_that_is_there(name: str) -> None:
    assert (REPO / COMMANDS[name][0]).is_file()


@pytest.mark.parametrize("name", ["doctor", "score"])
def test_a_commands_help_is_its_scripts(name: str) -> None:
    place = COMMANDS[name][0]
    program = [str(REPO / place)] if place.endswith(".py") else ["-m", place]
    code, out, err = called(sys.executable, *program, "--help")
    assert co_rewarding(name, "--help") == (code, out, err) == (0, out, "") and len(out.splitlines()) > 5


def test_output_and_exit_code_are_the_scripts() -> None:
    config = str(REPO / "recipes/models/qwen3-8b-base.json")
    code, out, err = co_rewarding("estimate", config, "--gpus", "2x80")
    assert (code, err) == (0, "") and "8,190,735,360 weights" in out
    code, out, err = co_rewarding("estimate", config, "--gpus", "1x40")
    assert (code, err) == (1, "") and "does not fit" in out
    code, out, err = co_rewarding("estimate", "--gpus", "1x40")
    assert (code, out) == (2, "") and err.startswith("estimate.py: error: name a model")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evalute", "--tasks"], "evalute: no such command; did you mean evaluate?"),
        (["xyz"], "xyz: no such command; there are doctor, inspect, "),
        (["train", "majority_votin"], "majority_votin: no such method; did you mean majority_voting?"),
        (["train", "co_rewarding_I+0.1*lenght"], "lenght: no such method; there are co_rewarding_I, "),
        (["train", "0.1*"], "'0.1*' is no method: write a name"),
        (["train", "I", "LEARNING_RATE=1e-6"], "LEARNING_RATE=1e-6: set variables before the command: "),
    ],
)
def test_a_wrong_word_is_refused_in_one_line(arguments: list[str], message: str) -> None:
    code, out, err = co_rewarding(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"co-rewarding: error: {message}") and err.count("\n") == 1


def test_two_methods_are_refused() -> None:
    assert co_rewarding("train", "I", METHOD="entropy")[::2] == (2, "co-rewarding: error: METHOD=entropy: "
        "conflicts with the method co_rewarding_I of the command; unset METHOD\n")  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment. `own` is the Python of co-rewarding; `python`, which run scripts call, prints
    its arguments and ends with 7."""
    folder = tmp_path_factory.mktemp("environment") / "bin"
    folder.mkdir()
    (folder / "own").symlink_to(os.path.realpath(sys.executable))
    (folder / "python").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\nexit 7\n")
    (folder / "python").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("arguments", "module", "method"),
    [
        (["I"], "co_rewarding_i.main", "co_rewarding_I"),
        (["II"], "co_rewarding_ii.main", "co_rewarding_II"),
        (["III"], "co_rewarding_ii.main", "co_rewarding_III"),
        (["entropy"], "co_rewarding.training.main", "entropy"),
        (["my.py:short"], "co_rewarding.training.main", "my.py:short"),
        (["co_rewarding_I+0.1*my.py:short"], "co_rewarding_i.main", "co_rewarding_I+0.1*my.py:short"),
        (["co_rewarding_II+0.1*it's\\.py:short"], "co_rewarding_ii.main", "co_rewarding_II+0.1*it's\\.py:short"),
    ],
    ids=lambda value: "",
)
def test_train_becomes_the_methods_run_script(
    environment: Path, arguments: list[str], module: str, method: str
) -> None:
    program = [str(environment / "own"), "-m", "co_rewarding.tools.dispatch", "train", *arguments, "trainer.nnodes=3"]
    code, out, err = called(*program, PYTHONPATH=os.pathsep.join(sys.path), LEARNING_RATE="2e-7")
    assert (code, err) == (7, "")
    _, started, *overrides = out.split("\0")[:-1]
    assert started == module
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = {override.key_or_group: override.value() for override in parsed}
    assert values["trainer.nnodes"] == 3 and values["actor_rollout_ref.actor.optim.lr"] == 2e-7
    assert values.get("co_rewarding.method") == method


def test_every_method_has_the_script_with_its_views_and_teacher() -> None:
    for name, method in METHODS.items():
        text = (REPO / run_script(name)).read_text()
        assert ("TEACHER_NUM_ROLLOUTS=" in text) == method.needs_teacher
        assert ("TRAIN_AUG_FILE=" in text) == method.needs_both_views


def test_trains_help_has_every_method() -> None:
    code, out, err = co_rewarding("train", "--help")
    assert (code, err) == (0, "")
    assert co_rewarding("train") == (2, out, "")
    lines = dict(re.findall(r"^  (\S+\.sh) +(.+)$", out, flags=re.MULTILINE))
    assert sorted(", ".join(lines.values()).split(", ")) == sorted({*METHODS, *SHORT} - {*SHORT.values()})
    assert all((REPO / place).is_file() for place in lines)


def test_a_methods_help_is_its_run_scripts() -> None:
    code, out, err = co_rewarding("train", "I", "--help")
    assert (code, err) == (0, "")
    assert out.startswith("Co-rewarding-I (") and "\n  LEARNING_RATE=3e-6" in out
