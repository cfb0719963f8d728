#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Remakes the pictures and tables of figs/, all or those that are named. What they are drawn from is in RUNS_DIR, or is
# run first; a run that was stopped resumes. figs/method.svg alone is drawn by hand, in any editor of SVG.
#
#   bash scripts/dev/make_figures.sh                        all
#   bash scripts/dev/make_figures.sh quickstart rollout_page
#
#   natural_errors   benchmarks/natural_errors.py: every arm, five starts, two regimes (2 hours on 2 cores)
#   illusion         the same, from its first hard start
#   quickstart       scripts/quickstart.sh (5 minutes)
#   rollout_page     the page of rollouts of quickstart's run of I; needs chromium
#   comparison       scripts/compare_methods.sh (40 minutes and more)
#
# Variables:
#   RUNS_DIR   folder of all runs (default: runs)
#   CHROMIUM   the browser that takes the picture (default: chromium)
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
cd "$ROOT"
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0; }

ALL="natural_errors illusion quickstart rollout_page comparison"
RUNS_DIR=${RUNS_DIR:-runs} CHROMIUM=${CHROMIUM:-chromium}
export RUNS_DIR
check_text RUNS_DIR
for name in "$@"; do
  [[ " $ALL " == *" $name "* ]] || refuse "$name is none of: $ALL"
done
names=${*:-$ALL}
[[ " $names " != *" rollout_page "* ]] || command -v "$CHROMIUM" >/dev/null ||
  refuse "CHROMIUM=$CHROMIUM: no such command; install chromium, or name the other pictures"
bash scripts/install_env.sh
VIRTUAL_ENV=$(bash scripts/install_env.sh --where)
export VIRTUAL_ENV PATH=$VIRTUAL_ENV/bin:$PATH

natural=$RUNS_DIR/natural_errors quick=$RUNS_DIR/co-rewarding/quickstart_tiny
quickstart() { [[ -f ${quick}_II/checkpoints/latest_checkpointed_iteration.txt ]] || bash scripts/quickstart.sh; }

for name in $names; do
  echo "== $name"
  case $name in
    natural_errors)
      python benchmarks/natural_errors.py run --output "$natural"
      python benchmarks/natural_errors.py report --output "$natural" --tables figs/natural_errors
      ;;
    illusion)
      python benchmarks/natural_errors.py run --output "$natural" --regimes hard --starts 1 \
        --arms II "majority voting" "ground truth"
      python benchmarks/illusion.py "$natural/hard" --starts 1 --figure figs/illusion.png
      ;;
    quickstart)
      quickstart
      python scripts/report.py "${quick}_I" "${quick}_II" --panels main --figure figs/quickstart.png
      ;;
    rollout_page)
      quickstart
      work=$(mktemp -d)
      trap 'rm -rf "$work"' EXIT
      python scripts/report.py "${quick}_I" --num_steps 1 --num_questions 3 --figure "$work/curves.png" --html "$work/all.html"
      # the questions alone, the first of them unfolded
      sed -e '/<body>/,/<h3 /{/<body>/!d}' "$work/all.html" | sed -e '0,/<details class="q/s//<details open class="q/' >"$work/page.html"
      "$CHROMIUM" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=900,520 \
        --force-device-scale-factor=1.5 --screenshot=figs/rollout_page.png "$work/page.html" 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
      ;;
    comparison) bash scripts/compare_methods.sh ;;
  esac
done
