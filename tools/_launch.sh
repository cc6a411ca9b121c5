# Shared by the launchers of this folder; sourced, not run.
# shellcheck shell=bash

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH=$(dirname "$TOOLS")${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH

# The environment of torchrun_launch and of srun_launch, for usage texts.
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

# need COUNT "$@" : exit with the usage text unless there are COUNT positional arguments.
need() {
    local count=$1
    shift
    case ${1:-} in -h | --help) usage; exit 0 ;; esac
    if (($# < count)); then
        usage >&2
        exit 2
    fi
}

# need_number NAME VALUE : bash arithmetic runs commands inside values, so only digits are accepted.
need_number() {
    if ! [[ $2 =~ ^[1-9][0-9]{0,5}$ ]]; then
        echo "$1 must be a positive number, not '$2'" >&2
        usage >&2
        exit 2
    fi
}

# The environment of tools/install.sh where there is one; otherwise whatever `python` is.
pick_python() {
    local venv=${GRAFT_VENV:-$(dirname "$TOOLS")/.venv}
    if [[ -x $venv/bin/python ]]; then echo "$venv/bin/python"; else echo "${GRAFT_PYTHON:-python}"; fi
}

# torchrun_launch PROCESSES TOOL [args]: one process per device on this node.
torchrun_launch() {
    local processes=$1 tool=$2
    shift 2
    launch "$(pick_python)" -m mmselfsup_graft.cli.torchrun \
        --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
        --nproc_per_node="$processes" "$TOOLS/$tool" --launcher pytorch "$@"
}

# srun_launch PARTITION JOB_NAME TOOL [args]: one task per GPU, spread by slurm.
srun_launch() {
    local partition=$1 job=$2 tool=$3 gpus=${GPUS:-8} cpus=${CPUS_PER_TASK:-5} per_node
    local -a more
    shift 3
    need_number GPUS "$gpus"
    per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    need_number GPUS_PER_NODE "$per_node"
    need_number CPUS_PER_TASK "$cpus"
    if [[ -n ${PORT:-} ]]; then
        need_number PORT "$PORT"
        export MASTER_PORT=$PORT # the name under which mmengine's slurm launcher looks
    fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cpus} # else a task without bound cores takes all of the node
    read -r -d '' -a more <<<"${SRUN_ARGS:-}" || true # several words, but no pattern that file names could fill in
    launch srun -p "$partition" --job-name="$job" --gres="${GRES:-gpu:$per_node}" --ntasks="$gpus" \
        --ntasks-per-node="$per_node" --cpus-per-task="$cpus" --kill-on-bad-exit=1 \
        ${more[@]+"${more[@]}"} "$(pick_python)" -u "$TOOLS/$tool" --launcher slurm "$@"
}

# launch COMMAND [args]: exec the command. In a job of sbatch with REQUEUE=1 wait for it instead: signals to this shell
# (sbatch --signal=B:USR1@60) are passed on, and the job is requeued if the command was preempted (75).
launch() {
    [[ ${REQUEUE:-0} == 1 && -n ${SLURM_JOB_ID:-} ]] || exec "$@"
    local pid code ended=127 asked=1 # 127: the command is missing, or was waited for before
    "$@" &
    pid=$!
    trap 'asked=1; kill -TERM "$pid" 2>/dev/null || true' TERM
    trap 'asked=1; kill -USR1 "$pid" 2>/dev/null || true' USR1
    while ((asked)); do # a trap ends `wait` early
        asked=0 code=0
        wait "$pid" || code=$?
        ((code == 127)) || ended=$code
    done
    # one that was canceled, which ends with the same signal and code, does not run any more
    if ((ended == 75)) && scontrol --oneliner show job "$SLURM_JOB_ID" | grep -q 'JobState=RUNNING '; then
        echo "preempted: job $SLURM_JOB_ID goes back into the queue" >&2
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$ended"
}
