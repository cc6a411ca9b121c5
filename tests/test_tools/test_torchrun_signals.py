"""Signals to a launch of two processes: no orphan, no second writer, one exit code, the same bits in the end."""

import os
import signal
import socket
from pathlib import Path

import pytest
from test_tools.launched import iterations, processes_of, slow_config, start_script, wait_for
from test_tools.tiny_runs import assert_same_run

pytestmark = pytest.mark.slow


def launch(config: Path, work_dir: Path, *options: str):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    arguments = [config, 2, '--work-dir', work_dir, *options]
    return start_script('dist_train.sh', *arguments, folder=config.parent, PORT=str(port))


def test_killed_orphaned_preempted_and_resumed(tmp_path):
    config, run, output = slow_config(tmp_path), tmp_path / 'run', tmp_path / 'output'
    assert launch(config, tmp_path / 'whole').wait(timeout=300) == 0, output.read_text()[-3000:]

    # a rank dies
    process = launch(config, run)
    wait_for(lambda: iterations(run) >= 1)
    ranks = [
        pid
        for pid in processes_of(run)
        if Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1] == str(process.pid)
    ]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(timeout=30) == 1
    assert (
        f'error: rank 1 (PID {ranks[1]}): killed by SIGKILL (out of memory?); the others were stopped'
        in output.read_text()
    )
    wait_for(lambda: not processes_of(run), seconds=10)

    # the launcher dies
    done = iterations(run)
    process = launch(config, run, '--resume')
    wait_for(lambda: iterations(run) > done)
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(run), seconds=10)

    # it is asked to stop
    done = iterations(run)
    process = launch(config, run, '--resume')
    wait_for(lambda: iterations(run) > done)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75, output.read_text()[-3000:]
    assert not processes_of(run)
    assert any(run.glob('*.pth'))
    assert 'stopped by SIGTERM after iteration' in output.read_text()

    assert launch(config, run, '--resume').wait(timeout=300) == 0, output.read_text()[-3000:]
    assert_same_run(run / 'epoch_3.pth', tmp_path / 'whole' / 'epoch_3.pth')
    assert not any(run.glob('iter_*.pth'))
