"""Machine and software of a measurement."""

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from mmselfsup_graft.utils.environment import versions

_GPU_FIELDS = ('name', 'driver_version', 'clocks.sm', 'clocks.max.sm', 'power.draw', 'power.limit', 'temperature.gpu')

# dense bf16 in TFLOP/s as the makers state them, by part of the device's name; the first that fits
PEAK_TFLOPS = {
    'H200': 989.0,
    'H100 PCIe': 756.0,
    'H100 NVL': 835.0,
    'H100': 989.0,
    'A100': 312.0,
    'L40S': 362.0,
    'A40': 149.7,
    'RTX 4090': 165.2,
}


def machine(device: str) -> dict[str, Any]:
    """Processor, cores that this process may use, load, and the GPU with clocks and power by ``nvidia-smi``."""
    found: dict[str, Any] = {
        'cpu': _cpu_name(),
        'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        'load': list(os.getloadavg()),
        'system': platform.platform(),
        'date': time.strftime('%Y-%m-%d %H:%M'),
    }
    if device == 'cuda':
        found['gpu'] = gpu_state()
    return found


def gpu_state() -> dict[str, str]:
    """Output of ``nvidia-smi`` for the first visible GPU; empty without it."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')[0]
    command = ['nvidia-smi', f'--query-gpu={",".join(_GPU_FIELDS)}', '--format=csv,noheader']
    done = _output([*command, *(['-i', visible] if visible else [])])
    return dict(zip(_GPU_FIELDS, map(str.strip, done.splitlines()[0].split(',')))) if done else {}


def software() -> dict[str, Any]:
    """Versions, and the commit of this checkout."""
    root = Path(__file__).resolve().parents[2]
    found: dict[str, Any] = versions()
    for name in ('lightly', 'timm', 'kornia', 'simplejpeg', 'opencv-python', 'pillow'):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    commit = _output(['git', '-C', str(root), 'rev-parse', 'HEAD'])
    changed = _output(['git', '-C', str(root), 'status', '--porcelain', '--untracked-files=no'])
    return {**found, 'commit': f'{commit}{", changed" if changed else ""}' if commit else 'unknown'}


def peak_tflops(name: str) -> float | None:
    """Stated dense bf16 peak of a GPU in TFLOP/s, None for an unknown one."""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text(encoding='utf-8', errors='replace').splitlines() if info.is_file() else []
    return next(
        (line.partition(':')[2].strip() for line in lines if line.startswith('model name')), platform.processor()
    )


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''
