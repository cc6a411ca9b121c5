"""One writer per work directory: who is refused, when the lock ends, what is removed."""

import errno
import fcntl
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from helpers import run_ranks

from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir
from mmselfsup_graft.errors import GraftError

FORK = multiprocessing.get_context('fork')


def attempt(folder: Path, queue) -> None:
    try:
        with exclusive_work_dir(folder):
            queue.put('')
    except GraftError as error:
        queue.put(str(error))


def in_a_fork(folder: Path) -> str:
    """The refusal that another process gets; empty if it may write."""
    queue = FORK.Queue()
    process = FORK.Process(target=attempt, args=(folder, queue))
    process.start()
    answer = queue.get(timeout=60)
    process.join()
    return answer


def test_another_process_is_refused_and_told_who_writes(tmp_path):
    folder = tmp_path / 'new' / 'run'
    with exclusive_work_dir(folder):
        with exclusive_work_dir(str(folder)):  # nested, as the stages of a recipe
            pass
        refusal = in_a_fork(folder)
        assert f'{folder} is in use' in refusal
        assert f'PID {os.getpid()} on {socket.gethostname()}' in refusal
    assert in_a_fork(folder) == ''


def hold(folder: Path, queue) -> None:
    with exclusive_work_dir(folder):
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
            os._exit(0)
        queue.put(worker)
        time.sleep(60)


def test_the_lock_ends_with_its_process_though_a_worker_lives_on(tmp_path):
    queue = FORK.Queue()
    process = FORK.Process(target=hold, args=(tmp_path, queue))
    process.start()
    worker = queue.get(timeout=60)
    try:
        assert f'PID {process.pid} ' in in_a_fork(tmp_path)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        os.kill(worker, 0)  # it is there
        assert in_a_fork(tmp_path) == ''
    finally:
        os.kill(worker, signal.SIGKILL)


def test_unfinished_checkpoints_of_killed_runs_are_removed_and_nothing_else(tmp_path):
    stale = ['.epoch_3.pth.tmp', '.iter_12.pth.77-0123abcd.tmp', '.best_accuracy_top1_epoch_2.pth.7-89abcdef.tmp']
    stale += ['.progress.json.1-00000000.tmp']
    kept = ['epoch_2.pth', '.other.pth.tmp', 'iter_3.pth.tmp', 'a.1-00000000.tmp']
    for name in (*stale, *kept):
        (tmp_path / name).touch()
    with exclusive_work_dir(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, '.lock'])


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    messages: list[str] = []
    monkeypatch.setattr(
        'mmselfsup_graft.engine.launching.work_dir.print_log', lambda text, level, **_: messages.append(text)
    )
    with exclusive_work_dir(tmp_path):
        pass
    assert f'{tmp_path} cannot be locked (No locks available)' in messages[0]


LOCKS = {
    'symbolic link': lambda lock, other: lock.symlink_to(other),
    'loop': lambda lock, other: lock.symlink_to(lock.name),
    'hard link': lambda lock, other: os.link(other, lock),
    'pipe': lambda lock, other: os.mkfifo(lock),
    'folder': lambda lock, other: lock.mkdir(),
}


@pytest.mark.parametrize('kind', LOCKS)
def test_a_lock_that_is_not_a_file_of_its_own_is_refused(kind, tmp_path):
    other = tmp_path / 'other'
    other.write_text('precious')
    (tmp_path / 'run').mkdir()
    LOCKS[kind](tmp_path / 'run' / '.lock', other)
    with (
        pytest.raises(GraftError, match=str(tmp_path / 'run' / '.lock')) as refused,
        exclusive_work_dir(tmp_path / 'run'),
    ):
        pass
    assert '\n' not in str(refused.value)
    assert other.read_text() == 'precious'


def test_a_work_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / 'run').write_text('x')
    with pytest.raises(GraftError, match='cannot be used as a work directory'), exclusive_work_dir(tmp_path / 'run'):
        pass


def leave(folder: Path, queue) -> None:
    """Leave the block in a fork, where the number of the lock belongs to another file by then."""
    with exclusive_work_dir(folder):
        numbers = set(os.listdir('/proc/self/fd'))
        worker = os.fork()
        if worker == 0:
            freed = numbers - set(os.listdir('/proc/self/fd'))
            opened = [os.open('/dev/null', os.O_RDONLY) for _ in range(3)]
        else:
            _, code = os.waitpid(worker, 0)
            queue.put((code, (folder / '.lock').exists()))
    if worker == 0:
        try:
            reused = {str(number) for number in opened} & freed
            for number in opened:
                os.fstat(number)
            os._exit(0 if reused else 3)
        except OSError:
            os._exit(4)


def test_a_fork_that_leaves_the_block_touches_neither_the_lock_nor_other_files(tmp_path):
    queue = FORK.Queue()
    process = FORK.Process(target=leave, args=(tmp_path, queue))
    process.start()
    assert queue.get(timeout=60) == (0, True)
    process.join()


def refused_rank(rank: int, folder: str) -> str:
    try:
        with exclusive_work_dir(folder):
            return ''
    except GraftError as error:
        return str(error)


def test_all_ranks_are_refused_together(tmp_path):
    with exclusive_work_dir(tmp_path):
        first, second = run_ranks(refused_rank, 2, str(tmp_path))
    assert f'PID {os.getpid()} ' in first
    assert first == second
