#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Slurm job: one Ray node on each machine, then a recipe on all of them. NOT run on GPUs, nor under Slurm: tried
# with stand-ins for srun and scontrol, and two Ray nodes on one machine without a GPU.
#
#   sbatch --nodes=2 recipes/cluster/slurm.sh II qwen3-8b-base 4x80gb                       from the project's folder
#   sbatch --nodes=2 --gpus-per-node=1 recipes/cluster/slurm.sh I qwen3-4b-base 1x80gb
#
# Arguments are those of recipes/train.sh. The folder, the environment, model and data must be seen by all machines under
# the same paths. Started again with the same arguments, the job resumes from its last checkpoint.
#SBATCH --job-name=co-rewarding
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
# all memory of a machine: the usual share for each core may be less than reference and moments take
#SBATCH --mem=0
set -euo pipefail
ROOT=${SLURM_SUBMIT_DIR:?run it with sbatch}  # Slurm runs a copy of this file from elsewhere
cd "$ROOT"
[[ -f recipes/train.sh ]] || { echo "error: SLURM_SUBMIT_DIR=$ROOT: submit from the project's folder" >&2; exit 2; }

# GPUs of each machine: those of the recipe (NxMEMORY); no third argument is for train.sh to refuse
if [[ ${3:-} =~ ^([0-9]+)x ]]; then export GPUS_PER_NODE=${GPUS_PER_NODE:-${BASH_REMATCH[1]}}; fi
if [[ -n ${SLURM_GPUS_ON_NODE:-} ]] && ((SLURM_GPUS_ON_NODE < ${GPUS_PER_NODE:-0})); then
  echo "error: GPUS_PER_NODE=$GPUS_PER_NODE, the job has $SLURM_GPUS_ON_NODE: sbatch --gpus-per-node=$GPUS_PER_NODE" >&2
  exit 2
fi

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export RAY_PORT=${RAY_PORT:-$((20000 + SLURM_JOB_ID % 20000))}  # two jobs may share a machine
# who may join the cluster can run any code in it: a token of this job's own
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=${RAY_AUTH_TOKEN:-$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')}
# exec, so that the processes to be ended below are srun's; called in subshells only
on() { exec srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" "${@:2}"; }

# its first address; where that is not on the network between the machines, set HEAD_IP
head_ip=${HEAD_IP:-$(on "${hosts[0]}" hostname -I | awk '{print $1}')}
nodes=()
trap 'kill "${nodes[@]}" 2>/dev/null; wait' EXIT
on "${hosts[0]}" env "NODE_IP=$head_ip" bash recipes/cluster/ray_node.sh head &
nodes+=($!)
for host in "${hosts[@]:1}"; do
  on "$host" bash recipes/cluster/ray_node.sh worker "$head_ip" &
  nodes+=($!)
done
bash recipes/cluster/ray_node.sh wait "$head_ip" "${#hosts[@]}"

# the process that trains may run on any machine: the run's folder needs a full path
RAY_ADDRESS=$head_ip:$RAY_PORT NUM_NODES=${#hosts[@]} bash recipes/train.sh "$@" \
  "co_rewarding_run_dir=$(realpath -ms "${RUNS_DIR:-runs}")/\${trainer.project_name}/\${trainer.experiment_name}"
