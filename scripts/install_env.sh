#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the Python environment, installs the locked packages and this project into it, and checks the result.
# A second run notices that nothing changed and only checks. See --help.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: bash scripts/install_env.sh [--cpu | --gpu] [--dev] [--packages-only] [--where | --device]

  --cpu, --gpu   install for a machine without or with an NVIDIA GPU (default: PLATFORM, else the environment's
                 device, else by nvidia-smi)
  --dev          also install pytest, ruff and shellcheck
  --packages-only  install the locked packages and stop, without this project and the check (a layer of a container image)
  --where        print the folder of the environment that would be used, and do nothing else
  --device       print the device it would be installed for, cpu or gpu, and do nothing else

Location: the active virtual environment (VIRTUAL_ENV) or conda environment (not "base"); else .venv beside this
project's README. Linux x86-64 with glibc 2.31 and Python 3.11 or 3.12, since the locks are resolver results for
these; for a GPU the NVIDIA driver 580.

With uv on the PATH, uv makes .venv, downloads Python 3.11 if there is neither 3.11 nor 3.12, and installs the packages;
pip is the fallback. Without uv: Python's venv and pip.

Environment variables:
  PYTHON    the Python 3.11 or 3.12 that makes .venv; when set, an active environment is not used
  PLATFORM  cpu or gpu, like the option; the name that the training scripts use
  NEED_GB   free disk space required before a first installation (default: 7 for --cpu, 20 for --gpu)
  NEED_DRIVER  oldest NVIDIA driver that is accepted for --gpu (default: 580; less with NVIDIA's cuda-compat package)
HELP
}

# Ends the script with one line for the error and one for the fix.
fail() {
    printf 'error: %s\n  fix: %s\n' "$1" "$2" >&2
    exit 1
}

device="" dev=0 packages_only=0 where=0 say_device=0
for arg in "$@"; do
    case "$arg" in
        --cpu | --gpu) device="${arg#--}" ;;
        --dev) dev=1 ;;
        --packages-only) packages_only=1 ;;
        --where) where=1 ;;
        --device) say_device=1 ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && fail "unknown argument '$arg'" "use one of those above" ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
repo="$PWD"

# --- which environment
if [ -z "${PYTHON:-}" ] && [ -n "${VIRTUAL_ENV:-}" ]; then
    env_dir="$VIRTUAL_ENV" own_env=0
