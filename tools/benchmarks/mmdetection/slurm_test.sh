#!/usr/bin/env bash
# Test a trained detector under slurm.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_downstream.sh"
slurm_test "$@"
