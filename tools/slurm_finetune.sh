#!/usr/bin/env bash
# Fine-tune a checkpoint under slurm.
set -euo pipefail
usage() {
    echo "Usage: bash tools/slurm_finetune.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/finetune.py]"
    slurm_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 4 "$@"
srun_launch "$1" "$2" finetune.py "$3" "$4" "${@:5}"