elif [ -z "${PYTHON:-}" ] && [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then
    env_dir="$CONDA_PREFIX" own_env=0
else
    env_dir="$repo/.venv" own_env=1
fi
if [ "$where" = 1 ]; then
    printf '%s\n' "$env_dir"
    exit 0
fi
python="$env_dir/bin/python"
stamp="$env_dir/.co-rewarding-installed"
log="$env_dir/co-rewarding-install.log"

# --- which device: decided here for all scripts, which use --device
# The stamp's first line is the device, written when an installation begins; the rest is added when it has succeeded.
made_for="$(head -n 1 "$stamp" 2>/dev/null || true)"
if grep -qs 'dev=1$' "$stamp"; then dev=1; fi # what it has, it keeps
if [ -z "$device" ]; then
    if [ -n "${PLATFORM:-}" ]; then
        [[ "$PLATFORM" == @(cpu|gpu) ]] || fail "PLATFORM=$PLATFORM: must be cpu or gpu" "set or unset it"
        device="$PLATFORM"
    elif [ -n "$made_for" ]; then
        device="$made_for"
    elif [[ $'\n'"$(nvidia-smi -L 2>/dev/null)" == *$'\n''GPU '* ]]; then
        device=gpu
    else
        device=cpu
    fi
fi
[ -z "$made_for" ] || [ "$made_for" = "$device" ] || fail \
    "$env_dir was made with --$made_for, not --$device; the two sets of packages overwrite each other's files" \
    "use it unchanged (PLATFORM=$made_for), or remove it (rm -rf $env_dir) or activate another, then run this again"
if [ "$say_device" = 1 ]; then
    printf '%s\n' "$device"
    exit 0
fi
if [ "$device" = gpu ]; then
    lock=requirements.lock need_gb="${NEED_GB:-20}" # 11 GB installed, most of it CUDA's libraries, and what pip unpacks meanwhile
else
    lock=requirements-cpu.lock need_gb="${NEED_GB:-7}" # 4.1 GB installed, and pip's temporary files
fi

# --- Python 3.11 or 3.12
python_fix='install Python 3.11 or 3.12 with its venv module (apt install python3.11-venv, conda create -n corew python=3.11),
       or uv, which brings one, or name one: PYTHON=/path/to/python3.11 bash scripts/install_env.sh'
uv="$(command -v uv || true)"

# Prints the version of a Python as "3.11", or nothing where $1 is no working Python.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# Succeeds for the version of a Python that the locks are for.
fits() { [[ "$1" == 3.11 || "$1" == 3.12 ]]; }

# Succeeds where $1 can make a virtual environment with pip in it (Debian packages that separately); uv needs no help.
can_make_venv() { [ -n "$uv" ] || "$1" -c 'import ensurepip, venv' 2>/dev/null; }

[ "$(uname -sm)" = "Linux x86_64" ] || fail "this is $(uname -sm); the locks are for Linux x86_64" \
    "use such a machine or a container; for co_rewarding.score alone: pip install ."
[[ "$need_gb" =~ ^[0-9]+$ ]] || fail "NEED_GB=$need_gb is not a whole number" "NEED_GB=7, for example"
base_python="" # path of the Python that makes .venv; for uv also a version, which it downloads
if [ "$own_env" = 0 ]; then
    found="$(version_of "$python")"
    fits "$found" || fail "the active environment $env_dir has Python ${found:-none that runs}, needed is 3.11 or 3.12" \
        "deactivate it and run this again, or activate one with Python 3.11 or 3.12"
elif [ -n "${PYTHON:-}" ]; then
    found="$(version_of "$PYTHON")"
    [ -n "$found" ] || fail "PYTHON=$PYTHON does not run as Python" "$python_fix"
    fits "$found" || fail "PYTHON=$PYTHON is Python $found, needed is 3.11 or 3.12" "$python_fix"
    can_make_venv "$PYTHON" || fail "PYTHON=$PYTHON lacks the modules venv and ensurepip" "$python_fix"
    base_python="$PYTHON"
elif [ ! -e "$python" ]; then
    tried=""
    # every one on the PATH: the first of a name may be a pyenv shim that does not run
    while read -r candidate; do
        found="$(version_of "$candidate")"
        if fits "$found" && can_make_venv "$candidate"; then base_python="$candidate" && break; fi
        [ -z "$found" ] || tried="$tried $candidate is $found;"
    done < <(type -ap python3.11 python3.12 python3 python || true)
    if [ -z "$base_python" ] && [ -n "$uv" ]; then base_python=3.11; fi
    [ -n "$base_python" ] || fail \
        "no Python 3.11 or 3.12 that can make a virtual environment (${tried:- no Python at all})" "$python_fix"
fi
if [ -e "$python" ] || [ -L "$python" ]; then
    found="$(version_of "$python")"
    fits "$found" || fail "$env_dir has Python ${found:-none that runs}, needed is 3.11 or 3.12" \
        "remove it (rm -rf $env_dir) and run this again"
fi

# --- already installed?
# What the environment was made from. The folder is part of it, because the project is installed as a link to it.
fingerprint() {
    printf '%s\n%s dev=%s\n' "$device" "$repo" "$dev"
    sha256sum "$lock" requirements-dev.txt pyproject.toml scripts/vllm-cpu-name/pyproject.toml
}
if [ "$packages_only" = 0 ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ] &&
    "$python" scripts/dev/check_env.py --quick --device "$device" >/dev/null 2>&1; then
    printf 'environment: %s, already installed for %s\n' "$env_dir" "${device^^}"
    exit 0
fi

# --- requirements of the packages, checked before gigabytes are downloaded
glibc="$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2 || true)"
printf '2.31\n%s\n' "${glibc:-0}" | sort -CV || fail \
    "glibc is ${glibc:-not the C library here}, needed is 2.31: vLLM's llguidance has no wheel for less" \
    "use a newer system (Debian 11, Ubuntu 20.04, RHEL 9 or newer) or a container of one"
driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)"
need_driver="${NEED_DRIVER:-580}"
if [ "$device" = gpu ] && [[ "$driver" =~ ^[0-9]+\. ]]; then
    printf '%s\n%s\n' "$need_driver" "$driver" | sort -CV || fail \
        "the NVIDIA driver is $driver, needed is $need_driver: the packages are built for CUDA 13" \
        "update the driver, or install NVIDIA's cuda-compat and set NEED_DRIVER, or use the CPU (--cpu)"
fi

# --- room on the disk
if ! grep -qs 'dev=' "$stamp"; then
    free_gb="$(df -Pk "$(dirname "$env_dir")" | awk 'NR == 2 { print int($4 / 1048576) }')"
    [ "$free_gb" -ge "$need_gb" ] || fail "$free_gb GB free at $(dirname "$env_dir"), $need_gb GB are needed" \
        "free disk space, use an environment on another disk (activate it first), or override NEED_GB"
fi

