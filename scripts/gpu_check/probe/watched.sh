#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# watched.sh RUN_SCRIPT KEY=VALUE …: the run script as it is; only the trainer of the module that it starts is watched.
set -euo pipefail
PROBE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

python() {
  if [[ $1 == -m ]]; then command python "$PROBE/main.py" "${@:2}"; else command python "$@"; fi
}

# shellcheck source=/dev/null
source "$1" "${@:2}"
