#!/usr/bin/env bash
# Run a recipe, several stages as one job, on several devices of one or more nodes.
set -euo pipefail
usage() {
    echo "Usage: bash tools/dist_recipe.sh RECIPE GPUS [arguments of tools/run_recipe.py]"
    nodes_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 2 "$@"
need_number GPUS "$2"
torchrun_launch "$2" run_recipe.py "$1" "${@:3}"
