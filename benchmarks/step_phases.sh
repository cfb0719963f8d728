#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Times of a step: unmodified verl (plain_verl.py), ground_truth, Co-rewarding-I, II and III one after another, on
# the same questions and from the same model, and the table of step_phases.py. The learning rate is so small that
# response lengths do not change; nothing is validated or saved.
#
#   MODEL_PATH=models/tiny TRAIN_FILE=data/toy/train.parquet TRAIN_AUG_FILE=data/toy/train_rephrased.parquet \
#       PLATFORM=cpu GPUS_PER_NODE=1 MAX_PROMPT_LENGTH=64 MAX_RESPONSE_LENGTH=32 bash benchmarks/step_phases.sh
#
# Variables: those of the run scripts; METHODS (default: plain ground_truth I II III; II_lora and III_lora with an adapter
# of rank LORA_RANK, 8), STEPS (12), RUNS_DIR (a new folder).
# Arguments are appended as configuration overrides.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,12s/^# \{0,1\}//p' "$0"; exit 0; }

METHODS=${METHODS:-plain ground_truth I II III}
STEPS=${STEPS:-12}
RUNS_DIR=${RUNS_DIR:-$(mktemp -d)}
export RUNS_DIR VAL_FILE="" LOGGER="[file]" SAVE_FREQ=-1 LEARNING_RATE=1e-7 LR_SCHEDULER=constant LR_WARMUP_RATIO=0
export TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-32} NUM_ROLLOUTS=${NUM_ROLLOUTS:-8}
options=("trainer.total_training_steps=$STEPS" trainer.total_epochs=100 "$@")

run_dirs=()
for method in $METHODS; do
  export RUN_NAME=$method
  case $method in
    plain)
      RUN_NAME=plain_verl
      METHOD=ground_truth bash "$ROOT/scripts/run_baseline.sh" "${options[@]}" --cfg job >"$RUNS_DIR/plain.yaml" &&
        python "$ROOT/benchmarks/plain_verl.py" "$RUNS_DIR/plain.yaml"
      ;;
    I) METHOD=co_rewarding_I bash "$ROOT/Co-rewarding-I/run_corewarding-I.sh" "${options[@]}" ;;
    II_lora | III_lora)
      LORA_RANK=${LORA_RANK:-8} bash "$ROOT/Co-rewarding-II/run_corewarding-${method%_lora}.sh" "${options[@]}"
      ;;
    II | III) bash "$ROOT/Co-rewarding-II/run_corewarding-$method.sh" "${options[@]}" ;;
    *) METHOD=$method bash "$ROOT/scripts/run_baseline.sh" "${options[@]}" ;;
  esac >"$RUNS_DIR/$method.log" 2>&1 || { tail -20 "$RUNS_DIR/$method.log" >&2; exit 1; }
  run_dirs+=("$RUNS_DIR/co-rewarding/$RUN_NAME")
done
python "$ROOT/benchmarks/step_phases.py" "${run_dirs[@]}"
