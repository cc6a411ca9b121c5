#!/usr/bin/env bash
# Test a checkpoint on several devices of one or more nodes.
set -euo pipefail
usage() {
    echo "Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]"
    nodes_help
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 3 "$@"
need_number GPUS "$3"
torchrun_launch "$3" test.py "$1" "$2" "${@:4}"
