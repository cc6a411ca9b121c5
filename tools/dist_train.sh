#!/usr/bin/env bash
# Train on several devices of one or more nodes.
set -euo pipefail
usage() {
    echo "Usage: bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]"
    nodes_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 2 "$@"
need_number GPUS "$2"
torchrun_launch "$2" train.py "$1" "${@:3}"
