#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every method from the same start through verl, one after another, on a machine without a GPU or on one GPU (where no run has
# been completed yet): a table and curves in figs/. It tests the mechanism and does not rank methods: the start is the
# quickstart's model, trained to be wrong on one plain difference in five, and right on the same difference told as a story.
# benchmarks/natural_errors.py compares methods, on natural errors.
#
#   bash scripts/compare_methods.sh                                    all methods, one seed
#   SEEDS="1 2 3 4 5" bash scripts/compare_methods.sh                  intervals also over starts
#   METHODS="co_rewarding_I entropy" SEEDS="1 2" bash scripts/compare_methods.sh
#   METHODS="majority_voting majority_voting+0.1*my.py:short my.py:short" bash scripts/compare_methods.sh
#   STEPS=48 bash scripts/compare_methods.sh
#
# A seed determines the starting model, its initial weights and warm-up data (models/tiny for seed 1, else models/tiny_seedN,
# all made before the first run), and the order of questions; rollouts are sampled without a seed.
# Older comparisons started all seeds from models/tiny: scripts/report.py reads them, this script does not resume them.
# The same command keeps finished runs and resumes the others from their last checkpoints; for other settings, choose
# another NAME.
#
# Variables, besides those of the run scripts (model, files, lengths, GPUS_PER_NODE and LOGGER are fixed):
#   METHODS    names, FILE.py:FUNCTION or sums A+0.1*B, separated by spaces (default: all names)
#   SEEDS      whole numbers, separated by spaces; each is one run of each method (default: 1)
#   STEPS      training steps of each run (default: 32)
#   NAME       folder of the runs, name of figure and table (default: comparison)
#   PLATFORM   cpu or gpu (default: the environment's; without one, by nvidia-smi)
#   RUNS_DIR   folder of all runs (default: runs)
#
# Other defaults than the run scripts' are TRAIN_BATCH_SIZE=16, LEARNING_RATE=2e-4 (2e-3 with an adapter),
# LR_SCHEDULER=constant, LR_WARMUP_RATIO=0, TEST_FREQ=8 and SAVE_FREQ, half of STEPS. Arguments are appended as
# configuration overrides.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
START=$PWD
cd "$ROOT"
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0; }

ALL="ground_truth majority_voting co_rewarding_I co_rewarding_II co_rewarding_III self_certainty entropy random format_only incorrect"
ALL+=" majority_voting_both_views co_rewarding_I_same_wording"
METHODS=${METHODS:-$ALL} SEEDS=${SEEDS:-1} STEPS=${STEPS:-32} NAME=${NAME:-comparison}
for method in $METHODS; do
  [[ " $ALL " == *" $method "* || $method == *[:+*]* ]] ||
    refuse "METHODS: $method is none of: $ALL, no FILE.py:FUNCTION and no sum A+0.1*B"
done
for seed in $SEEDS; do
  [[ $seed =~ ^(0|[1-9][0-9]*)$ ]] || refuse "SEEDS: $seed is no whole number, e.g. SEEDS=\"1 2 3\""
done
export RUNS_DIR=${RUNS_DIR:-runs}
check_name NAME
check_text RUNS_DIR
bash scripts/install_env.sh
# the environment, possibly conda's, and its device
PLATFORM=$(bash scripts/install_env.sh --device)
VIRTUAL_ENV=$(bash scripts/install_env.sh --where)
export PLATFORM VIRTUAL_ENV PATH=$VIRTUAL_ENV/bin:$PATH
if [[ $PLATFORM == gpu ]]; then
  echo "training uses one GPU, on which no run of this script has been completed yet"
  export ROLLOUT_MEMORY_UTILIZATION=${ROLLOUT_MEMORY_UTILIZATION:-0.3} # a small model, and others may use the GPU
fi

data=data/toy_differences
export VAL_FILE=$data/test.parquet TRAIN_FILE=$data/train.parquet TRAIN_AUG_FILE=$data/train_rephrased.parquet
borrows=$data/plain_borrows.parquet # newer than the other files, which stay unchanged when remade
start_of() { [[ $1 == 1 ]] && echo models/tiny || echo "models/tiny_seed$1"; }
export GPUS_PER_NODE=1 LOGGER="[file,tensorboard]" MAX_PROMPT_LENGTH=64 MAX_RESPONSE_LENGTH=32
export TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-16} NUM_ROLLOUTS=${NUM_ROLLOUTS:-8}
[[ ${LORA_RANK:-0} == 0 ]] || LEARNING_RATE=${LEARNING_RATE:-2e-3} # an adapter: ten times that of all weights
export LEARNING_RATE=${LEARNING_RATE:-2e-4} LR_SCHEDULER=${LR_SCHEDULER:-constant} LR_WARMUP_RATIO=${LR_WARMUP_RATIO:-0}
export TEST_FREQ=${TEST_FREQ:-8} SAVE_FREQ=${SAVE_FREQ:-$((STEPS / 2))}

