#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks that training works on this machine's GPU, and measures its parts. One table, in at most ten minutes, on one GPU.
#
#   bash scripts/gpu_check.sh                all stages, in this order
#   bash scripts/gpu_check.sh II timed       some of them
#   bash scripts/gpu_check.sh --rehearse     the same in small on a machine without a GPU; PLATFORM=cpu is the same
#
# Stages:
#   versions   how verl and vLLM identify this machine; that the CPU plugin is inactive
#   micro      log-probabilities, teacher's average, packed sequences, each with its alternatives
#   II         three steps of Co-rewarding-II with a tiny model: rewards, teacher, weights in vLLM, memory awake and asleep
#   timed      Co-rewarding-II, then ground_truth, three steps each: 0.6 billion random weights, 32 questions x 8 x 512 tokens
#   I          Co-rewarding-I, then self-certainty, three steps each with a tiny model: rewards, memory
#
# Options:
#   --minutes N   for all stages together (default 10; 60 for a rehearsal); later stages are "not reached"
#   --out DIR     for the table, logs and runs (default runs/gpu_check; runs/gpu_check_rehearsal)
#   --again       repeat stages that have passed; without it a second call runs only the rest
#
# Exit code: 0 all passed, 1 a check failed, 2 wrong usage or no GPU, 3 all that ran passed, but some stages were not reached.
#
# Variables (those of the run scripts, such as MODEL_PATH, are set by the check):
#   PLATFORM   gpu or cpu; cpu makes every call a rehearsal (default: gpu)
#   TOY_DATA   the quickstart's data, made if they are not there (default: data/toy)
#   TOY_MODEL  the quickstart's model, made if it is not there (default: models/tiny)
#   CUDA_VISIBLE_DEVICES  its first card is used (default: 0)
#
# docs/GPU.md explains the table.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STAGES=(versions micro II timed I)

wrong() { printf 'error: %s\n' "$1" >&2; exit 2; }
command="${PLATFORM:+PLATFORM=$PLATFORM }bash scripts/gpu_check.sh $*" selected=() minutes="" out="" again=0 PLATFORM=${PLATFORM:-gpu}
while (($#)); do
  case $1 in
    -h | --help) sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --rehearse) PLATFORM=cpu ;;
    --again) again=1 ;;
    --minutes | --out)
      [[ -n ${2:-} ]] || wrong "$1: give a value"
      if [[ $1 == --out ]]; then out=$2; else minutes=$2; fi
      shift ;;
    *)
      [[ " ${STAGES[*]} " == *" $1 "* ]] || wrong "$1 is no stage and no option; stages are ${STAGES[*]}, see --help"
      selected+=("$1") ;;
  esac
  shift
