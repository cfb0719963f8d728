#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ten steps of every arm of benchmarks/natural_errors.py through Ray, FSDP2 and vLLM on CPU, from one of its starts, and
# comparison of their labels, rewards and advantages with the benchmark's: exit code 1 if anything differs. Finished runs
# are kept. The starts are made by `python benchmarks/natural_errors.py run`.
#
#   bash benchmarks/natural_real_runs.sh                         all arms, from the first hard start
#   REGIME=easy START=2 bash benchmarks/natural_real_runs.sh
#   bash benchmarks/natural_real_runs.sh "majority voting" II    some arms
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,9s/^# \{0,1\}//p' "$0"; exit 0; }
if [[ -z ${VIRTUAL_ENV:-} && -f .venv/bin/activate ]]; then
  # shellcheck source=/dev/null
  source .venv/bin/activate
fi
OUTPUT=${OUTPUT:-runs/natural_errors} REGIME=${REGIME:-hard} START=${START:-1}
folder=$OUTPUT/real_runs/${REGIME}_$START
wanted=$(printf '|%s|' "$@")

# the variables of the run scripts, and a line an arm that ends in its name
commands=$(python benchmarks/natural_errors.py export "$REGIME" "$START" "$folder" --output "$OUTPUT")
eval "$(head -n 1 <<<"$commands")"
checked=0 failed=0
while IFS= read -r line; do
  arm=${line##*  # } name=${line#RUN_NAME=}
  name=${name%% *}
  (($# == 0)) || [[ $wanted == *"|$arm|"* ]] || continue
  log=$folder/$name.log
  checked=$((checked + 1))
  if ! grep -qs 'Steps: .* done' "$log"; then
    echo "== $arm; log: $log"
    if ! bash -c "$line" >"$log" 2>&1 </dev/null; then
      echo "error: $arm failed; the first error in $log:" >&2
      grep -m1 -nE '(^error:|Error|Traceback)' "$log" | cut -c1-300 >&2 || tail -n 5 "$log" >&2
      failed=1
      continue
    fi
  fi
  python benchmarks/natural_errors.py check "$RUNS_DIR/co-rewarding/$name" --arm "$arm" || failed=1
done < <(tail -n +2 <<<"$commands")
if ((checked == 0)); then
  echo "error: no arm is called ${*@Q}" >&2
  exit 2
fi
exit "$failed"
