#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One machine of a Ray cluster, in the foreground: it leaves the cluster when this script ends (Ctrl-C). Tried with two
# nodes on one machine without a GPU; NOT run on several machines, nor on GPUs.
#
#   bash recipes/cluster/ray_node.sh head              on the first machine
#   bash recipes/cluster/ray_node.sh worker HEAD_IP    on each other machine
#   bash recipes/cluster/ray_node.sh wait HEAD_IP N    until N machines have joined; then, on the first machine:
#   RAY_AUTH_MODE=token RAY_ADDRESS=HEAD_IP:6379 NUM_NODES=N bash recipes/train.sh …
#
# Whoever joins a Ray cluster can run any code in it, so a token is required: `ray get-auth-token --generate` makes one in
# ~/.ray/auth_token, which must be the same on all machines, or set the same RAY_AUTH_TOKEN on all.
# All machines need the same paths for code, environment, model, data and runs/.
#
# Variables:
#   GPUS_PER_NODE   GPUs of this machine (default: all that Ray finds)
#   NODE_IP         this machine's address (default: Ray's choice)
#   RAY_PORT        port of Ray's head (default: 6379)
#   RAY_NODE_ARGS   more arguments of `ray start` (default: none)
#   RAY_AUTH_MODE   how Ray checks who may join (default: token)
#   WAIT_SECONDS    time to wait for the head, or for all machines (default: 300)
set -euo pipefail
[[ ${1:-} == -h || ${1:-} == --help ]] && { sed -n '3,/^set /s/^# \{0,1\}//p' "$0"; exit 0; }
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ROLE=${1:-} HEAD_IP=${2:-} NODES=${3:-}
RAY_PORT=${RAY_PORT:-6379}
WAIT_SECONDS=${WAIT_SECONDS:-300}
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
refuse() { echo "error: $*" >&2; exit 2; }

if [[ -z ${VIRTUAL_ENV:-} && -f $ROOT/.venv/bin/activate ]]; then
  # shellcheck source=/dev/null
  source "$ROOT/.venv/bin/activate"
fi
read -ra more <<<"${RAY_NODE_ARGS:-}"
node=(ray start --block --disable-usage-stats)
[[ -z ${GPUS_PER_NODE:-} ]] || node+=("--num-gpus=$GPUS_PER_NODE")
[[ -z ${NODE_IP:-} ]] || node+=("--node-ip-address=$NODE_IP")

# number of machines in the cluster; fails while there is no head
alive() {
  python - "$HEAD_IP:$RAY_PORT" 2>/dev/null <<'PYTHON'
import sys, ray
ray.init(sys.argv[1], log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
PYTHON
}

case $ROLE in
  head) exec "${node[@]}" --head "--port=$RAY_PORT" --include-dashboard=false "${more[@]}" ;;
  worker)
    [[ -n $HEAD_IP ]] || refuse "usage: ray_node.sh worker HEAD_IP"
    deadline=$((SECONDS + WAIT_SECONDS))
    until (: >"/dev/tcp/$HEAD_IP/$RAY_PORT") 2>/dev/null; do # the head may need longer to start than this machine
      ((SECONDS < deadline)) || refuse "no Ray head at $HEAD_IP:$RAY_PORT after $WAIT_SECONDS s"
      sleep 1
    done
    exec "${node[@]}" "--address=$HEAD_IP:$RAY_PORT" "${more[@]}"
    ;;
  wait)
    [[ -n $HEAD_IP && $NODES =~ ^[0-9]+$ ]] || refuse "usage: ray_node.sh wait HEAD_IP N"
    deadline=$((SECONDS + WAIT_SECONDS))
    until seen=$(alive) && ((seen >= NODES)); do
      ((SECONDS < deadline)) || refuse "${seen:-0} of $NODES machines are in the cluster at $HEAD_IP:$RAY_PORT after $WAIT_SECONDS s"
      sleep 1
    done
    ;;
  *) refuse "usage: ray_node.sh head | worker HEAD_IP | wait HEAD_IP N" ;;
esac
