#!/usr/bin/env bash
# Make the virtual environment of this checkout and install the package into it.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: bash tools/install.sh [--tests] [--transfer] [--compiled-ops] [--benchmarks] [--dali] [--docs]

Makes a virtual environment and installs mmselfsup-graft (editable) with the tested versions of its requirements,
including those of the fast data path (kornia, simplejpeg). Does nothing if the environment is up to date.

  --tests        also install what the tests, the linter and the type checker need
  --transfer     also install detection and segmentation: mmdet and mmseg; torchvision serves the operators of mmcv
  --compiled-ops also build mmcv's own operators, for those that torchvision does not serve (docs/transfer.md). Installs
                 an older torch (requirements/compiled_ops.txt) and needs a C++ compiler and about 7 minutes on 2
                 cores the first time (tools/build_mmcv_ops.sh --help)
  --benchmarks   also install lightly, for comparison in benchmarks/
  --docs         also install what builds the documentation site
  --dali         also install NVIDIA DALI (900 MB and more), for fast='dali' (docs/speed.md)

Environment:
  GRAFT_VENV     folder of the virtual environment (default: .venv in the checkout)
  GRAFT_PYTHON   Python interpreter to create it with, 3.10 to 3.12 (default: the first suitable python3 found)
USAGE
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${GRAFT_VENV:-$ROOT/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
PARTS=(base fast)
for argument in "$@"; do
    case $argument in
        --tests | --transfer | --compiled-ops | --benchmarks | --dali | --docs) PARTS+=("${argument#--}") ;;
        -h | --help) usage; exit 0 ;;
        *) echo "install.sh: unknown argument '$argument'" >&2; usage >&2; exit 2 ;;
    esac
done
LOG=$VENV/graft-install.log
started=$SECONDS

say() { printf '[install] %s\n' "$*"; }
die() { printf '[install] error: %s\n' "$*" >&2; exit 1; }

# one line instead of what pip says about it; whatever runs gets the signal too
trap 'printf "\n[install] interrupted; run the same command again to continue\n" >&2; trap - INT; exit 130' INT

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' >/dev/null 2>&1; }
minor_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

find_python() {
    local candidate
    if [[ -n ${GRAFT_PYTHON:-} ]]; then
        is_supported "$GRAFT_PYTHON" && { echo "$GRAFT_PYTHON"; return; }
        die "GRAFT_PYTHON=$GRAFT_PYTHON is not a working Python 3.10 to 3.12 (it says: $(minor_of "$GRAFT_PYTHON" || echo nothing))"
    fi
    for candidate in python3 python3.12 python3.11 python3.10; do
        is_supported "$candidate" && { echo "$candidate"; return; }
    done
    die "no Python 3.10 to 3.12 found (python3 is $(minor_of python3 || echo missing)); install one, or name it: GRAFT_PYTHON=/path/to/python3.11 bash tools/install.sh"
}

# Everything that decides what gets installed; an editable install also depends on where the checkout lies.
fingerprint() {
    (cd "$ROOT" && echo "$ROOT" && cat requirements/*.txt setup.py pyproject.toml mmselfsup_graft/version.py) | cksum
}

venv_works() { [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -c '' >/dev/null 2>&1; }

is_up_to_date() {
    local part
    venv_works || return 1
    if [[ -n ${GRAFT_PYTHON:-} && $(minor_of "$GRAFT_PYTHON") != "$(minor_of "$VENV/bin/python")" ]]; then return 1; fi
    for part in "${PARTS[@]}"; do
        [[ -f $VENV/graft-$part.stamp && $(<"$VENV/graft-$part.stamp") == "$(fingerprint)" ]] || return 1
    done
}

is_reusable() {
    venv_works && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    is_supported "$VENV/bin/python" || return 1
    [[ -z ${GRAFT_PYTHON:-} || $(minor_of "$GRAFT_PYTHON") == "$(minor_of "$VENV/bin/python")" ]]
}

make_venv() {
    local python
    if is_reusable; then say "using the virtual environment $VENV"; return; fi
    if [[ -e $VENV ]]; then
        # Only what looks like a virtual environment is ever deleted.
        [[ -f $VENV/pyvenv.cfg || -z $(ls -A "$VENV") ]] || die "$VENV exists and is not a virtual environment; set GRAFT_VENV to another folder"
        say "the virtual environment $VENV does not work: making another one"
        rm -rf "$VENV"
    fi
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        die "$python cannot make virtual environments; install its venv module (Debian, Ubuntu: apt-get install python$(minor_of "$python")-venv) and try again"
    say "making a virtual environment in $VENV with Python $(minor_of "$python")"
    "$python" -m venv "$VENV" >/dev/null || die "'$python -m venv $VENV' failed"
}

heartbeat() {
    local waited=0
    while sleep 15 >/dev/null 2>&1; do # an orphaned sleep must not keep the caller's pipe open
        waited=$((waited + 15))
        say "  ... ${waited} s: $(tail -n 1 "$LOG" 2>/dev/null | sed 's/^ *//' | cut -c 1-90)" # what pip does now
    done
}

# The versions tested together; compiled operators need an older torch, and keep it when something is installed later.
choose_constraints() {
    CONSTRAINTS=$ROOT/requirements/constraints.txt
    if [[ " ${PARTS[*]} " == *' compiled-ops '* || -f $VENV/graft-compiled-ops.stamp ]]; then
        { grep -vE '^(torch|torchvision)==' "$CONSTRAINTS"; cat "$ROOT/requirements/compiled_ops.txt"; } >"$VENV/graft-constraints.txt"
        CONSTRAINTS=$VENV/graft-constraints.txt
    fi
}

install_package() {
    local target extras='' part
    for part in "${PARTS[@]:1}"; do [[ $part == compiled-ops ]] || extras+=,$part; done
    target="${ROOT}[${extras#,}]"
    say "installing mmselfsup-graft and its requirements (a first time takes 2 to 4 minutes, torch is most of it; log: $LOG)"
    heartbeat 9>&- & # without the lock's file descriptor
    BEAT=$!
    # The heartbeat must not outlive this script, however it ends.
    trap 'kill "$BEAT" 2>/dev/null || true' EXIT
    # mmcv without its compiled operators: never start a compiler for it here.
    if ! MMCV_WITH_OPS=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 "$VENV/bin/python" -m pip install \
        --progress-bar off -c "$CONSTRAINTS" -e "$target" >"$LOG" 2>&1; then
        kill "$BEAT" 2>/dev/null || true
        { grep -v 'WARNING: Location' "$LOG" || true; } | tail -n 30 >&2
        die "pip failed; the end of its output is above, all of it is in $LOG"
    fi
    kill "$BEAT" 2>/dev/null || true
}

if is_up_to_date; then
    say "up to date: $VENV"
    exit 0
fi
mkdir -p "$(dirname "$VENV")"
if command -v flock >/dev/null; then # two shells at once would install over each other
    exec 9>"$VENV.lock"
    flock 9
    is_up_to_date && { say "up to date: $VENV"; exit 0; }
fi
make_venv
for part in "${PARTS[@]}"; do rm -f "$VENV/graft-$part.stamp"; done # an interrupted install must not look finished
choose_constraints
install_package
"$VENV/bin/python" -c 'import mmselfsup_graft' || die "the installed package cannot be imported; see $LOG"
if [[ " ${PARTS[*]} " == *' compiled-ops '* ]]; then bash "$ROOT/tools/build_mmcv_ops.sh" "$VENV/bin/python"; fi
for part in "${PARTS[@]}"; do fingerprint >"$VENV/graft-$part.stamp"; done
say "done in $((SECONDS - started)) s: $VENV"
