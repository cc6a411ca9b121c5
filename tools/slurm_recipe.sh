#!/usr/bin/env bash
# Run a recipe, several stages as one job, under slurm.
set -euo pipefail
usage() {
    echo "Usage: bash tools/slurm_recipe.sh PARTITION JOB_NAME RECIPE [arguments of tools/run_recipe.py]"
    slurm_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 3 "$@"
srun_launch "$1" "$2" run_recipe.py "$3" "${@:4}"
