#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# watched.sh RUN_SCRIPT KEY=VALUE …: the run script as it is; only the trainer of the module that it starts is watched.
set -euo pipefail
PROBE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# the last command of a run script is `exec python -m MODULE …`
exec() {
  if [[ "$1 $2" == "python -m" ]]; then builtin exec python "$PROBE/main.py" "${@:3}"; fi
  builtin exec "$@"
}

# shellcheck source=/dev/null
source "$1" "${@:2}"
