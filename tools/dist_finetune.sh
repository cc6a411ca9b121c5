#!/usr/bin/env bash
# Fine-tune a checkpoint on several devices of one or more nodes.
set -euo pipefail
usage() {
    echo "Usage: bash tools/dist_finetune.sh CONFIG CHECKPOINT GPUS [arguments of tools/finetune.py]"
    nodes_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 3 "$@"
need_number GPUS "$3"
torchrun_launch "$3" finetune.py "$1" "$2" "${@:4}"
