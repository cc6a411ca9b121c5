"""What tests of the launchers share: a slow run, its processes, and waiting for them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from test_tools.tiny_runs import ROOT, tiny_config, write_config

# every iteration takes so much longer that a signal arrives within the run
SLOW = """
import time
from mmengine.hooks import Hook
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class SlowAndNoted(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.3)
"""


def slow_config(folder: Path, epochs: int = 3) -> Path:
    """A training of 4 iterations per epoch on two processes, each with a data-loading worker."""
    (folder / 'slow.py').write_text(SLOW)
    options: dict[str, Any] = dict(custom_imports=dict(imports=['slow']), custom_hooks=[dict(type='SlowAndNoted')])
    content = tiny_config('cl', images=64, batch=8, epochs=epochs, **options)
    content['train_dataloader'] |= dict(num_workers=1, persistent_workers=True)
    return write_config(folder / 'cl.py', content)


def start_script(script: str, *arguments: Any, folder: Path, **environment: str) -> subprocess.Popen:
    """Start ``bash tools/SCRIPT ARGUMENTS`` with this interpreter; its output goes to ``FOLDER/output``."""
    variables = {**os.environ, 'GRAFT_PYTHON': sys.executable, 'GRAFT_VENV': str(folder / 'none')}
    variables |= {'PYTHONPATH': f'{ROOT}{os.pathsep}{folder}', 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    command = ['bash', str(ROOT / 'tools' / script), *map(str, arguments)]
    with (folder / 'output').open('w') as file:
        return subprocess.Popen(
            command, cwd=folder, env={**variables, **environment}, stdout=file, stderr=subprocess.STDOUT
        )


def iterations(work_dir: Path) -> int:
    """How many a run has done."""
    path = work_dir / 'progress.json'
    return json.loads(path.read_text())['iter'] if path.is_file() else 0


def wait_for(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    """Wait until it holds."""
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, 'waited too long'
        time.sleep(0.1)


def processes_of(work_dir: Path) -> list[int]:
    """The ranks that train into a work directory, and their workers."""
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            words = (entry / 'cmdline').read_bytes().split(b'\0')
        except OSError:
            continue
        ours = os.fsencode(work_dir) in words and any(word.endswith(b'tools/train.py') for word in words)
        if ours and not any(b'torchrun' in word or word.endswith(b'srun') for word in words):
            found.append(int(entry.name))
    return sorted(found)
