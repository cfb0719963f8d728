#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Slurm job: one Ray node on each machine, then a recipe on all of them. NOT run on GPUs, nor under Slurm: tried
# with stand-ins for srun and scontrol, and two Ray nodes on one machine without a GPU.
#
#   sbatch --nodes=2 recipes/cluster/slurm.sh II qwen3-8b-base 4x80gb                       from the project's folder
#   sbatch --nodes=2 --gpus-per-node=1 recipes/cluster/slurm.sh I qwen3-4b-base 1x80gb
#
# Arguments are those of recipes/train.sh. The folder, the environment, model and data must be visible to all machines under
# the same paths. Started again with the same arguments, the job resumes from its last checkpoint. Ten minutes before its
# time limit it stops the run and queues itself again, if the run has saved a checkpoint in its directory since this job
# began, and at most MAX_REQUEUES times; a run that fails is not queued again.
#
# Variables, besides those of recipes/train.sh:
#   MAX_REQUEUES    how often the job may queue itself again (default: 50)
#   STOP_SECONDS    time that the run has to stop before it is killed (default: 300)
#   GPUS_PER_NODE   GPUs of each machine (default: those of the third argument)
#   RUNS_DIR        folder of all runs, visible to all machines (default: runs)
#   HEAD_IP         address of the first machine on the network between them (default: its first address)
#   RAY_PORT        port of Ray's head (default: 20000 + job id % 20000)
#   RAY_AUTH_TOKEN  token to join the cluster (default: a random one of this job)
#SBATCH --job-name=co-rewarding
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@600
# all memory of a machine: the usual share for each core may be less than reference and moments take
#SBATCH --mem=0
set -euo pipefail
ROOT=${SLURM_SUBMIT_DIR:?run it with sbatch}  # Slurm runs a copy of this file from elsewhere
cd "$ROOT"
[[ -f recipes/train.sh ]] || { echo "error: SLURM_SUBMIT_DIR=$ROOT: submit from the project's folder" >&2; exit 2; }
# shellcheck source=scripts/run_common.sh
source "$ROOT/scripts/run_common.sh"

# GPUs of each machine: those of the recipe (NxMEMORY); no third argument is for train.sh to refuse
if [[ ${3:-} =~ ^([0-9]+)x ]]; then export GPUS_PER_NODE=${GPUS_PER_NODE:-${BASH_REMATCH[1]}}; fi
if [[ -n ${SLURM_GPUS_ON_NODE:-} ]] && ((SLURM_GPUS_ON_NODE < ${GPUS_PER_NODE:-0})); then
  refuse "GPUS_PER_NODE=$GPUS_PER_NODE, the job has $SLURM_GPUS_ON_NODE: sbatch --gpus-per-node=$GPUS_PER_NODE"
fi
MAX_REQUEUES=${MAX_REQUEUES:-50} STOP_SECONDS=${STOP_SECONDS:-300} RUNS_DIR=$(realpath -ms "${RUNS_DIR:-runs}")
export RUNS_DIR

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export RAY_PORT=${RAY_PORT:-$((20000 + SLURM_JOB_ID % 20000))}  # two jobs may share a machine
# who may join the cluster can run any code in it: a token of this job's own
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')}
# exec, so that the processes to be ended below are srun's; called in subshells only
on() { exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }

# its first address; where that is not on the network between the machines, set HEAD_IP
head_ip=${HEAD_IP:-$(on "${hosts[0]}" hostname -I | awk '{print $1}')}
nodes=() run="" began=""
trap 'kill $run "${nodes[@]}" 2>/dev/null; rm -f "$began"; wait' EXIT
on "${hosts[0]}" env "NODE_IP=$head_ip" bash recipes/cluster/ray_node.sh head &
nodes+=($!)
for host in "${hosts[@]:1}"; do
  on "$host" bash recipes/cluster/ray_node.sh worker "$head_ip" &
  nodes+=($!)
done
bash recipes/cluster/ray_node.sh wait "$head_ip" "${#hosts[@]}"

mkdir -p "$RUNS_DIR"
began=$(mktemp -p "$RUNS_DIR" .job.XXXXXX) # its time is that of the file system that the checkpoints are on
RAY_ADDRESS=$head_ip:$RAY_PORT NUM_NODES=${#hosts[@]} bash recipes/train.sh "$@" &
run=$!

time_is_up=no signalled=no
stop_run() {
  time_is_up=yes signalled=yes
  kill -TERM "$run" 2>/dev/null || return 0
  (timeout "$STOP_SECONDS" tail --pid="$run" -f /dev/null || kill -KILL "$run") &>/dev/null &
}
trap stop_run USR1
while true; do # a signal ends `wait`, not the run
  code=0
  wait "$run" || code=$?
  [[ $signalled == yes ]] || break
  signalled=no
done
[[ $time_is_up == yes && $code != 0 ]] || exit "$code"

no_more() { echo "error: the time limit is near and the run was stopped, but not queued again: $*" >&2; exit 1; }
((${SLURM_RESTART_COUNT:-0} < MAX_REQUEUES)) || no_more "it was $MAX_REQUEUES times (MAX_REQUEUES)"
saved=no
while IFS= read -r lock; do # which names the process that this job started; runs/ may be a link to another disk
  [[ ! ${lock%/*}/checkpoints/latest_checkpointed_iteration.txt -nt $began ]] || saved=yes
done < <(find -L "$RUNS_DIR" -name run.lock -exec grep -lF "process $run on " {} + 2>/dev/null)
[[ $saved == yes ]] || no_more "no checkpoint was saved since this job began; set SAVE_FREQ lower or --time higher"
echo "the time limit is near: the run was stopped and is queued again, to resume from its last checkpoint"
scontrol requeue "$SLURM_JOB_ID" || no_more "scontrol requeue failed"
