#!/usr/bin/env bash
# Train under slurm.
set -euo pipefail
usage() {
    cat <<'USAGE'
Usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]

Environment:
  GPUS (8)  GPUS_PER_NODE (at most 8)  CPUS_PER_TASK (5)  SRUN_ARGS (more arguments for srun)
  PORT (from the job's number)  GRES (gpu:GPUS_PER_NODE; none: tasks on CPUs)
  REQUEUE (0; 1: requeue a job of sbatch when it is preempted)
USAGE
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 4 "$@"
srun_launch "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
