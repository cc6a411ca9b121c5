#!/usr/bin/env bash
# Fine-tune a checkpoint on several devices of one or more nodes.
set -euo pipefail
usage() {
    cat <<'USAGE'
Usage: bash tools/dist_finetune.sh CONFIG CHECKPOINT GPUS [arguments of tools/finetune.py]

One process per device: GPUS processes on this node. A node without a GPU runs them on its CPU.

Environment, for several nodes (same command on each, with its own NODE_RANK):
  NNODES (1)  NODE_RANK (0)  MASTER_ADDR (127.0.0.1)  PORT (29500)
USAGE
}
source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
need 3 "$@"
need_number GPUS "$3"
torchrun_launch "$3" finetune.py "$1" "$2" "${@:4}"
