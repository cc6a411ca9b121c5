#!/usr/bin/env bash
# Layer Grafted Pre-training from nothing to a table of results, in one command.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: bash tools/quickstart.sh [--data digits|fashion-mnist|DIR] [options of tools/run_recipe.py]

Installs what is missing (see tools/install.sh) and runs the cascade (masked image modeling, then contrastive
learning grafted onto it) beside each objective alone, then scores all of them. The same command resumes where it
was stopped.

  --data digits           scikit-learn's 1,797 digits (default, about 5 minutes of training on 2 cores)
  --data fashion-mnist    6,000 images of Fashion-MNIST (Debian's package dataset-fashion-mnist, or downloaded)
  --data DIR              a folder of images, labeled by sub-folder or not at all
  --epochs N              length of the longest training; the others keep their proportion to it
  --max-left-out SHARE    share of the files that may be left out because they are not images (default: 0.05)
  --work-dir DIR          where to write (default: work_dirs/<name of the recipe>, for a folder
                          work_dirs/layer-grafted_<name of the folder>)
USAGE
}

source "$(dirname "${BASH_SOURCE[0]}")/_launch.sh"
ROOT=$(dirname "$TOOLS")
DATA=digits
REST=()
while (($#)); do
    case $1 in
        --data) DATA=${2:-}; [[ -n $DATA ]] || { usage >&2; exit 2; }; shift 2 ;;
        --data=*) DATA=${1#--data=}; [[ -n $DATA ]] || { usage >&2; exit 2; }; shift ;;
        -h | --help) usage; exit 0 ;;
        *) REST+=("$1"); shift ;;
    esac
done

RECIPES=$ROOT/configs/recipes
case $DATA in
    digits) ARGS=("$RECIPES/layer-grafted_vit-micro-p4_digits-16px.py") ;;
    fashion-mnist) ARGS=("$RECIPES/layer-grafted_vit-mini-p4_fashion-mnist-28px.py") ;;
    *)
        [[ -d $DATA ]] || { echo "error: --data $DATA: not a folder (nor digits or fashion-mnist)" >&2; exit 1; }
        ARGS=("$RECIPES/layer-grafted_vit-mini-p8_folder-64px.py" --data-root "$DATA"
            --work-dir "work_dirs/layer-grafted_$(basename "$(cd "$DATA" && pwd)")") ;;
esac

bash "$ROOT/tools/install.sh"
CORES=$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)
if [[ $CORES =~ ^[1-9][0-9]{0,5}$ ]] && ((CORES > 1)); then JOBS=2; else JOBS=1; fi
exec "$(pick_python)" "$ROOT/tools/run_recipe.py" "${ARGS[@]}" --jobs "$JOBS" "${REST[@]+"${REST[@]}"}"
