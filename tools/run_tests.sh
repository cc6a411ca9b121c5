#!/usr/bin/env bash
# Install what the tests need and run them: bash tools/run_tests.sh [--no-transfer] [pytest arguments]
# --no-transfer leaves out detection and segmentation, whose compiled ops take some 7 minutes to build the first time.
# GRAFT_GOLDEN=<folder with reference numbers> adds the comparison with them.
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
if [[ ${1:-} == --no-transfer ]]; then
    parts=(--tests)
    chosen=(--no-transfer)
    shift
fi
bash "$ROOT/tools/install.sh" "${parts[@]}"
cd "$ROOT"
if (($# == 0)); then
    # Two processes with one computing thread each: more would only wait for each other.
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    set -- tests -q -n 2
fi
exec "$VENV/bin/python" -m pytest ${chosen[@]+"${chosen[@]}"} "$@"
