#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a model improved by label-free RL, on a laptop without a GPU or on one GPU (where no run has been completed yet):
# environment, data, model, training with Co-rewarding-I and, from the same start, with Co-rewarding-II, table and figure.
#
#   bash scripts/quickstart.sh                  a tiny model, 5 to 11 minutes after the installation
#   TREES=I bash scripts/quickstart.sh          only Co-rewarding-I, 4 to 7 minutes
#   MODEL=smollm2 bash scripts/quickstart.sh    the real SmolLM2-135M-Instruct, a few steps of I as a test of the stack
#
# Variables, besides those of the run scripts (MODEL_PATH, files, MAX_PROMPT_LENGTH, GPUS_PER_NODE and LOGGER are fixed):
#   MODEL      tiny or smollm2 (default: tiny)
#   TREES      which runs: I, II or "I II" (default: "I II" with tiny, I with smollm2)
#   STEPS      training steps of each run (default: 4 with tiny, 3 with smollm2)
#   PLATFORM   cpu or gpu (default: the environment's; without one, by nvidia-smi)
#   RUN_NAME   the runs are called RUN_NAME_I and RUN_NAME_II (default: quickstart_MODEL)
#   RUNS_DIR   folder of all runs (default: runs)
#
# Arguments are appended to the training commands as configuration overrides. Finished parts are kept in data/toy and models/.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
cd "$ROOT"
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0; }

MODEL=${MODEL:-tiny}
case $MODEL in tiny | smollm2) ;; *) refuse "MODEL=$MODEL: must be tiny or smollm2" ;; esac
if [[ $MODEL == tiny ]]; then TREES=${TREES:-I II}; else TREES=${TREES:-I}; fi
case $TREES in I | II | "I II") ;; *) refuse "TREES=$TREES: must be I, II or 'I II'" ;; esac
RUN_NAME=${RUN_NAME:-quickstart_$MODEL}
export RUNS_DIR=${RUNS_DIR:-runs}
check_name RUN_NAME
check_text RUNS_DIR
say() { printf '\n== %s\n' "$*"; }

say "1/4 environment"
bash scripts/install_env.sh
# the environment, possibly conda's, and its device
PLATFORM=$(bash scripts/install_env.sh --device)
VIRTUAL_ENV=$(bash scripts/install_env.sh --where)
export PLATFORM VIRTUAL_ENV PATH=$VIRTUAL_ENV/bin:$PATH
if [[ $PLATFORM == gpu ]]; then
  echo "training uses one GPU, on which no run of this script has been completed yet"
  export ROLLOUT_MEMORY_UTILIZATION=${ROLLOUT_MEMORY_UTILIZATION:-0.3} # small models, and others may use the GPU
fi

say "2/4 data and model ($MODEL)"
export MODEL_PATH=models/$MODEL TRAIN_FILE=data/toy/train.parquet TRAIN_AUG_FILE=data/toy/train_rephrased.parquet
export VAL_FILE=data/toy/test.parquet
[[ -f $VAL_FILE ]] || python scripts/toy/make_data.py --local_dir data/toy
if [[ ! -f $MODEL_PATH/config.json ]]; then
  case $MODEL in
    tiny)
      echo "The model first learns to calculate column by column (\"skill\"), then, on purpose, to guess the answers of plain questions"
      echo "(\"habit\"): its accuracy falls to about one half, which leaves room for training without labels to improve it."
      python scripts/toy/make_model.py --data_dir data/toy --output_dir "$MODEL_PATH"
      ;;
    smollm2) python scripts/toy/make_smollm2.py --output_dir "$MODEL_PATH" ;;
  esac
fi

export GPUS_PER_NODE=1 LOGGER="[file,tensorboard]"
case $MODEL in
  tiny)
    export TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-16} NUM_ROLLOUTS=${NUM_ROLLOUTS:-8}
    [[ ${LORA_RANK:-0} == 0 ]] || LEARNING_RATE=${LEARNING_RATE:-2e-3} # an adapter: ten times that of all weights
    export LEARNING_RATE=${LEARNING_RATE:-2e-4} LR_SCHEDULER=${LR_SCHEDULER:-constant} LR_WARMUP_RATIO=${LR_WARMUP_RATIO:-0}
    export MAX_PROMPT_LENGTH=64 MAX_RESPONSE_LENGTH=${MAX_RESPONSE_LENGTH:-32}
    STEPS=${STEPS:-4}
    ;;
  smollm2)
    export TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-4} NUM_ROLLOUTS=${NUM_ROLLOUTS:-4} MAX_TOKENS_PER_GPU=${MAX_TOKENS_PER_GPU:-2048}
    # the prompt with its worked examples takes 148 to 166 tokens
    export LEARNING_RATE=${LEARNING_RATE:-1e-5} MAX_PROMPT_LENGTH=176 MAX_RESPONSE_LENGTH=${MAX_RESPONSE_LENGTH:-48}
    export TEACHER_NUM_ROLLOUTS=${TEACHER_NUM_ROLLOUTS:-4}
    STEPS=${STEPS:-3}
    # on a GPU the cache gets its share of the memory
    if [[ $PLATFORM == cpu ]]; then
      set -- actor_rollout_ref.rollout.engine_kwargs.vllm.kv_cache_memory_bytes=$((1 << 30)) "$@"
    fi
    set -- data.val_max_samples=64 "$@"
    ;;
esac
export TEST_FREQ=${TEST_FREQ:-$STEPS} SAVE_FREQ=${SAVE_FREQ:-$STEPS}

name=$RUN_NAME
run_dirs=()
for tree in $TREES; do
  say "3/4 Co-rewarding-$tree (the real Ray, FSDP2 and vLLM, which take about a minute to start)"
  export RUN_NAME=${name}_$tree
  overrides=("trainer.total_training_steps=$STEPS" trainer.total_epochs=100)
  # a run of a few steps needs a teacher that moves faster than the paper's
  [[ $tree == I ]] || overrides+=(actor_rollout_ref.teacher.start_share=0.1)
  run_dir=$RUNS_DIR/co-rewarding/$RUN_NAME
  run_dirs+=("$run_dir")
  if [[ -d $run_dir ]]; then
    echo "$run_dir exists: the run resumes from its last checkpoint (choose another RUN_NAME for a new one)"
  fi
  mkdir -p "$run_dir"
  log=$run_dir/train.log
  echo "settings: MODEL_PATH=$MODEL_PATH, $STEPS steps of $TRAIN_BATCH_SIZE questions, $NUM_ROLLOUTS rollouts of each; log: $log"
  # one line a step on the terminal, everything in the log
  if ! bash "Co-rewarding-$tree/run_corewarding-$tree.sh" "${overrides[@]}" "$@" 2>&1 |
    tee "$log" | sed -u -n 's/.*\[co-rewarding\] //p'; then
    echo "error: training failed; the first error in $log:" >&2
    grep -m1 -n -E '(^error:|Error|Traceback)' "$log" | cut -c1-300 >&2 || tail -n 5 "$log" >&2
    exit 1
  fi
done

say "4/4 result"
python scripts/report.py "${run_dirs[@]}" --panels main --figure "${run_dirs[0]}/curves.png"

say "next"
if [[ $VIRTUAL_ENV == "$ROOT/.venv" ]]; then echo "source .venv/bin/activate"; fi
echo "python scripts/report.py$(printf ' %q' "${run_dirs[@]}") --html page.html    # which answer got which reward, and why"
echo "your own questions: docs/YOUR_DATA.md; a larger model on GPUs: docs/GPU.md, docs/CLUSTER.md; the tests: bash scripts/test.sh"
