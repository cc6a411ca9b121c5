#!/usr/bin/env bash
# Test a checkpoint under slurm.
set -euo pipefail
usage() {
    echo "Usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
    slurm_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 4 "$@"
srun_launch "$1" "$2" test.py "$3" "$4" "${@:5}"
