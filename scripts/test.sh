#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what the tests need, lints, runs the tests. See --help.
set -euo pipefail

if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    cat <<'HELP'
Usage: bash scripts/test.sh [--all | PYTEST ARGUMENTS]

Makes or completes the environment (scripts/install_env.sh --dev), then runs ruff and shellcheck over the project, then
the unit tests and, if they pass, the end-to-end tests, which train through Ray and vLLM for a few minutes. Those of the
tools around training (evaluation, export, rewriting), of the baselines and of two ranks or Ray nodes run only with
--all.
With arguments, pytest runs once with these in place of the two runs:

  bash scripts/test.sh --all               all end-to-end tests
  bash scripts/test.sh -m "not e2e"        the unit tests only
  bash scripts/test.sh -k voting -x        some tests, stop at the first failure

The end-to-end tests train without a GPU, with the packages for a CPU. An environment made for a GPU runs the unit tests only;
for all of them (Python 3.11 or 3.12): python3 -m venv DIR && source DIR/bin/activate && PLATFORM=cpu bash scripts/test.sh
Files of the tests go to a new folder under TMPDIR, which is removed if all pass.
HELP
    exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
files="$(mktemp -d)"
finish() {
    local code=$?
    if [ "$code" = 0 ]; then rm -rf "$files"; fi
    if [ -d "$files" ] && ! rmdir "$files" 2>/dev/null; then echo "the tests' files are kept in $files"; fi
    echo "scripts/test.sh: $([ "$code" = 0 ] && echo passed || echo FAILED) after $((SECONDS / 60)) min $((SECONDS % 60)) s"
}
trap finish EXIT

bash scripts/install_env.sh --dev
bin="$(bash scripts/install_env.sh --where)/bin"
device="$(bash scripts/install_env.sh --device)"
if [ "${1:-}" = --all ] && [ "$device" = gpu ]; then
    echo "error: --all: the end-to-end tests need the CPU packages, and ${bin%/bin} was made with --gpu; see --help" >&2
    exit 2
fi

echo "== ruff, shellcheck"
"$bin/ruff" check .
"$bin/ruff" format --check .
find . -name .venv -prune -o \( -name '*.sh' -o -path './.ci/run' \) -print0 | xargs -0 "$bin/shellcheck"

run_pytest() { "$bin/python" -m pytest --basetemp="$files/pytest" "$@"; }

which="e2e and not long"
if [ "${1:-}" = --all ]; then
    which=e2e
    shift
fi
if [ $# -gt 0 ]; then
    run_pytest "$@"
else
    echo "== unit tests"
    run_pytest -m "not e2e"
    if [ "$device" = gpu ]; then
        echo "== end-to-end tests: skipped, they need the CPU packages and this environment has the GPU packages; see --help"
        echo "next: bash scripts/gpu_check.sh (trains on this machine's GPU, at most 10 minutes)"
    else
        echo "== end-to-end tests"
        run_pytest -m "$which"
        echo "next: bash scripts/quickstart.sh (trains a small model, twice); all end-to-end tests: bash scripts/test.sh --all"
    fi
fi
