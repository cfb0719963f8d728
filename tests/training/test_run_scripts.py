# SPDX-License-Identifier: Apache-2.0
"""Whatever a variable of a run script holds arrives in the configuration as it is, or is refused in one line.

The scripts are executed with a `python` in front of the real one that writes down its arguments; Hydra reads those
and puts them into a configuration.
"""

import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from co_rewarding.training import run_script
from co_rewarding.training.preflight.names import check_data_paths, check_model_path, check_names

REPO = Path(__file__).resolve().parents[2]
COMMON = REPO / "scripts/run_common.sh"
SCRIPTS = [*sorted(REPO.glob("Co-rewarding-*/run_*.sh")), REPO / "scripts/run_baseline.sh"]
NAMES = [
    "My Projects (2024)/José ü 𝔸 日本",
    "lr=1e-5,b={c: d}",
    "[a] {b} <c> #1",
    'it\'s "quoted" `cmd` $(cmd) $HOME',
    "back\\slash\\\\ \\' \\",
    "~a & b; c | d % e @ f ! g ? * h",
    "2024_11_26",
    "null",
    "1e5",
    "a${",
]
PATHS = ("MODEL_PATH", "TRAIN_FILE", "TRAIN_AUG_FILE", "VAL_FILE")


def overrides(script: Path, folder: Path, cwd: Path, *extra: str, **environment: str) -> dict[str, object]:
    """Key → value of what the script hands to python, read by Hydra and stored by OmegaConf."""
    done = execute(script, folder, cwd, *extra, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    parsed = OverridesParser.create().parse_overrides(done.stdout.split("\0")[2:-1])
    assert not any(override.is_sweep_override() for override in parsed)
    values = {override.key_or_group: override.value() for override in parsed}
    stored = OmegaConf.create(OmegaConf.to_container(OmegaConf.create(values), resolve=True))  # as verl has it
    return {str(key): stored[key] for key in values}


def execute(script: Path, folder: Path, cwd: Path, *extra: str, **environment: str) -> subprocess.CompletedProcess[str]:
    named = {name for path in SCRIPTS for name in run_script.LINE.findall(path.read_text())}
    clean = {name: value for name, value in os.environ.items() if name not in named}
    variables = {**clean, "VIRTUAL_ENV": str(folder), "PATH": f"{folder}:{os.environ['PATH']}", **environment}
    return subprocess.run(
        ["bash", str(script), *extra], cwd=cwd, env=variables, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.fixture(scope="module")
def python_that_tells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It prints its arguments, and puts the run's name, which it has from the environment, beside itself."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "python").write_text('#!/bin/sh\nprintf \'%s\\0\' "$@"\nprintf %s "$RUN_NAME" >"${0%/*}/RUN_NAME"\n')
    (folder / "python").chmod(0o755)
    return folder


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_name_arrives_as_it_is(script: Path, python_that_tells: Path, tmp_path: Path) -> None:
    keys = {variable: key for key, variable in run_script.ARGUMENT.findall(script.read_text())}
    texts = [name for name in PATHS if name in keys]
    assert len(texts) >= 3
    for name in NAMES[:-1]:
        values, run = {variable: f"{variable}/{name}" for variable in texts}, name.replace("~", "-")
        found = overrides(script, python_that_tells, tmp_path, RUN_NAME=run, **values)
        assert {variable: found[keys[variable]] for variable in values} == values
        assert (python_that_tells / "RUN_NAME").read_text() == run
        # alone, without a folder before it that would make any text of it
        found = overrides(script, python_that_tells, tmp_path, **dict.fromkeys(texts, name))
        assert {found[keys[variable]] for variable in texts} == {name}
    for variable in (*texts, "RUN_NAME", "RUNS_DIR"):
        for value, why in ((NAMES[-1], "has ${"), ("a\nb", "has a line break"), ("a\x1bb", "or another control")):
            message = refusal(execute(script, python_that_tells, tmp_path, **{variable: value}))
            assert f"{variable}=" in message and why in message


def test_whatever_is_quoted_is_read_as_it_was(tmp_path: Path) -> None:
    """All texts of up to four of the characters that mean something, to Hydra or to the shell."""
    texts = ["".join(letters) for size in range(1, 5) for letters in itertools.product("\\'\"a ", repeat=size)]
    program = f'source "{COMMON}"; while IFS= read -r value; do quoted "$value"; echo; done'
    done = subprocess.run(["bash", "-c", program], input="\n".join(texts) + "\n", capture_output=True, text=True)
    quoted = done.stdout.splitlines()
    assert len(quoted) == len(texts) == 5 + 25 + 125 + 625
    parser = OverridesParser.create()
    assert [parser.parse_override(f"k={value}").value() for value in quoted] == texts


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", None),  # none
        ("[a.parquet,b.parquet]", ["a.parquet", "b.parquet"]),
        ("[a b.parquet, ü (1)=.parquet]", ["a b.parquet", "ü (1)=.parquet"]),
        ("['a,b.parquet',\"ü.parquet\"]", ["a,b.parquet", "ü.parquet"]),  # Hydra's own
        ("[~/a.parquet]", [f"{Path.home()}/a.parquet"]),
        ("~/a.parquet", f"{Path.home()}/a.parquet"),
        ("[is a file]", "[is a file]"),
        ("[a]/b.parquet", "[a]/b.parquet"),
        ("my.parquet", "my.parquet"),
    ],
)
def test_a_file_or_a_list_of_files(given: str, expected: object, python_that_tells: Path, tmp_path: Path) -> None:
    (tmp_path / "[is a file]").touch()
    found = overrides(SCRIPTS[0], python_that_tells, tmp_path, TRAIN_AUG_FILE="x", TRAIN_FILE=given or "y")
    if given:
        assert found["data.train_files"] == expected
    else:  # only VAL_FILE may be empty, where the script has a line for that
        program = f'source "{COMMON}"; FILE=""; quote_files FILE; printf %s "$FILE"'
        assert subprocess.run(["bash", "-c", program], capture_output=True, text=True).stdout == "null"


