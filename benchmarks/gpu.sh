#!/usr/bin/env bash
# All that a GPU has to show, in at most 8 minutes: bash benchmarks/gpu.sh [--device cuda|cpu] [--out FILE.json]
#
#   --device   cuda, or cpu for the same parts at tiny sizes (default: cuda)
#   --out      where the result is written, after every part (default: work_dirs/gpu.json)
#
# Nothing is downloaded or installed: the first part says what is missing. A part that fails or takes too long does not stop
# the next ones; the exit code is 1 if one did. GRAFT_VENV and GRAFT_PYTHON choose the Python, GRAFT_GOLDEN the golden numbers.
set -euo pipefail

case ${1:-} in
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit 0
        ;;
esac
# shellcheck source=tools/_launch.sh
. "$(dirname "${BASH_SOURCE[0]}")/../tools/_launch.sh"
exec "$(pick_python)" "$(dirname "$TOOLS")/benchmarks/gpu_parts.py" "$@"