# --- install
heartbeat="" scratch=""
cleanup() {
    [ -z "$heartbeat" ] || kill "$heartbeat" 2>/dev/null || true
    [ -z "$scratch" ] || rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

network_error='Connection(Error| refused| reset| aborted| broken)|timed out|TimeoutError|Temporary failure in name'
network_error="$network_error|Max retries exceeded|IncompleteRead|RemoteDisconnected|50[234] (Server Error|Bad Gateway)"
network_error="$network_error|error sending request|dns error" # uv's words

# The fix for the error in the log.
advice() {
    if grep -q 'No space left' "$log"; then
        echo "free disk space (pip also unpacks into ${TMPDIR:-/tmp}), then run this again"
    elif grep -qE "$network_error" "$log"; then
        echo "check the network, the proxy and pip's index (pip config list), then run this again: it resumes here"
    elif grep -q 'No matching distribution' "$log"; then
        echo "pip's index (pip config list) lacks the package or cannot be reached; a folder of wheels helps: PIP_FIND_LINKS"
    else
        echo "read the log, then run this again: it resumes here; rm -rf the environment to start over"
    fi
}

# attempt LABEL COMMAND...: runs it with its output in the log and the seconds on the screen; returns its exit code.
attempt() {
    local label="$1" start="$SECONDS" code=0
    shift
    printf '%s ...' "$label"
    printf '\n== %s\n' "$*" >>"$log"
    (while sleep 20 >/dev/null 2>&1; do printf ' %d s' "$((SECONDS - start))"; done) &
    heartbeat=$!
    "$@" >>"$log" 2>&1 || code=$?
    kill "$heartbeat" 2>/dev/null || true
    wait "$heartbeat" 2>/dev/null || true
    heartbeat=""
    [ "$code" != 0 ] || printf ' done in %d s\n' "$((SECONDS - start))"
    return "$code"
}

# step LABEL COMMAND...: an attempt, repeated once after a network error; ends the script if it fails.
step() {
    : >"$log"
    if attempt "$@"; then return; fi
    if grep -qE "$network_error" "$log"; then
        printf ' network error, trying again\n'
        if attempt "$@"; then return; fi
    fi
    printf ' FAILED\n--- last lines of %s\n' "$log" >&2
    tail -n 20 "$log" >&2
    fail "${1#* } failed" "$(advice)"
}

# uv does not read pip's configuration, which may name the only reachable index: so pip is tried, too.
# Bytecode is compiled now, as by pip: many processes import torch and vLLM at once at the start of a run.
pip_install() {
    if [ -n "$uv" ] && "$uv" pip install --python "$python" --no-deps --compile-bytecode "$@"; then return; fi
    "$python" -m pip install --no-input --disable-pip-version-check --no-deps "$@"
}

# uv makes environments without pip; here pip is the fallback, and make_smollm2.py downloads its model with it.
# "|| return", here and below: set -e is off within a step.
make_env() {
    if [ ! -e "$python" ] && [ -n "$uv" ]; then
        "$uv" venv --allow-existing --prompt co-rewarding --python "$base_python" "$env_dir" || return
    elif [ ! -e "$python" ]; then
        "$base_python" -m venv --prompt co-rewarding "$env_dir" || return
    fi
    "$python" -m pip --version || "$python" -m ensurepip || { [ -n "$uv" ] && "$uv" pip install --python "$python" pip; }
}

# torch's CPU build is not on PyPI. First from pip's configured index, which may have it; else from PyTorch's own index,
# used for this package only: beside the main index it would be queried for all others as well.
install_cpu_torch() {
    pip_install "$torch" || pip_install "$torch" --index-url https://download.pytorch.org/whl/cpu
}

# --no-build-isolation uses the setuptools of the lock and asks no index. vllm-cpu-name is built from a copy, since
# setuptools leaves its working files beside the pyproject.toml.
install_project() {
    if [ "$device" = cpu ]; then
        cp -r scripts/vllm-cpu-name "$scratch/"
        pip_install --no-build-isolation "$scratch/vllm-cpu-name" || return
    fi
    pip_install --no-build-isolation --editable .
}

printf 'installing for %s into %s\n' "${device^^}" "$env_dir"
mkdir -p "$env_dir"
printf '%s\n' "$device" >"$stamp"
scratch="$(mktemp -d)"
torch="$(grep '^torch==' "$lock")"
total=$((3 + dev - packages_only)) n=0
[ "$device" = gpu ] || total=$((total + 1))

step "[$((n += 1))/$total] environment" make_env
if [ "$device" = cpu ]; then step "[$((n += 1))/$total] $torch" install_cpu_torch; fi
step "[$((n += 1))/$total] $(grep -c '^[^#]' "$lock") packages of $lock" pip_install -r "$lock"
if [ "$dev" = 1 ]; then step "[$((n += 1))/$total] developer's tools" pip_install -r requirements-dev.txt; fi
[ "$packages_only" = 0 ] || exit 0
step "[$((n += 1))/$total] Co-rewarding itself" install_project

echo "checking (imports torch, vLLM and verl) ..."
"$python" scripts/dev/check_env.py --device "$device" || fail "the environment in $env_dir cannot train yet" \
    "follow the lines that begin with 'error:'"
fingerprint >"$stamp"
[ "$own_env" = 0 ] || printf 'activate it with: source %s/bin/activate\n' "${env_dir#"$repo"/}"
