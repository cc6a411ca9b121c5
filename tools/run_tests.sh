#!/usr/bin/env bash
# Install what the tests need and run them: bash tools/run_tests.sh [--all] [--no-transfer] [pytest arguments]
#
#   --all           also the tests marked slow: processes that are killed and resumed, several that train together
#   --no-transfer   neither install nor test detection and segmentation
#   --help          print this and stop
#
# Without pytest arguments: all tests, in two processes with one computing thread each.
# GRAFT_GOLDEN=<folder with reference numbers> adds the comparison with them; GRAFT_VENV=<folder> is where to install.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${GRAFT_VENV:-$ROOT/.venv}
[[ $VENV == /* ]] || VENV=$PWD/$VENV
if [[ -n ${GRAFT_GOLDEN:-} ]]; then
    GRAFT_GOLDEN=$(cd "$GRAFT_GOLDEN" && pwd) # the tests run from the checkout, wherever we were called from
    export GRAFT_GOLDEN
fi

parts=(--tests --transfer)
chosen=()
while (($# > 0)); do
    case $1 in
        --help | -h)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --all) chosen+=(--all) ;;
        --no-transfer)
            parts=(--tests)
            chosen+=(--no-transfer)
            ;;
        *) break ;;
    esac
    shift
done
bash "$ROOT/tools/install.sh" "${parts[@]}"
cd "$ROOT"
if (($# == 0)); then
    # Two processes with one computing thread each: more would only wait for each other. Neighbors share fixtures, so
    # each process gets a half in order, and the one that is done first takes from the end of the other's.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    set -- tests -q -n 2 --dist worksteal
fi
exec "$VENV/bin/python" -m pytest ${chosen[@]+"${chosen[@]}"} "$@"
