#!/usr/bin/env bash
# Train a segmentor from a pre-trained backbone on several devices.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_downstream.sh"
dist_train "$@"
