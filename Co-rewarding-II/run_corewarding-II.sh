#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Co-rewarding-II (arXiv 2508.00410): a slowly moving teacher gives the pseudo-label.
# Edit the lines below, or set a variable for one run (LEARNING_RATE=1e-6 bash run_corewarding-II.sh), or append any
# key of the configuration (bash run_corewarding-II.sh trainer.total_epochs=1). `--help` prints the lines,
# `--cfg job` the configuration; docs/REFERENCE.md lists all variables and keys.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
answer_help "$@"

# method: co_rewarding_II, alone or in a sum co_rewarding_II+0.1*FILE.py:FUNCTION
METHOD=${METHOD:-co_rewarding_II}
# model and data
MODEL_PATH=${MODEL_PATH:-Qwen/Qwen3-4B-Base}                               # a directory, or a name on the Hugging Face hub
CHAT_TEMPLATE=${CHAT_TEMPLATE:-}                                           # a Jinja file; empty: the model's own template
ENABLE_THINKING=${ENABLE_THINKING:-null}                                   # true or false for a model that can think; null: its template's default
TRAIN_FILE=${TRAIN_FILE:-$ROOT/data/math/train_original.parquet}           # questions: CSV, TSV, JSONL, JSON, parquet, a folder, or a list of them
VAL_FILE=${VAL_FILE-$ROOT/data/math/test.parquet}                          # held-out questions, with or without answers; empty: no validation
ANSWER_FORMAT=${ANSWER_FORMAT:-}                                           # of rows that name none: boxed, choice, number, tag, regex:PATTERN, FILE.py:FUNCTION
export RUN_NAME=${RUN_NAME:-}                                              # name of the run; empty: made of method, model and data
export RUNS_DIR=${RUNS_DIR:-$ROOT/runs}                                    # folder of all runs, wherever the script is started
# training (paper, Table 5)
TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-128}                                  # questions a step
MAX_PROMPT_LENGTH=${MAX_PROMPT_LENGTH:-512}                                # tokens; longer prompts are left out
MAX_RESPONSE_LENGTH=${MAX_RESPONSE_LENGTH:-3072}                           # tokens
LORA_RANK=${LORA_RANK:-0}                                                  # rank of the adapter that is trained, e.g. 32; 0: all weights are trained
LORA_ALPHA=${LORA_ALPHA:-32}                                               # the adapter's scale is LORA_ALPHA / LORA_RANK
LORA_TARGETS=${LORA_TARGETS:-all-linear}                                   # modules with an adapter: all-linear, or a list such as [q_proj,v_proj]
[[ $LORA_RANK == 0 ]] || : "${LEARNING_RATE:=3e-5}" "${KL_ANCHOR:=start}" # ten times that of all weights: common practice, not the paper's
LEARNING_RATE=${LEARNING_RATE:-3e-6}                                       # of AdamW; with an adapter the default is 3e-5
LR_SCHEDULER=${LR_SCHEDULER:-cosine}                                       # cosine or constant
LR_WARMUP_RATIO=${LR_WARMUP_RATIO:-0.1}                                    # share of all steps
NUM_ROLLOUTS=${NUM_ROLLOUTS:-8}                                            # G, the student's rollouts of a question
TEACHER_NUM_ROLLOUTS=${TEACHER_NUM_ROLLOUTS:-8}                            # the teacher's rollouts of a question, which vote
STOP_DECIDED=${STOP_DECIDED:-False}                                        # True: stop a question's rollouts once more than half state one answer
TEACHER_DECAY_START=${TEACHER_DECAY_START:-0.99}                           # weight of the old teacher in the average, first step
TEACHER_DECAY_END=${TEACHER_DECAY_END:-0.9999}                             # the same towards the end (published script: 0.99999)
CLIP_RATIO=${CLIP_RATIO:-0.2}                                              # of the probability ratio, below and above 1
KL_LOSS_COEF=${KL_LOSS_COEF:-0.001}                                        # weight of the KL loss against KL_ANCHOR
KL_ANCHOR=${KL_ANCHOR:-teacher}                                            # teacher (it moves), or start: the frozen starting model, the default with an adapter
TRAIN_TEMPERATURE=${TRAIN_TEMPERATURE:-1.0}                                # of the student's rollouts
TEACHER_TEMPERATURE=${TEACHER_TEMPERATURE:-null}                           # of the teacher's rollouts; null: TRAIN_TEMPERATURE
TOTAL_EPOCHS=${TOTAL_EPOCHS:-3}                                            # passes over the questions
LOSS_AGG_MODE=${LOSS_AGG_MODE:-seq-mean-token-mean}                        # Eq. 4, or token-mean as in the published script
MIN_AGREEMENT=${MIN_AGREEMENT:-0.0}                                        # least share of a group's rollouts for a pseudo-label; 0: any plurality
PAYOUT=${PAYOUT:-hard}                                                     # what a vote pays: hard (1 or 0), soft (shares) or negative (rare answers -1)
MAX_LABEL_FLIPS=${MAX_LABEL_FLIPS:--1}                                     # -1: off; N: more than N changes of its pseudo-label in a row leave a question out
# validation
VAL_TEMPERATURE=${VAL_TEMPERATURE:-0}                                      # 0: greedy; the paper evaluates at 0.8
VAL_NUM_ROLLOUTS=${VAL_NUM_ROLLOUTS:-1}                                    # responses a question
TEST_FREQ=${TEST_FREQ:-10}                                                 # steps between validations
SAVE_FREQ=${SAVE_FREQ:-20}                                                 # steps between checkpoints
# machine (paper: one node of 4 x H100-80GB)
PLATFORM=${PLATFORM:-gpu}                                                  # gpu or cpu
NUM_NODES=${NUM_NODES:-1}                                                  # machines
GPUS_PER_NODE=${GPUS_PER_NODE:-4}                                          # GPUs of each machine
ROLLOUT_MEMORY_UTILIZATION=${ROLLOUT_MEMORY_UTILIZATION:-0.6}              # vLLM's share of a GPU's memory (paper: 0.8 in I, 0.6 in II)
ROLLOUT_TENSOR_PARALLEL=${ROLLOUT_TENSOR_PARALLEL:-1}                      # GPUs that share one vLLM engine
TEACHER=${TEACHER:-auto}                                                   # its rollouts run beside the student's, after them, or auto: beside from two engines on
MAX_TOKENS_PER_GPU=${MAX_TOKENS_PER_GPU:-8192}                             # tokens that a GPU takes in one pass; at least prompt + response
ATTENTION=${ATTENTION:-sdpa}                                               # sdpa; on a GPU also flash_attention_2 or flex_attention
LOGGER=${LOGGER:-"[console,file,tensorboard,wandb]"}                       # wandb writes offline files until `wandb login`
export ON_END=${ON_END:-}                                                  # bash command for the end of the run; $1 is the exit code

