# SPDX-License-Identifier: Apache-2.0
# Llama-3.2-3B-Instruct: 3.21 billion parameters, 28 layers, vocabulary 128,256. Composed and checked by tests,
# NOT run on a GPU. Where no share of memory for vLLM is set, the run script's (the paper's) stands.
# shellcheck shell=bash disable=SC2034  # sourced by recipes/train.sh, which reads what is set here
MODEL_PATH=${MODEL_PATH:-meta-llama/Llama-3.2-3B-Instruct}
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
# The chat template writes today's date into every prompt unless it is given one.
OVERRIDES+=("+data.apply_chat_template_kwargs.date_string='26 Jul 2024'")
