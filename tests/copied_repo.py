# SPDX-License-Identifier: Apache-2.0
"""The scripts in a copy of the folder that has everything they read, on a machine and in an environment of one's own.

The fixture `clone` (conftest.py) is such a copy, with no environment.
"""

import os
import shutil
import subprocess
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def copy_scripts(folder: Path) -> Path:
    """`folder` with what install_env.sh and the scripts that call it read."""
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


def machine(clone: Path, gpus: str) -> str:
    """A PATH on which nvidia-smi says `gpus`, as on a machine with these GPUs or, with "", with none."""
    tool(clone, "nvidia-smi", f"printf '{gpus}'")
    return f"{clone / 'machine'}{os.pathsep}{os.environ['PATH']}"


def bare_machine(clone: Path) -> str:
    """A PATH on which there is what install_env.sh calls, and no Python, no uv and no GPU."""
    tool(clone, "nvidia-smi", "exit 1")
    called = "awk bash cat cut df dirname getconf grep head mkdir mktemp rm sha256sum sh sleep sort tail uname"
    for name in called.split():
        link = clone / "machine" / name
        if not link.exists():
            link.symlink_to(shutil.which(name))
    return str(clone / "machine")


def tool(clone: Path, name: str, command: str) -> None:
    """One more on the PATH of `machine`."""
    path = clone / "machine" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


ONE_GPU, NO_GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\\n", "No devices were found\\n"


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
