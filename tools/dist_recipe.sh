#!/usr/bin/env bash
# Run a recipe, several stages as one job, on several devices of one or more nodes.
set -euo pipefail
usage() {
    cat <<'USAGE'
Usage: bash tools/dist_recipe.sh RECIPE GPUS [arguments of tools/run_recipe.py]

One process per device: GPUS processes on this node. A node without a GPU runs them on its CPU.

Environment, for several nodes (same command on each, with its own NODE_RANK):
  NNODES (1)  NODE_RANK (0)  MASTER_ADDR (127.0.0.1)  PORT (29500)
USAGE
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 2 "$@"
need_number GPUS "$2"
torchrun_launch "$2" run_recipe.py "$1" "${@:3}"
