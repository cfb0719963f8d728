# SPDX-License-Identifier: Apache-2.0
# Qwen2.5-3B: 3.09 billion parameters, 36 layers, vocabulary 151,936. Composed and checked by tests,
# NOT run on a GPU. Where no share of memory for vLLM is set, the run script's (the paper's) stands.
# shellcheck shell=bash disable=SC2034  # sourced by recipes/train.sh, which reads what is set here
MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-3B}
case $MACHINE in
  4x80gb)
    OFFLOAD=${OFFLOAD:-none} MICRO_BATCH_SIZE=${MICRO_BATCH_SIZE:-4}
    ;;
  1x80gb)
    OFFLOAD=${OFFLOAD:-step} MICRO_BATCH_SIZE=${MICRO_BATCH_SIZE:-2}
    ROLLOUT_MEMORY_UTILIZATION=${ROLLOUT_MEMORY_UTILIZATION:-0.8}
    ;;
  1x24gb)
    OFFLOAD=${OFFLOAD:-all} MICRO_BATCH_SIZE=${MICRO_BATCH_SIZE:-1} ROLLOUT_MEMORY_UTILIZATION=${ROLLOUT_MEMORY_UTILIZATION:-0.8}
    ;;
esac
