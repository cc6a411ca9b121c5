# Shared by the scripts of mmdetection/ and mmsegmentation/; sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2329 # usage is called by need and need_number of _launch.sh

source "$(dirname "${BASH_SOURCE[0]}")/../_launch.sh"
SCRIPT=tools/benchmarks/$(basename "$(dirname "$0")")/$(basename "$0")

# Each: train CONFIG with the pre-trained weights CHECKPOINT (of any known format), or test the trained CHECKPOINT.
dist_train() {
    usage() { echo "Usage: bash $SCRIPT CONFIG PRETRAINED_CHECKPOINT GPUS [arguments of tools/train.py]"; nodes_help; }
    need 3 "$@"
    need_number GPUS "$3"
    torchrun_launch "$3" train.py "$1" --pretrained "$2" "${@:4}"
}

dist_test() {
    usage() { echo "Usage: bash $SCRIPT CONFIG TRAINED_CHECKPOINT GPUS [arguments of tools/test.py]"; nodes_help; }
    need 3 "$@"
    need_number GPUS "$3"
    torchrun_launch "$3" test.py "$1" "$2" "${@:4}"
}

slurm_train() {
    usage() { echo "Usage: bash $SCRIPT PARTITION CONFIG PRETRAINED_CHECKPOINT [arguments of tools/train.py]"; slurm_help; }
    need 3 "$@"
    srun_launch "$1" "$(basename "$2" .py)" train.py "$2" --pretrained "$3" "${@:4}"
}

slurm_test() {
    usage() { echo "Usage: bash $SCRIPT PARTITION CONFIG TRAINED_CHECKPOINT [arguments of tools/test.py]"; slurm_help; }
    need 3 "$@"
    srun_launch "$1" "$(basename "$2" .py)" test.py "$2" "$3" "${@:4}"
}
