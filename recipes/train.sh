#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train one of the paper's base models with sizes that should fit a machine. NOT run on a GPU yet: the sizes come from the
# estimate in docs/CLUSTER.md, which the tests repeat for every combination.
#
#   bash recipes/train.sh I qwen3-4b-base 4x80gb
#   bash recipes/train.sh II qwen3-8b-base 1x80gb trainer.total_epochs=1
#   LORA_RANK=32 bash recipes/train.sh I qwen2.5-7b 1x80gb      # LoRA: Co-rewarding-I only
#
# First the method (I, II, III), then a name from recipes/models/ and a machine (4x80gb, 1x80gb, 1x24gb). Variables of the
# run scripts win over the recipe's; further arguments are overrides. NUM_NODES of such machines make a cluster.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
refuse() { echo "error: $*" >&2; exit 2; }
[[ $# -ge 3 ]] || refuse "usage: train.sh METHOD MODEL MACHINE [KEY=VALUE …], e.g. train.sh I qwen3-4b-base 4x80gb"
METHOD=$1 MODEL=$2 MACHINE=$3
shift 3
case $METHOD in
  I) TREE=Co-rewarding-I ;;
  II | III) TREE=Co-rewarding-II ;;
  *) refuse "METHOD=$METHOD: must be I, II or III" ;;
esac
case $MACHINE in
  4x80gb) GPUS_PER_NODE=${GPUS_PER_NODE:-4} ;;
  1x80gb | 1x24gb) GPUS_PER_NODE=${GPUS_PER_NODE:-1} ;;
  *) refuse "MACHINE=$MACHINE: must be 4x80gb, 1x80gb or 1x24gb" ;;
esac
if [[ ! -f $ROOT/recipes/models/$MODEL.sh ]]; then
  names=("$ROOT"/recipes/models/*.sh)
  names=("${names[@]##*/}")
  refuse "MODEL=$MODEL: there is no recipe of that name; there are ${names[*]%.sh}"
fi

OVERRIDES=()
# shellcheck source=/dev/null
source "$ROOT/recipes/models/$MODEL.sh"

fsdp=actor_rollout_ref.actor.fsdp_config
case $OFFLOAD in
  none) ;;
  step) OVERRIDES+=("$fsdp.param_offload=True" "$fsdp.optimizer_offload=True") ;; # in host memory while vLLM works
  all) OVERRIDES+=("$fsdp.offload_policy=True") ;;                                # always there; AdamW runs on the CPU
  *) refuse "OFFLOAD=$OFFLOAD: must be none, step or all" ;;
esac
if [[ ${LORA_RANK:-0} != 0 ]]; then
  [[ $METHOD == I ]] || refuse "LORA_RANK=$LORA_RANK: only for Co-rewarding-I; a teacher needs a model of its own, not an adapter"
  LEARNING_RATE=${LEARNING_RATE:-3e-5} # ten times that of all weights, as is usual for LoRA; not the paper's
  OVERRIDES+=(
    "actor_rollout_ref.model.lora_rank=$LORA_RANK"
    "actor_rollout_ref.model.lora_alpha=${LORA_ALPHA:-$LORA_RANK}"
    actor_rollout_ref.rollout.load_format=safetensors # vLLM reads the base model itself and is sent the adapter alone
  )
fi

export MODEL_PATH GPUS_PER_NODE MICRO_BATCH_SIZE
for name in ROLLOUT_MEMORY_UTILIZATION LEARNING_RATE; do
  # left to the run script where the recipe has no opinion
  if [[ -n ${!name:-} ]]; then export "${name?}"; fi
done
export RUN_NAME=${RUN_NAME:-co_rewarding_${METHOD}_$MODEL}
exec bash "$ROOT/$TREE/run_corewarding-$METHOD.sh" "${OVERRIDES[@]}" "$@"