done
[[ $PLATFORM == gpu || $PLATFORM == cpu ]] || wrong "PLATFORM=$PLATFORM: must be gpu or cpu"
((${#selected[@]})) || selected=("${STAGES[@]}")
if [[ $PLATFORM == gpu ]]; then
  minutes=${minutes:-10} out=${out:-$ROOT/runs/gpu_check}
else
  minutes=${minutes:-60} out=${out:-$ROOT/runs/gpu_check_rehearsal}
fi
[[ $minutes =~ ^[1-9][0-9]{0,3}$ ]] || wrong "--minutes $minutes: must be a whole number from 1 to 9999"
out=$(realpath -m "$out")
# passed stages are kept; a rehearsal's pass does not count for a GPU
[[ $(cat "$out/platform" 2>/dev/null || echo "$PLATFORM") == "$PLATFORM" ]] ||
  wrong "--out $out: holds results of PLATFORM=$(cat "$out/platform"); give another folder for $PLATFORM"
TOY_DATA=$(realpath -m "${TOY_DATA:-$ROOT/data/toy}") TOY_MODEL=$(realpath -m "${TOY_MODEL:-$ROOT/models/tiny}")
cd "$ROOT"

export GPU_CHECK_CARD=""
if [[ $PLATFORM == gpu ]]; then
  GPU_CHECK_CARD=${CUDA_VISIBLE_DEVICES-0}
  GPU_CHECK_CARD=${GPU_CHECK_CARD%%,*}
  [[ -n $GPU_CHECK_CARD ]] || # set, but empty: torch sees no card
    wrong "no GPU: CUDA_VISIBLE_DEVICES='$CUDA_VISIBLE_DEVICES' hides all cards; unset it or name one"
  nvidia-smi -i "$GPU_CHECK_CARD" --query-gpu=name --format=csv,noheader >/dev/null 2>&1 ||
    wrong "no GPU: nvidia-smi finds no card $GPU_CHECK_CARD; --rehearse runs the same in small without one"
  export CUDA_VISIBLE_DEVICES=$GPU_CHECK_CARD
fi
{ mkdir -p "$out" && echo "$PLATFORM" >"$out/platform"; } 2>/dev/null ||
  wrong "--out $out: is no folder that can be written; give another"
if [[ $PLATFORM == cpu ]]; then echo "rehearsal (--rehearse or PLATFORM=cpu): small sizes, no GPU results"; fi
if [[ -z ${VIRTUAL_ENV:-} && -f .venv/bin/activate ]]; then
  # shellcheck source=/dev/null
  source .venv/bin/activate
fi
CHECK=$ROOT/scripts/gpu_check
export PYTHONPATH=$CHECK/probe${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
unset RAY_ADDRESS # a private Ray with this card
# Its runs use only the settings of the run scripts and of `train`, not variables exported for other runs, nor
# MICRO_BATCH_SIZE, which a run refuses, nor another place for metrics.
mapfile -t settings < <(sed -nE 's/^(export )?([A-Z_]+)=\$\{\2:?-.*/\2/p' Co-rewarding-I*/run_*.sh | grep -vx PLATFORM)
unset "${settings[@]}" MICRO_BATCH_SIZE VERL_FILE_LOGGER_PATH
[[ $PLATFORM == cpu ]] || unset OMP_NUM_THREADS # on a GPU as many as the run takes; other work may share a laptop
END=$((SECONDS + 60 * minutes))

child="" toy=""
# shellcheck disable=SC2329 # the traps call it
stop() {
  trap '' INT TERM
  for process in $child $toy; do kill "$process" 2>/dev/null && wait "$process"; done
  exit "$1"
}
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'if [[ -n $toy ]]; then kill "$toy" 2>/dev/null || true; fi' EXIT

# limited SECONDS LOG COMMAND…: in the background, so that a signal reaches this script at once
limited() {
  local code=0
  python "$CHECK/run_stage.py" "$@" &
  child=$!
  wait "$child" || code=$?
  child=""
  return "$code"
}

# train LIMIT: one start of a run script with small settings, then its checks
train() {
  local steps=3 code=0 plan script variables overrides
  if [[ -n $toy ]]; then
    wait "$toy" || { why="no toy model, see $out/toy.log"; return 1; }
    toy=""
  fi
  variables=("PLATFORM=$PLATFORM" GPUS_PER_NODE=1 NUM_NODES=1 "LOGGER=[console,file]" "RUNS_DIR=$folder" "RUN_NAME=$stage"
    "TRAIN_FILE=$TOY_DATA/train.parquet" "TRAIN_AUG_FILE=$TOY_DATA/train_rephrased.parquet"
    "VAL_FILE=$TOY_DATA/test.parquet" MAX_PROMPT_LENGTH=64 LR_SCHEDULER=constant LR_WARMUP_RATIO=0 NUM_ROLLOUTS=8
    TEACHER_NUM_ROLLOUTS=8 TEST_FREQ=-1)
  overrides=(trainer.total_epochs=100 trainer.val_before_train=False data.val_max_samples=128
    # one process of each kind: each more costs its imports
    data.dataloader_num_workers=0 actor_rollout_ref.rollout.agent.num_workers=1 reward.num_workers=1
    transfer_queue.backend.SimpleStorage.num_data_storage_units=1)
  case $stage in
    II) script=Co-rewarding-II/run_corewarding-II.sh plan="co_rewarding_II:$steps" ;;
    timed) script=Co-rewarding-II/run_corewarding-II.sh plan="co_rewarding_II:$steps ground_truth:$steps" ;;
    I) script=Co-rewarding-I/run_corewarding-I.sh plan="co_rewarding_I:$steps self_certainty:$steps" ;;
  esac
  if [[ $stage == timed ]]; then
    vllm_share=0.4
    variables+=("MODEL_PATH=$folder/model" SAVE_FREQ=-1 LEARNING_RATE=1e-6)
    overrides+=(actor_rollout_ref.rollout.ignore_eos=True)
    if [[ $PLATFORM == gpu ]]; then
      variables+=(TRAIN_BATCH_SIZE=32 MAX_RESPONSE_LENGTH=512)
      # fewer CUDA graphs than vLLM's default: each slows the start
      overrides+=("actor_rollout_ref.rollout.cudagraph_capture_sizes=[1,8,32,64,128,256]")
    else
      variables+=(TRAIN_BATCH_SIZE=4 MAX_RESPONSE_LENGTH=32)
    fi
    limited "$1" "$folder/model.log" python "$CHECK/random_model.py" "$TOY_MODEL" "$folder/model" "$PLATFORM" || return
  else
    vllm_share=0.3
    # learning rate and teacher are fast enough that student and teacher differ after three steps
    variables+=("MODEL_PATH=$TOY_MODEL" SAVE_FREQ=1 LEARNING_RATE=2e-3 TEACHER_DECAY_START=0.8 TEACHER_DECAY_END=0.8
      TRAIN_BATCH_SIZE=16 MAX_RESPONSE_LENGTH=32)
    overrides+=(trainer.max_actor_ckpt_to_keep=null actor_rollout_ref.rollout.enforce_eager=True
      actor_rollout_ref.actor.use_torch_compile=False actor_rollout_ref.actor.fsdp_config.use_torch_compile=False
      actor_rollout_ref.ref.use_torch_compile=False actor_rollout_ref.ref.fsdp_config.use_torch_compile=False)
  fi
  if [[ $stage == II ]]; then
    variables+=(GPU_CHECK_RESTORED=1)
    overrides+=(actor_rollout_ref.teacher.check_log_probs=True)
  fi
  variables+=("ROLLOUT_MEMORY_UTILIZATION=$vllm_share" "GPU_CHECK_PLAN=$plan" "GPU_CHECK_NOTES=$folder/notes.jsonl"
    "GPU_CHECK_STARTED=$(date +%s.%N)")
  overrides+=("trainer.total_training_steps=$(($(wc -w <<<"$plan") * steps))")
  limited "$1" "$folder/log.txt" env "${variables[@]}" bash "$CHECK/probe/watched.sh" "$script" "${overrides[@]}" || code=$?
  local checks=("$folder" "$folder/co-rewarding/$stage" "$TOY_MODEL" "$PLATFORM" "$plan" "$vllm_share")
  ((code == 0)) || checks+=(--only-start)
  limited 300 "$folder/checks.log" python "$CHECK/run_checks.py" "${checks[@]}" || code=$((code ? code : $?))
  return "$code"
}

# Time limit of a stage, and time needed to start it; a rehearsal's machine is slow.
# Data and model for the training stages are made while the others run.
if [[ " ${selected[*]} " =~ \ (II|timed|I)\  && ! (-f $TOY_DATA/test.parquet && -f $TOY_MODEL/config.json) ]]; then
  python "$CHECK/run_stage.py" 900 "$out/toy.log" bash "$CHECK/make_toy.sh" "$TOY_DATA" "$TOY_MODEL" &
  toy=$!
fi

declare -A limit=([versions]=120 [micro]=240 [II]=450 [timed]=500 [I]=450) need=([versions]=15 [micro]=40 [II]=100 [timed]=120 [I]=100)

# The last error line of Python, or of a run's checks, in the stage's logs.
last_error() {
  grep -h -E '^(\([^)]*\) )?(error:|[A-Za-z_.]*(Error|Exception):)' "$folder"/*.txt "$folder"/*.log 2>/dev/null |
    tail -n 1 | tr '\t' ' ' | cut -c1-200 || true
}

passed() { [[ -f $out/stages/$1/status && $(cut -f1 "$out/stages/$1/status") == ok ]]; }

for stage in "${STAGES[@]}"; do
  [[ " ${selected[*]} " == *" $stage "* ]] || continue
  folder=$out/stages/$stage why="" code=0
  if ((!again)) && passed "$stage"; then
    echo "== $stage: passed before, kept (--again repeats it)"
    continue
  fi
  rm -rf "$folder"
  mkdir -p "$folder"
  left=$((END - SECONDS)) seconds=${limit[$stage]}
  if ((left < need[$stage])); then
    echo "== $stage: not reached, $((left > 0 ? left : 0)) s are left"
    continue
  fi
  [[ $PLATFORM == gpu ]] || seconds=$((3 * seconds))
  if ((left < seconds)); then seconds=$left cut=1; else cut=0; fi
  echo "== $stage ($left s are left; log and results: $folder)"
  begun=$SECONDS
  case $stage in
    versions) limited "$seconds" "$folder/log.txt" python "$CHECK/versions.py" "$folder" "$PLATFORM" || code=$? ;;
    micro) limited "$seconds" "$folder/log.txt" python "$CHECK/micro.py" "$folder" || code=$? ;;
    *) train "$seconds" || code=$? ;;
  esac
  took=$((SECONDS - begun)) result=ok
  if ((code == 124 && cut)); then
    result="not reached" why="cut off at the end of the $minutes minutes"
  elif ((code == 124)); then
    result=FAILED why="not done within $seconds s, its limit"
  elif ((code)); then
    result=FAILED why=${why:-exit code $code; $(last_error)}
  elif grep -q '"result": "FAILED"' "$folder/rows.jsonl"; then
    result=FAILED why="see below"
  fi
  printf '%s\t%s\t%s\n' "$result" "$took" "$why" >"$folder/status"
  echo "== $stage: $result after $took s${why:+: $why}"
  # every training start repeats the imports: a start that would be cut off is useless
  case $stage in II | timed) need[timed]=$took need[I]=$took ;; esac
done
code=0
python "$CHECK/table.py" "$out" "${STAGES[*]}" "${selected[*]}" "$command" || code=$?
echo "table: $out/table.md; total $SECONDS s"
exit "$code"
