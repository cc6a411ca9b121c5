"""tools/build_mmcv_ops.sh with a stand-in for python that writes down what pip is asked for."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WHEEL = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'
# mmcv.ops works once pip has installed something
PYTHON = f"""#!/bin/sh
case "$*" in
    '-c import torch') ;;
    *'(2, 14)'*) test -z "$NEW_TORCH" ;;
    '-c import mmcv.ops'*) test -f "$STATE/installed" ;;
    *'torch-{{torch'*) printf torch-2.11.0- ;;
    *'cp%d%d'*) echo cp311 ;;
    *get_paths*) echo "$STATE" ;;
    *is_available*) exit 1 ;;
    '-m pip wheel '*)
        echo "[7/78] compiling" && echo "wheel CFLAGS=$CFLAGS MMCV_WITH_OPS=$MMCV_WITH_OPS $*" >> "$STATE/calls"
        while [ "$1" != -w ]; do shift; done
        [ -n "$BROKEN" ] && echo 'g++: fatal error' && exit 1
        touch "$2/${{BUILT:-{WHEEL}}}" ;;
    '-m pip install '*) echo "$*" >> "$STATE/calls"; case "$*" in *.whl) touch "$STATE/installed" ;; esac ;;
    *) echo "unexpected: $*" >&2; exit 9 ;;
esac
"""


@pytest.fixture
def build(tmp_path):
    """Call the script; returns how it ended and what pip was asked for so far."""
    python, calls = tmp_path / 'python', tmp_path / 'calls'
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / 'Python.h').touch()
    calls.touch()

    def call(**environment: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        clean = {key: value for key, value in os.environ.items() if key not in ('CFLAGS', 'CXX')}
        known = {'STATE': str(tmp_path), 'GRAFT_WHEELS': str(tmp_path / 'wheels'), 'CXX': 'sh'}
        command = ['bash', str(ROOT / 'tools' / 'build_mmcv_ops.sh'), str(python)]
        done = subprocess.run(
            command, env={**clean, **known, **environment}, capture_output=True, text=True, check=False
        )
        return done, calls.read_text().splitlines()

    return call


def test_builds_once_and_keeps_the_wheel(build, tmp_path):
    done, calls = build()
    assert done.returncode == 0, done.stderr
    kept = tmp_path / 'wheels' / 'torch-2.11.0-cpu' / WHEEL
    assert kept.is_file()
    assert sorted(path.name for path in kept.parent.iterdir()) == [WHEEL]  # nothing else is left behind
    assert 'setuptools>=80,<82' in calls[0]
    assert calls[1].startswith('wheel CFLAGS=-O1 -g0 MMCV_WITH_OPS=1')
    assert '--no-cache-dir --no-build-isolation --no-deps' in calls[1]
    assert calls[1].endswith('onedl-mmcv==2.3.6')
    assert calls[2].endswith(str(kept))
    done, calls = build()
    assert 'work already' in done.stdout
    (tmp_path / 'installed').unlink()  # another environment
    done, calls = build()
    assert done.returncode == 0, done.stderr
    assert calls[3:] == [calls[2]]


def test_a_prebuilt_wheel_is_taken(build, tmp_path):
    done, calls = build(GRAFT_MMCV_WHEEL='/somewhere/prebuilt.whl', CXX='no-compiler')
    assert done.returncode == 0, done.stderr
    assert len(calls) == 1
    assert calls[0].endswith('/somewhere/prebuilt.whl')


def test_flags_of_the_user_win(build):
    _, calls = build(CFLAGS='-O3')
    assert calls[1].startswith('wheel CFLAGS=-O3')


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        ({'CXX': 'no-such-compiler'}, 'no C++ compiler; install one'),
        ({'NEW_TORCH': 'yes'}, 'cannot be compiled for torch 2.14'),
        ({'BROKEN': 'yes'}, 'the build failed'),
        ({'BUILT': 'onedl_mmcv-2.3.6-py3-none-any.whl'}, 'without its ops'),
    ],
)
def test_what_cannot_be_built_leaves_no_wheel(build, tmp_path, environment, message):
    done, _ = build(**environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(tmp_path.rglob('*.whl'))
    if 'BROKEN' in environment:
        assert 'g++: fatal error' in done.stderr
        assert 'g++' in (tmp_path / 'wheels' / 'torch-2.11.0-cpu' / 'failed.log').read_text()


def test_headers_of_python_are_needed(build, tmp_path):
    (tmp_path / 'Python.h').unlink()
    done, _ = build()
    assert done.returncode == 1
    assert 'no C headers of Python' in done.stderr
