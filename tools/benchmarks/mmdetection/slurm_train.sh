#!/usr/bin/env bash
# Train a detector from a pre-trained backbone under slurm.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_downstream.sh"
slurm_train "$@"
