"""Descriptions of the machine and the software of a run."""

import os
import platform
from pathlib import Path

import torch

from mmselfsup_graft.utils.environment import versions


def processor() -> str:
    """The GPU if there is one, and the CPU with the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    cpu = f'{_cpu_name()}, {cores} core{"s" if cores > 1 else ""}'
    return f'{torch.cuda.get_device_name()}; {cpu}' if torch.cuda.is_available() else cpu


def software() -> str:
    """Versions of torch, this package and Python."""
    found = versions()
    return f'torch {found["torch"]}, mmselfsup_graft {found["mmselfsup_graft"]}, Python {found["python"]}'


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    named = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')
    return named or platform.processor() or platform.machine()
