"""How a launch by torchrun ends, in words and as an exit code; test_tools/test_torchrun_signals.py launches."""

import signal

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from mmselfsup_graft.cli import torchrun
from mmselfsup_graft.utils.stop_signals import exit_reason


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def run(_: object) -> None:
        raise error

    monkeypatch.setattr(torchrun, 'run', run)
    monkeypatch.setenv('GRAFT_PARENT', '1')  # put back what it sets
    return torchrun.main(['--nproc_per_node=2', 'tool.py'])


def failed(*codes: int) -> ChildFailedError:
    """Ranks that ended with these codes within one second, the first one last."""
    failures = {rank: ProcessFailure(rank, 100 + rank, code, '') for rank, code in enumerate(codes)}
    for failure in failures.values():
        failure.timestamp = 1_700_000_000
    return ChildFailedError('tool.py', failures)


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_to_the_launcher(number, code, monkeypatch):
    assert ended(monkeypatch, SignalException('', sigval=number)) == code


@pytest.mark.parametrize('codes', [(75, 75), (75, -signal.SIGTERM)])
def test_ranks_that_were_asked_to_stop(codes, monkeypatch, capsys):
    assert ended(monkeypatch, failed(*codes)) == 75
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('codes', 'said'),
    [
        ((1, -signal.SIGKILL), 'rank 1 (PID 101): killed by SIGKILL (out of memory?)'),  # rank 0 lost its peer
        ((75, -signal.SIGSEGV), 'rank 1 (PID 101): killed by SIGSEGV'),
        ((3, -signal.SIGTERM), 'rank 0 (PID 100): exit code 3'),
    ],
)
def test_a_rank_that_failed_is_named(codes, said, monkeypatch, capsys):
    assert ended(monkeypatch, failed(*codes)) == 1
    assert capsys.readouterr().err == f'error: {said}; the others were stopped\n'


def test_deaths_in_words():
    assert [exit_reason(code) for code in (1, -9, -11, -64)] == [
        'exit code 1',
        'killed by SIGKILL (out of memory?)',
        'killed by SIGSEGV',
        'killed by SIGRTMAX',
    ]
