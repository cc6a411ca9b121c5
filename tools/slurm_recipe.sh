#!/usr/bin/env bash
# Run a recipe, several stages as one job, under slurm.
set -euo pipefail
usage() {
    cat <<'USAGE'
Usage: bash tools/slurm_recipe.sh PARTITION JOB_NAME RECIPE [arguments of tools/run_recipe.py]

Environment:
  GPUS (8)  GPUS_PER_NODE (at most 8)  CPUS_PER_TASK (5)  SRUN_ARGS (more arguments for srun)
  PORT (from the job's number)  GRES (gpu:GPUS_PER_NODE; none: tasks on CPUs)
  REQUEUE (0; 1: requeue a job of sbatch when it is preempted)
USAGE
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 3 "$@"
srun_launch "$1" "$2" run_recipe.py "$3" "${@:4}"
