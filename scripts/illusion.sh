#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The idea of this project in one picture, on a laptop without a GPU. A small model that makes natural mistakes is trained
# three ways from one start: rewarded for agreeing with the majority of its own answers, so its reward rises to the end
# while its accuracy rises and falls again (the illusion); by Co-rewarding-II, where a slow teacher votes; by the true
# answers. The figure shows held-out accuracy and reward, and three lines summarise this run.
#
#   bash scripts/illusion.sh                            from nothing to the picture
#   START=2 bash scripts/illusion.sh                    another start: other weights, questions and order
#   FIGURE=figs/illusion.png bash scripts/illusion.sh   path of the picture
#
# This is start 1 of benchmarks/natural_errors.py, in plain torch (no Ray, no vLLM) around the project's own votes, rewards
# and teacher; measured on 2 cores: 2 min 58 s, 3 min 50 s of processor time. One start illustrates and proves nothing:
# other starts, and machines that round differently, give other curves. Measured from five hard starts, majority
# voting lost 3.5 to 12.0 points after step 50 (5.5 from start 1), from five easy ones 0 to 9.0. docs/RESULTS.md has all
# starts and methods with intervals.
#
# Variables:
#   STEPS      training steps (default: 200)
#   REGIME     quality of the start: hard or easy (default: hard)
#   START      number of the start (default: 1)
#   FIGURE     path of the picture, ending in .png (default: RUNS_DIR/illusion/illusion.png)
#   WORKERS    parallel training processes (default: the cores that it may use)
#   RUNS_DIR   folder of all runs (default: runs)
#
# Finished parts are kept in RUNS_DIR/illusion: the same command resumes after a stop.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
cd "$ROOT"
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0; }
(($# == 0)) || refuse "$1: takes no arguments, only variables; see --help"

STEPS=${STEPS:-200} REGIME=${REGIME:-hard} START=${START:-1} WORKERS=${WORKERS:-} RUNS_DIR=${RUNS_DIR:-runs}
for name in STEPS START ${WORKERS:+WORKERS}; do
  [[ ${!name} =~ ^[1-9][0-9]{0,3}$ ]] || refuse "$name=${!name}: must be a whole number from 1 to 9999"
done
[[ $REGIME == hard || $REGIME == easy ]] || refuse "REGIME=$REGIME: must be hard or easy"
check_text RUNS_DIR
FIGURE=${FIGURE:-$RUNS_DIR/illusion/illusion.png}
check_text FIGURE
[[ $FIGURE == *.png ]] || refuse "FIGURE=$FIGURE: must end in .png"
say() { printf '\n== %s\n' "$*"; }

say "1/3 environment"
bash scripts/install_env.sh
VIRTUAL_ENV=$(bash scripts/install_env.sh --where)
export VIRTUAL_ENV PATH=$VIRTUAL_ENV/bin:$PATH PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1

say "2/3 a start, and three ways to train it for $STEPS steps"
runs=$RUNS_DIR/illusion/${STEPS}_steps
# the longest first, so that all cores finish together
python benchmarks/natural_errors.py run --output "$runs" --regimes "$REGIME" --starts "$START" --steps "$STEPS" \
  --arms II "majority voting" "ground truth" --tell ${WORKERS:+--workers "$WORKERS"}

say "3/3 result"
python benchmarks/illusion.py "$runs/$REGIME" --starts "$START" --figure "$FIGURE"
echo "$((SECONDS / 60)) min $((SECONDS % 60)) s"
