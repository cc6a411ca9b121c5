#!/usr/bin/env bash
# Test a trained segmentor on several devices.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_downstream.sh"
dist_test "$@"