@pytest.mark.parametrize("parent", ["clone (2024) lr=1e-5, ü", "it's [a] $x & {b}", "back\\slash #1"])
def test_a_clone_in_any_folder(parent: str, python_that_tells: Path, tmp_path: Path) -> None:
    clone = tmp_path / parent
    (clone / "Co-rewarding-I").mkdir(parents=True)
    (clone / "scripts").symlink_to(REPO / "scripts")
    script = clone / "Co-rewarding-I" / SCRIPTS[0].name
    script.write_bytes(SCRIPTS[0].read_bytes())
    found = overrides(script, python_that_tells, tmp_path)
    assert found["data.train_files"] == str(clone / "data/math/paired_original.parquet")
    assert f"RUNS_DIR={clone}/runs " in execute(script, python_that_tells, tmp_path, "--help").stdout


@pytest.mark.parametrize(
    "name", ["2024_11_26", "1e5", "12.50", "null", "true", "comparison/entropy_seed1", "a.b-c (1)"]
)
def test_a_name_that_is_good_for_the_script_is_good_for_the_program(
    name: str, python_that_tells: Path, tmp_path: Path
) -> None:
    overrides(SCRIPTS[0], python_that_tells, tmp_path, RUN_NAME=name)
    assert (python_that_tells / "RUN_NAME").read_text() == name
    check_names(named(name))


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/abs", "a//b", "a/", ".", "./a", "~/a", "a" * 201, "ü" * 101])
def test_a_name_that_leaves_runs_or_is_too_long(name: str, python_that_tells: Path, tmp_path: Path) -> None:
    assert "RUN_NAME=" in refusal(execute(SCRIPTS[0], python_that_tells, tmp_path, RUN_NAME=name))
    for key in ("experiment_name", "project_name"):
        with pytest.raises(ValueError, match=rf"^trainer\.{key}="):
            check_names(named(**{key: name}))


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "\u202e", "b\udcff"])
def test_characters_that_no_name_has(name: str) -> None:
    with pytest.raises(ValueError, match=r"has the character '\\"):
        check_names(named(name))


@pytest.mark.parametrize("value", [20241126, 12.5, None, True])
def test_a_name_that_hydra_took_for_something_else(value: object) -> None:
    with pytest.raises(ValueError, match=rf"trainer.experiment_name={value}: was read as a number"):
        check_names(named(value))


