"""Under a real Slurm: training, scoring, preemption with requeue, the death of a task.

Needs a Slurm that runs (``sinfo`` answers) with two generic resources called gpu on one node, which may be fake: the
tasks train on CPUs. Debian: ``apt-get install --no-install-recommends slurm-wlm munge``.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_tools.launched import iterations, processes_of, slow_config, start_script, wait_for
from test_tools.tiny_runs import ROOT, assert_same_run


def answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def partition() -> str:
    """The first partition; empty if no Slurm answers."""
    return answer('sinfo', '-h', '-o', '%R').split('\n')[0] if shutil.which('sinfo') else ''


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not partition(), reason='no Slurm answers: sinfo is missing or reaches no controller'),
]


def slurm(script: str, *arguments: object, folder: Path) -> subprocess.Popen:
    return start_script(script, partition(), 'test', *arguments, folder=folder, GPUS='2', CPUS_PER_TASK='1')


def test_trained_scored_preempted_requeued(tmp_path):
    config, whole, run, output = slow_config(tmp_path), tmp_path / 'whole', tmp_path / 'run', tmp_path / 'output'
    assert slurm('slurm_train.sh', config, whole, folder=tmp_path).wait(timeout=300) == 0, output.read_text()[-3000:]
    scoring = slurm('slurm_test.sh', config, whole / 'epoch_3.pth', '--work-dir', whole, folder=tmp_path)
    assert scoring.wait(timeout=300) == 0, output.read_text()[-3000:]
    assert {row['protocol'] for row in json.loads((whole / 'test.json').read_text())['results']} >= {'knn'}

    # a task dies
    process = slurm('slurm_train.sh', config, run, folder=tmp_path)
    wait_for(lambda: iterations(run) >= 1)
    tasks = [pid for pid in processes_of(run) if b'SLURM_PROCID=1' in Path(f'/proc/{pid}/environ').read_bytes()]
    os.kill(tasks[0], signal.SIGKILL)
    assert process.wait(timeout=30) == 128 + signal.SIGKILL
    wait_for(lambda: not processes_of(run), seconds=10)

    # preempted, requeued, resumed to the end
    job = tmp_path / 'job.sh'
    train = f'bash {ROOT}/tools/slurm_train.sh {partition()} test {config} {run} --resume'
    job.write_text(
        f'#!/usr/bin/env bash\n#SBATCH --partition={partition()} --ntasks=2 --ntasks-per-node=2 --cpus-per-task=1\n'
        f'#SBATCH --gres=gpu:2 --requeue --open-mode=append --output={tmp_path}/job.log\n{train}\n'
    )
    names = dict(GPUS='2', CPUS_PER_TASK='1', REQUEUE='1', GRAFT_PYTHON=sys.executable, GRAFT_VENV='none')
    names |= dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1')
    done = iterations(run)
    submitted = subprocess.run(['sbatch', str(job)], env={**os.environ, **names}, capture_output=True, text=True)
    number = re.search(r'\d+', submitted.stdout)[0]
    state = lambda: re.search(r'JobState=(\w+)', answer('scontrol', 'show', 'job', number))[1]  # noqa: E731
    try:
        wait_for(lambda: iterations(run) > done)
        answer('scancel', '--signal=USR1', number)  # what --signal=USR1@60 sends to the tasks
        wait_for(lambda: state() == 'PENDING', seconds=60)
        assert list(run.glob('iter_*.pth'))
        answer('scontrol', 'update', f'jobid={number}', 'StartTime=now')
        wait_for(lambda: state() == 'COMPLETED')
    finally:
        answer('scancel', number)
    assert f'job {number} goes back into the queue' in (tmp_path / 'job.log').read_text()
    assert_same_run(run / 'epoch_3.pth', whole / 'epoch_3.pth')
