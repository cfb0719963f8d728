#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Test-time training: train on a benchmark's own questions, without their answers, and measure on them before and after.
#
#   METHOD=majority_voting bash scripts/run_ttt.sh                       any label-free method
#   METHOD=majority_voting+0.1*my.py:short bash scripts/run_ttt.sh       your own reward, alone or in a sum
#   METHOD=co_rewarding_I bash scripts/run_ttt.sh                        paired: also FILE=… AUG_FILE=…, row by row
#   METHOD=majority_voting_both_views bash scripts/run_ttt.sh            its controls: this and co_rewarding_I_same_wording
#   FILE=data/amc/test.parquet MODEL_PATH=Qwen/Qwen2.5-7B bash scripts/run_ttt.sh trainer.total_epochs=10
#   METHOD=majority_voting NUM_ROLLOUTS=32 NUM_VOTES=64 bash scripts/run_ttt.sh     TTRL: 64 votes, 32 are trained on
#   FILE=my_questions.csv bash scripts/run_ttt.sh                        questions without known answers
#
# AMC (83 questions) by default: `python scripts/data_preprocess/amc.py` makes the file, `rephrased.py amc` beside it the
# published pairs, on which co_rewarding_I, its controls and co_rewarding_III train and are measured. Accuracy is avg@8 at
# temperature 0.8 (the paper's), in the metrics val-core/…/acc/mean@8, before the first step and every TEST_FREQ steps;
# without known answers, agreement and stability of the answers are measured instead (val-label-free/…, docs/METRICS.md). A
# run of 80 steps needs a teacher that moves faster than the paper's: it ends with a fifth of the starting model.
# All variables of the method's run script but TRAIN_FILE, TRAIN_AUG_FILE and VAL_FILE can be set here too;
# arguments are appended as configuration overrides.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"
answer_help "$@"

for name in TRAIN_FILE TRAIN_AUG_FILE VAL_FILE; do
  if [[ -n ${!name:-} ]]; then
    refuse "$name=${!name}: test-time training has one file, FILE, and its rephrased questions, AUG_FILE"
  fi
done
METHOD=${METHOD:-majority_voting}                  # any that reads no ground truth; FILE.py:FUNCTION; a sum A+0.1*B
vote=$(vote_of "$METHOD")
if [[ $vote =~ ^(co_rewarding_I(II)?|co_rewarding_I_same_wording|majority_voting_both_views)$ && -z ${FILE:-}${AUG_FILE:-} ]]; then
  FILE=$ROOT/data/amc/paired_original.parquet AUG_FILE=$ROOT/data/amc/paired_rephrased.parquet
  [[ $vote != co_rewarding_I_same_wording ]] || AUG_FILE=
fi
FILE=${FILE:-$ROOT/data/amc/test.parquet}          # the benchmark
AUG_FILE=${AUG_FILE:-}                             # its questions rephrased, for methods on two views
export ANSWER_FORMAT=${ANSWER_FORMAT:-}            # of rows that name none: boxed, choice, number, tag, regex:PATTERN, FILE.py:FUNCTION
export TRAIN_FILE=$FILE VAL_FILE=$FILE TRAIN_AUG_FILE=$AUG_FILE
export VAL_NUM_ROLLOUTS=${VAL_NUM_ROLLOUTS:-8}     # responses a question
export VAL_TEMPERATURE=${VAL_TEMPERATURE:-0.8}     # the paper's
export TRAIN_BATCH_SIZE=${TRAIN_BATCH_SIZE:-16}    # questions a step
export TOTAL_EPOCHS=${TOTAL_EPOCHS:-16}            # passes over the questions
export TEST_FREQ=${TEST_FREQ:-5}                   # steps between validations
export METHOD

paired=no overrides=()
reads_answers="METHOD=$METHOD reads the answers, which test-time training does not have"
[[ "+${METHOD// /}+" =~ [+*](ground_truth|incorrect)\+ ]] && refuse "$reads_answers"
if [[ $METHOD == *:* ]]; then # a function may declare that it needs them; its existence is checked below
  use_environment
  needs='import sys; from co_rewarding.algo.methods import method; sys.exit(9 * method(sys.argv[1]).needs_labels)'
  python -c "$needs" "$METHOD" >/dev/null 2>&1 || (($? != 9)) || refuse "$reads_answers"
fi
case $vote in
  co_rewarding_I | majority_voting_both_views) script=Co-rewarding-I/run_corewarding-I.sh paired=yes ;;
  co_rewarding_I_same_wording) script=Co-rewarding-I/run_corewarding-I.sh TRAIN_AUG_FILE=$FILE ;;
  co_rewarding_II) script=Co-rewarding-II/run_corewarding-II.sh overrides+=(actor_rollout_ref.teacher.start_share=0.2) ;;
  co_rewarding_III)
    script=Co-rewarding-II/run_corewarding-III.sh paired=yes overrides+=(actor_rollout_ref.teacher.start_share=0.2)
    ;;
  *) script=scripts/run_baseline.sh ;;
esac
if [[ $paired == yes && -z $AUG_FILE ]]; then
  refuse "METHOD=$METHOD asks each question in two wordings: set AUG_FILE to the rephrased questions of FILE (python" \
    "rewrite_questions.py makes them), or leave FILE out for the published pairs of AMC"
elif [[ $paired == no && -n $AUG_FILE ]]; then
  refuse "AUG_FILE=$AUG_FILE: METHOD=$METHOD asks each question in one wording; use co_rewarding_I," \
    "co_rewarding_III or majority_voting_both_views, or leave AUG_FILE out"
fi
exec bash "$ROOT/$script" "${overrides[@]}" "$@"