@pytest.mark.parametrize(("path", "why"), [("a::b.parquet", "has ::"), ("$HOME/b.parquet", "has $ and the name of")])
def test_what_the_reader_of_parquet_files_does_not_take(path: str, why: str) -> None:
    for key in ("train_files", "val_files"):
        config = OmegaConf.create({"data": {"train_files": "a.parquet", "val_files": [], key: ["a.parquet", path]}})
        with pytest.raises(ValueError, match=rf"^data\.{key}={re.escape(path)}: .*{re.escape(why)}"):
            check_data_paths(config)
    check_data_paths(OmegaConf.create({"data": {"train_files": "$(a)/$ü/:b: $/~", "val_files": None}}))


def test_a_model_folder_that_vllm_reads_itself(tmp_path: Path) -> None:
    model, rollout = {"path": str(tmp_path / "m [1]")}, {"load_format": "dummy"}
    Path(model["path"]).mkdir()
    config = OmegaConf.create({"actor_rollout_ref": {"model": model, "rollout": rollout}})
    check_model_path(config)
    config.actor_rollout_ref.rollout.load_format = "safetensors"
    with pytest.raises(ValueError, match=r"^actor_rollout_ref.model.path=.*m \[1\]: .* one of \[ \* \?; rename"):
        check_model_path(config)
    config.actor_rollout_ref.model.path = "owner/name"
    check_model_path(config)


def named(experiment_name: object = "a", project_name: object = "b") -> OmegaConf:
    trainer = {"experiment_name": experiment_name, "project_name": project_name}
    return OmegaConf.create({"trainer": trainer, "co_rewarding_run_dir": "runs/b/a"})


@pytest.mark.parametrize("script", [*SCRIPTS, REPO / "scripts/run_ttt.sh"], ids=lambda path: path.name)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_the_scripts_own_lines(script: Path, option: str, python_that_tells: Path, tmp_path: Path) -> None:
    done = execute(script, python_that_tells, tmp_path, option)
    assert (done.returncode, done.stderr) == (0, "")
    shown = dict(re.findall(r"^  ([A-Z_0-9]+)=(.*)$", done.stdout, flags=re.MULTILINE))
    settings = re.findall(
        r"^(?:export )?([A-Z0-9_]+)=\$\{\1:?-[^}]*\} *(#.*)?$", script.read_text(), flags=re.MULTILINE
    )
    assert list(shown) == [name for name, _ in settings]
    assert all(shown[name].endswith(comment) for name, comment in settings)
    assert "Hydra" not in done.stdout and "source" not in done.stdout


@pytest.fixture
def started_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_script.PATH, str(SCRIPTS[0]))


@pytest.mark.usefixtures("started_by")
def test_a_variable_that_no_script_reads_is_missed() -> None:
    typed = {"LEARNING_RAT": "LEARNING_RATE", "TRAIN_FILES": "TRAIN_FILE", "NUM_ROLLOUT": "NUM_ROLLOUTS"}
    read = dict.fromkeys(("LEARNING_RATE", "TEACHER_NUM_ROLLOUTS", "METHOD", "METHODS", "LORA_RANK", "ON_END"), "")
    ordinary = dict.fromkeys(
        ("PATH", "HOME", "LOGNAME", "TERM", "SLURM_GPUS_PER_NODE", "SLURM_NNODES", "RUNNER_NAME", "MODEL_NAME",
         "CUDA_VISIBLE_DEVICES", "VERL_PLATFORM", "RAY_ADDRESS", "HOSTNAME", "WANDB_NAME"), ""
    )  # fmt: skip
    assert run_script.unread({**dict.fromkeys(typed, ""), **read, **ordinary}) == typed


def test_without_a_run_script_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(run_script.PATH, raising=False)
    assert run_script.unread({"LEARNING_RAT": ""}) == {}
    assert run_script.named("actor_rollout_ref.actor.optim.lr=x: bad") == "actor_rollout_ref.actor.optim.lr=x: bad"


@pytest.mark.usefixtures("started_by")
def test_a_message_names_the_variable_once() -> None:
    key = "actor_rollout_ref.actor.optim.lr"
    assert run_script.named(f"{key}=x: bad") == f"{key}=x: bad (LEARNING_RATE in the run script)"
    assert run_script.named(f"{key}=x: bad, set LEARNING_RATE") == f"{key}=x: bad, set LEARNING_RATE"
    assert run_script.named("trainer.device='cpu': bad") == "trainer.device='cpu': bad"  # no variable sets it
    assert run_script.named("no pair") == "no pair"
