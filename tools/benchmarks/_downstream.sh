# Shared by the scripts of mmdetection/ and mmsegmentation/; sourced, not run.
# shellcheck shell=bash
# shellcheck disable=SC2329 # usage is called by need and need_number of _launch.sh

source "$(dirname "${BASH_SOURCE[0]}")/../_launch.sh"
SCRIPT=tools/benchmarks/$(basename "$(dirname "$0")")/$(basename "$0")

nodes_help() {
    cat <<'USAGE'

One process per device: GPUS processes on this node. A node without a GPU runs them on its CPU.

Environment, for several nodes (same command on each, with its own NODE_RANK):
  NNODES (1)  NODE_RANK (0)  MASTER_ADDR (127.0.0.1)  PORT (29500)
USAGE
}

slurm_help() {
    cat <<'USAGE'

Environment:
  GPUS (8)  GPUS_PER_NODE (at most 8)  CPUS_PER_TASK (5)  SRUN_ARGS (more arguments for srun)
  PORT (from the job's number)  GRES (gpu:GPUS_PER_NODE; none: tasks on CPUs)
  REQUEUE (0; 1: requeue a job of sbatch when it is preempted)
USAGE
}

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
