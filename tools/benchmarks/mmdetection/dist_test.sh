#!/usr/bin/env bash
# Test a trained detector on several devices.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_downstream.sh"
dist_test "$@"
