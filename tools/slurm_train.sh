#!/usr/bin/env bash
# Train under slurm.
set -euo pipefail
usage() {
    echo "Usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]"
    slurm_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 4 "$@"
srun_launch "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