# Settings of one run: a finished run with other settings must not enter the same table.
settings() {
  local name
  [[ $MODEL_PATH == models/tiny ]] || printf 'MODEL_PATH=%s ' "$MODEL_PATH" # older runs had one start for all seeds
  [[ $PLATFORM == cpu ]] || printf 'PLATFORM=%s ' "$PLATFORM" # CPU comparisons never recorded it
  for name in STEPS TRAIN_BATCH_SIZE NUM_ROLLOUTS LEARNING_RATE LR_SCHEDULER LR_WARMUP_RATIO \
    LORA_RANK LORA_ALPHA LORA_TARGETS KL_LOSS_COEF CLIP_RATIO TRAIN_TEMPERATURE TEACHER_NUM_ROLLOUTS LOSS_AGG_MODE MIN_AGREEMENT \
    PAYOUT MAX_LABEL_FLIPS NUM_VOTES KL_ANCHOR TEACHER_TEMPERATURE ANSWER_FORMAT CHAT_TEMPLATE ENABLE_THINKING; do
    [[ -z ${!name:-} ]] || printf '%s=%s ' "$name" "${!name}"
  done
  printf '%s ' "$@"
}
# the path of a user's reward from another folder, and the name of its runs
TOLD='import sys; from co_rewarding.algo.method_names import absolute_name; from co_rewarding.training.run_name import folder_name
print(folder_name(sys.argv[1]), absolute_name(sys.argv[1]))'
run_dirs=() missing=()
for seed in $SEEDS; do
  MODEL_PATH=$(start_of "$seed")
  for method in $METHODS; do
    folder=$method
    [[ " $ALL " == *" $method "* ]] || read -r folder method < <(cd "$START" && python -c "$TOLD" "$method")
    run_dir=$RUNS_DIR/co-rewarding/$NAME/${folder}_seed$seed
    run_dirs+=("$run_dir")
    # older comparisons name a micro-batch size, which changed nothing but the time
    if [[ -f $run_dir/settings ]] && ! settings "$@" | cmp -s - <(sed -E 's/MICRO_BATCH_SIZE=[0-9]+ //' "$run_dir/settings"); then
      refuse "$run_dir was made with $(< "$run_dir/settings"), now it is $(settings "$@"): set NAME to another name, or" \
        "remove the folder"
    fi
    if grep -qE "Steps: $STEPS planned, ($STEPS done|.*stopped early)" "$run_dir/train.log" 2>/dev/null; then
      echo "$method, seed $seed: exists already ($run_dir)"
    else
      missing+=("$seed" "$method" "$run_dir")
    fi
  done
done

[[ -f data/toy/test.parquet ]] || python scripts/toy/make_data.py --local_dir data/toy
[[ -f $VAL_FILE && -f $borrows ]] || python scripts/toy/make_data.py --local_dir "$data" --operation subtract
for seed in $SEEDS; do
  model=$(start_of "$seed")
  [[ -f $model/config.json ]] ||
    python scripts/toy/make_model.py --data_dir data/toy --output_dir "$model" --seed "$seed" --max_minutes 20
done

for ((i = 0; i < ${#missing[@]}; i += 3)); do
  seed=${missing[i]} run_dir=${missing[i + 2]}
  MODEL_PATH=$(start_of "$seed") METHOD=${missing[i + 1]} RUN_NAME=${run_dir#"$RUNS_DIR/co-rewarding/"} log=$run_dir/train.log
  export MODEL_PATH METHOD RUN_NAME
  mkdir -p "$run_dir"
  settings "$@" >"$run_dir/settings"
  overrides=("trainer.total_training_steps=$STEPS" trainer.total_epochs=100 "data.seed=$seed" "co_rewarding.seed=$seed")
  case $(vote_of "$METHOD") in
    co_rewarding_I | co_rewarding_I_same_wording | majority_voting_both_views) script=Co-rewarding-I/run_corewarding-I.sh ;;
    co_rewarding_II) script=Co-rewarding-II/run_corewarding-II.sh overrides+=(actor_rollout_ref.teacher.start_share=0.1) ;;
    co_rewarding_III) script=Co-rewarding-II/run_corewarding-III.sh overrides+=(actor_rollout_ref.teacher.start_share=0.1) ;;
    *) script=scripts/run_baseline.sh ;;
  esac
  echo "== $METHOD, seed $seed; log: $log"
  if ! bash "$script" "${overrides[@]}" "$@" 2>&1 | tee "$log" | sed -u -n 's/.*\[co-rewarding\] //p'; then
    echo "error: $METHOD failed; the first error in $log:" >&2
    grep -m1 -n -E '(^error:|Error|Traceback)' "$log" | cut -c1-300 >&2 || tail -n 5 "$log" >&2
    exit 1
  fi
done
made="SEEDS=\"$SEEDS\" STEPS=$STEPS bash scripts/compare_methods.sh${*:+ $*}"
[[ $NAME == comparison ]] || made="NAME=$NAME $made"
[[ $METHODS == "$ALL" ]] || made="METHODS=\"$METHODS\" $made"
python scripts/report.py "${run_dirs[@]}" --by_method --panels methods --subset "plain borrows=$borrows" \
  --figure "figs/$NAME.png" --table "figs/$NAME.md" --made_by "$made"
