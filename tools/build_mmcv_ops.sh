#!/usr/bin/env bash
# Give an interpreter the compiled ops of mmcv, for those that torchvision does not serve.
set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: bash tools/build_mmcv_ops.sh [PYTHON]

Installs onedl-mmcv with its compiled ops for the torch of PYTHON (default: the environment of tools/install.sh). They are
optional: without them torchvision serves the ops that detectors and segmentors usually call (docs/transfer.md). Does
nothing if they already work. Built wheels are kept and reused. Building takes about 7 minutes on 2 cores without CUDA,
longer with it. It needs torch before 2.14 (requirements/compiled_ops.txt).

Environment:
  GRAFT_MMCV_WHEEL  wheel to install instead of building one, e.g. for your torch and CUDA
  GRAFT_WHEELS      folder where built wheels are kept (default: ~/.cache/mmselfsup_graft/wheels)
  FORCE_CUDA=1      build for GPUs on a machine that has none, e.g. the login node of a cluster
  MAX_JOBS          parallel compilers (default: number of cores; each takes up to 2 GB of memory)
  CFLAGS            flags of the compiler (default without a GPU: "-O1 -g0", which builds in half the time)
USAGE
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${1:-} in -h | --help) usage; exit 0 ;; esac
VENV=${GRAFT_VENV:-$ROOT/.venv}
PYTHON=${1:-$VENV/bin/python}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '[ops] %s\n' "$*"; }
die() { printf '[ops] error: %s\n' "$*" >&2; exit 1; }

# Ops without CUDA can be imported on a machine with a GPU, and fail there when they are called.
ops_work() { "$PYTHON" -c 'import mmcv.ops, torch; assert mmcv.ops.get_compiling_cuda_version() != "not available" or not torch.cuda.is_available()' >/dev/null 2>&1; }
with_cuda() { [[ ${FORCE_CUDA:-0} == 1 ]] || "$PYTHON" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; }
# The compiled part is bound to versions of Python, torch and CUDA: one folder of wheels for each.
describe_torch() { "$PYTHON" -c 'import torch; print(f"torch-{torch.__version__}", end="-")'; if with_cuda; then echo cuda; else echo cpu; fi; }
pinned() { sed -n "s/^$1==//p" "$ROOT/requirements/constraints.txt"; }

[[ -x $PYTHON ]] || command -v "$PYTHON" >/dev/null || die "no interpreter $PYTHON; make the environment first: bash tools/install.sh"
"$PYTHON" -c 'import torch' 2>/dev/null || die "$PYTHON has no torch; make the environment first: bash tools/install.sh"
if ops_work; then say 'the compiled ops of mmcv work already'; exit 0; fi
VERSION=$(pinned onedl-mmcv)
WHEELS=${GRAFT_WHEELS:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/mmselfsup_graft/wheels}/$(describe_torch)
TAG=$("$PYTHON" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')

# The folder a build takes place in, its log and the process that shows progress end with this script.
BUILD='' BEAT=''
clean_up() {
    [[ -z $BEAT ]] || kill "$BEAT" 2>/dev/null || true
    [[ -z $BUILD ]] || rm -rf "$BUILD"
}
trap clean_up EXIT

need_compiler() {
    local headers
    "$PYTHON" -c 'import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 14))' ||
        die "onedl-mmcv $VERSION cannot be compiled for torch 2.14 and newer, which are C++20; install an older one (bash tools/install.sh --compiled-ops does), or do without: torchvision serves most of them"
    command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler; install one (Debian, Ubuntu: apt-get install g++), name a prebuilt wheel (GRAFT_MMCV_WHEEL=FILE), or do without: torchvision serves most of them"
    headers=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    [[ -f $headers/Python.h ]] || die "no C headers of Python ($headers/Python.h); install them (Debian, Ubuntu: apt-get install python3-dev)"
}

show_progress() {
    local log=$1 waited=0 step
    while sleep 15 >/dev/null 2>&1; do
        waited=$((waited + 15))
        step=$({ grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" || true; } | tail -n 1 | tr -d ' []')
        if [[ $step =~ ^([1-9][0-9]*)/([1-9][0-9]*)$ ]]; then
            say "  ... ${waited} s, ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} files, about $((waited * (BASH_REMATCH[2] - BASH_REMATCH[1]) / BASH_REMATCH[1])) s left"
        else
            say "  ... ${waited} s"
        fi
    done
}

build_wheel() { # leaves its path in WHEEL
    local log built
    need_compiler
    mkdir -p "$WHEELS"
    BUILD=$(mktemp -d "$WHEELS/.build.XXXXXX")
    log=$BUILD/log.txt
    if ! with_cuda; then export CFLAGS=${CFLAGS:--O1 -g0}; fi
    say "compiling the ops of onedl-mmcv $VERSION (some 7 minutes on 2 cores without CUDA)"
    show_progress "$log" &
    BEAT=$!
    # Without build isolation it compiles against the torch that is there. pip's own cache must stay out of it: it does
    # not tell this wheel from the one without ops.
    if ! "$PYTHON" -m pip install --progress-bar off -c "$ROOT/requirements/constraints.txt" 'setuptools>=80,<82' wheel ninja psutil >"$log" 2>&1 ||
        ! MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} "$PYTHON" -m pip wheel -v --no-cache-dir --no-build-isolation --no-deps \
            -w "$BUILD" "onedl-mmcv==$VERSION" >>"$log" 2>&1; then
        { grep -v 'WARNING: Location' "$log" || true; } | tail -n 30 >&2
        cp "$log" "$WHEELS/failed.log"
        die "the build failed; the end of its output is above, all of it is in $WHEELS/failed.log"
    fi
    built=$(compgen -G "$BUILD/onedl_mmcv-*.whl") || die "pip built no wheel"
    [[ $built != *-none-any.whl ]] || die "pip built mmcv without its ops; is ${CXX:-c++} a working compiler?"
    WHEEL=$WHEELS/${built##*/}
    mv "$built" "$WHEEL"
}

WHEEL=${GRAFT_MMCV_WHEEL:-$(compgen -G "$WHEELS/onedl_mmcv-$VERSION-$TAG-*.whl" | head -n 1 || true)}
if [[ -z $WHEEL ]]; then build_wheel; else say "installing $WHEEL"; fi
"$PYTHON" -m pip install -q --force-reinstall --no-deps --no-index "$WHEEL" >/dev/null || die "pip cannot install $WHEEL"
ops_work || die "mmcv.ops still cannot be imported: $("$PYTHON" -c 'import mmcv.ops' 2>&1 | tail -n 1); is $WHEEL for this torch? Delete it and try again"
say "done in $SECONDS s; the wheel is kept: $WHEEL"
