#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Train one of the paper's base models with sizes that should fit a machine. NOT run on a GPU yet: the sizes are those
# that scripts/estimate.py proposes, from the model's shapes (docs/CLUSTER.md).
#
#   bash recipes/train.sh I qwen3-4b-base 4x80gb
#   bash recipes/train.sh II qwen3-8b-base 2x80gb trainer.total_epochs=1
#   LORA_RANK=32 bash recipes/train.sh II qwen3-1.7b-base 1x12gb
#
# First the method (I, II, III), then a name from recipes/models/ and a machine: 1 to 8 GPUs of 12, 16, 24, 40, 48, 80
# or 141 GB.
#
# Variables, besides those of the run scripts, which override the proposed values (METHOD: a control of I, or a sum):
#   OFFLOAD         weights and moments in host memory: none, step (while vLLM works) or all (always) (default: the first that fits)
#   GPUS_PER_NODE   GPUs of each machine (default: those of MACHINE)
#   NUM_NODES       such machines in the cluster (default: 1)
#
# Further arguments are configuration overrides.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  awk 'NR > 2 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"
  exit 0
fi
[[ $# -ge 3 ]] || refuse "usage: train.sh METHOD MODEL MACHINE [KEY=VALUE …], e.g. train.sh I qwen3-4b-base 4x80gb"
variant=$1 MODEL=$2 MACHINE=$3 # METHOD is a variable of the run scripts
shift 3
case $variant in
  I) TREE=Co-rewarding-I ;;
  II | III) TREE=Co-rewarding-II ;;
  *) refuse "METHOD=$variant: must be I, II or III" ;;
esac
[[ $MACHINE =~ ^([1-8])x(12|16|24|40|48|80|141)gb$ ]] || refuse "MACHINE=$MACHINE: must be 1x to 8x of 12gb, 16gb, 24gb, 40gb, 48gb, 80gb or 141gb"
CARD=${BASH_REMATCH[2]}
export GPUS_PER_NODE=${GPUS_PER_NODE:-${BASH_REMATCH[1]}}
[[ $GPUS_PER_NODE =~ ^[1-9][0-9]*$ ]] || refuse "GPUS_PER_NODE=$GPUS_PER_NODE: must be a whole number from 1"
if [[ ! -f $ROOT/recipes/models/$MODEL.json ]]; then
  names=("$ROOT"/recipes/models/*.json)
  names=("${names[@]##*/}")
  refuse "MODEL=$MODEL: there is no recipe of that name; there are ${names[*]%.json}"
fi
use_environment

given=()
for pair in OFFLOAD=offload ROLLOUT_MEMORY_UTILIZATION=memory_utilization MAX_TOKENS_PER_GPU=max_tokens_per_gpu \
  ROLLOUT_TENSOR_PARALLEL=tensor_parallel MAX_PROMPT_LENGTH=max_prompt_length MAX_RESPONSE_LENGTH=max_response_length \
  NUM_NODES=nodes LORA_RANK=lora_rank KL_ANCHOR=kl_anchor; do
  name=${pair%=*}
  [[ -z ${!name:-} ]] || given+=("--${pair#*=}=${!name}")
done
sizes=$(python "$ROOT/scripts/estimate.py" "$MODEL" --method "$variant" --gpus "${GPUS_PER_NODE}x$CARD" \
  --variables "${given[@]}") || exit 2 # it has printed the reason
OVERRIDES=()
while IFS='=' read -r name value; do
  if [[ $name == OVERRIDE ]]; then
    OVERRIDES+=("$value")
  elif [[ -z ${!name:-} ]]; then
    export "$name=$value"
  fi
done <<<"$sizes"
# shellcheck source=/dev/null
if [[ -f $ROOT/recipes/models/$MODEL.sh ]]; then source "$ROOT/recipes/models/$MODEL.sh"; fi
exec bash "$ROOT/$TREE/run_corewarding-$variant.sh" "${OVERRIDES[@]}" "$@"