quote METHOD MODEL_PATH CHAT_TEMPLATE ANSWER_FORMAT
quote_files TRAIN_FILE VAL_FILE
[[ ${NUM_VOTES:-0} == 0 ]] || refuse "NUM_VOTES=$NUM_VOTES: the teacher votes; leave it out and set TEACHER_NUM_ROLLOUTS"
prepare_run
exec python -m co_rewarding_ii.main \
  platform="$PLATFORM" \
  co_rewarding.method="$METHOD" \
  actor_rollout_ref.model.path="$MODEL_PATH" \
  co_rewarding.chat_template="$CHAT_TEMPLATE" \
  co_rewarding.enable_thinking="$ENABLE_THINKING" \
  data.train_files="$TRAIN_FILE" \
  data.val_files="$VAL_FILE" \
  co_rewarding.answer_format="$ANSWER_FORMAT" \
  data.train_batch_size="$TRAIN_BATCH_SIZE" \
  actor_rollout_ref.actor.ppo_mini_batch_size="$TRAIN_BATCH_SIZE" \
  data.max_prompt_length="$MAX_PROMPT_LENGTH" \
  data.max_response_length="$MAX_RESPONSE_LENGTH" \
  actor_rollout_ref.model.lora_rank="$LORA_RANK" \
  actor_rollout_ref.model.lora_alpha="$LORA_ALPHA" \
  actor_rollout_ref.model.target_modules="$LORA_TARGETS" \
  actor_rollout_ref.rollout.load_format="$([[ $LORA_RANK == 0 ]] && echo dummy || echo safetensors)" \
  actor_rollout_ref.actor.optim.lr="$LEARNING_RATE" \
  actor_rollout_ref.actor.optim.lr_scheduler_type="$LR_SCHEDULER" \
  actor_rollout_ref.actor.optim.lr_warmup_steps_ratio="$LR_WARMUP_RATIO" \
  actor_rollout_ref.rollout.n="$NUM_ROLLOUTS" \
  actor_rollout_ref.teacher.n="$TEACHER_NUM_ROLLOUTS" \
  actor_rollout_ref.teacher.stop_decided="$STOP_DECIDED" \
  actor_rollout_ref.teacher.decay_start="$TEACHER_DECAY_START" \
  actor_rollout_ref.teacher.decay_end="$TEACHER_DECAY_END" \
  actor_rollout_ref.actor.clip_ratio="$CLIP_RATIO" \
  actor_rollout_ref.actor.clip_ratio_low="$CLIP_RATIO" \
  actor_rollout_ref.actor.clip_ratio_high="$CLIP_RATIO" \
  actor_rollout_ref.actor.kl_loss_coef="$KL_LOSS_COEF" \
  actor_rollout_ref.teacher.kl_anchor="$KL_ANCHOR" \
  actor_rollout_ref.rollout.temperature="$TRAIN_TEMPERATURE" \
  actor_rollout_ref.teacher.temperature="$TEACHER_TEMPERATURE" \
  trainer.total_epochs="$TOTAL_EPOCHS" \
  actor_rollout_ref.actor.loss_agg_mode="$LOSS_AGG_MODE" \
  co_rewarding.min_agreement="$MIN_AGREEMENT" \
  co_rewarding.payout="$PAYOUT" \
  co_rewarding.max_label_flips="$MAX_LABEL_FLIPS" \
  actor_rollout_ref.rollout.val_kwargs.temperature="$VAL_TEMPERATURE" \
  actor_rollout_ref.rollout.val_kwargs.do_sample="$([[ $VAL_TEMPERATURE == 0 ]] && echo False || echo True)" \
  actor_rollout_ref.rollout.val_kwargs.n="$VAL_NUM_ROLLOUTS" \
  trainer.test_freq="$TEST_FREQ" \
  trainer.save_freq="$SAVE_FREQ" \
  trainer.nnodes="$NUM_NODES" \
  trainer.n_gpus_per_node="$GPUS_PER_NODE" \
  actor_rollout_ref.rollout.gpu_memory_utilization="$ROLLOUT_MEMORY_UTILIZATION" \
  actor_rollout_ref.rollout.tensor_model_parallel_size="$ROLLOUT_TENSOR_PARALLEL" \
  actor_rollout_ref.teacher.rollout="$TEACHER" \
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu="$MAX_TOKENS_PER_GPU" \
  actor_rollout_ref.model.override_config.attn_implementation="$ATTENTION" \
  trainer.logger="$LOGGER" \
  "$@"
