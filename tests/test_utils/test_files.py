"""Files: what is opened, what a writer leaves behind, how JSON is read; a full disk and full shared memory by name."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.cli.running import describe
from mmselfsup_graft.errors import DataError, DiskFullError
from mmselfsup_graft.utils import files
from mmselfsup_graft.utils.files import (
    append_rows,
    is_disk_full,
    is_shared_memory_full,
    open_regular,
    read_json,
    read_rows,
    whole_file,
    why_not_regular,
    write_json,
    write_text,
    writing,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let our writers meet the kernel's full disk, in whatever folder."""
    full = partial(open, '/dev/full', 'r+b', buffering=0)
    monkeypatch.setattr(files, 'open', lambda *_, **__: full(), raising=False)


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Kind -> a path that is not a regular file."""
    odd = {name: tmp_path / name for name in ('missing', 'folder', 'pipe', 'socket', 'loop', 'dangling', 'linked_pipe')}
    odd['folder'].mkdir()
    os.mkfifo(odd['pipe'])
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the address of a socket has room for 100 bytes
        listener.bind('socket')
        os.chdir(here)
        odd['loop'].symlink_to(odd['loop'])
        odd['dangling'].symlink_to(odd['missing'])
        odd['linked_pipe'].symlink_to(odd['pipe'])
        odd |= {'device': Path('/dev/zero'), 'terminal': Path('/dev/tty'), 'nul': Path('a\0b')}
        yield odd


# ---------------------------------------------------------------- reading
def test_only_regular_files_are_opened(odd: dict[str, Path], tmp_path: Path) -> None:
    for kind, path in odd.items():
        assert why_not_regular(path), kind
        with pytest.raises((OSError, ValueError)):
            open_regular(path)
    (tmp_path / 'file').write_bytes(b'content')
    (tmp_path / 'link').symlink_to('file')
    for name in ('file', 'link'):
        assert why_not_regular(tmp_path / name) is None
        with open_regular(tmp_path / name) as file:
            assert os.get_blocking(file.fileno())
            assert file.read() == b'content'


def test_a_refused_file_leaves_no_handle_open(odd: dict[str, Path]) -> None:
    before = os.listdir('/proc/self/fd')
    for path in (odd['pipe'], odd['folder'], odd['device']):
        with pytest.raises(OSError, match=str(path)):
            open_regular(path)
    assert len(os.listdir('/proc/self/fd')) == len(before)


@pytest.mark.parametrize(
    'content',
    [b'', b'{', b'{"a": 1', b'\xff\xfe', b'[' * 100_000, b'[1, 2]', b'"text"', b'null', b'{"b": 1}', b'1' * 5000],
    ids=['empty', 'brace', 'cut', 'binary', 'deep', 'list', 'text', 'null', 'other key', 'long number'],
)
def test_damaged_json_is_one_error_with_the_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'note.json'
    path.write_bytes(content)
    with pytest.raises(DataError, match=r'note\.json'):
        read_json(path, keys=('a',))


def test_json_that_is_no_file(odd: dict[str, Path]) -> None:
    for kind in ('missing', 'folder', 'pipe', 'loop'):
        with pytest.raises(DataError, match=kind):
            read_json(odd[kind])


def test_json_that_is_larger_than_it_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / 'huge.json'
    path.write_text('{"a": 1}')
    assert read_json(path, most=8) == {'a': 1}
    with pytest.raises(DataError, match=r"huge\.json' is damaged \(it has more than 7 bytes\)"):
        read_json(path, most=7)
    os.truncate(path, 2**40)  # takes no room on the disk
    with pytest.raises(DataError, match='it has more than 67,108,864 bytes'):
        read_json(path)


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / 'rows.jsonl'
    path.write_text('{"a": 1}\n')
    os.truncate(path, 2**40)
    with pytest.raises(DataError, match=r"rows\.jsonl', line 2, is damaged: it has more than 16,777,216 bytes"):
        read_rows(path)


def test_json_comes_back(tmp_path: Path) -> None:
    content = {'a': [1, 2.5, None, 'ü'], 'b': {'c': True}}
    write_json(tmp_path / 'new' / 'a.json', content)
    assert read_json(tmp_path / 'new' / 'a.json', keys=('a', 'b')) == content
    write_json(tmp_path / 'b.json', {'x': torch.ones(2)}, default=lambda value: value.tolist())
    assert read_json(tmp_path / 'b.json') == {'x': [1.0, 1.0]}


# ---------------------------------------------------------------- rows
def test_rows_are_appended_behind_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / 'rows.jsonl'
    append_rows(path, [{'a': 1}, {'a': 2}])
    path.write_bytes(path.read_bytes() + b'{"a": 3, "b"')
    assert read_rows(path) == [{'a': 1}, {'a': 2}]
    append_rows(path, [{'a': 4}])
    assert read_rows(path) == [{'a': 1}, {'a': 2}, {'a': 4}]
    path.write_bytes(path.read_bytes().removesuffix(b'\n'))  # a whole row whose end of line is missing stays
    append_rows(path, [{'a': 5}])
    assert [row['a'] for row in read_rows(path)] == [1, 2, 4, 5]


def test_a_damaged_row_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / 'rows.jsonl').write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(DataError, match=r'rows\.jsonl.*line 2'):
        read_rows(tmp_path / 'rows.jsonl')
    with pytest.raises(DataError, match='none'):
        read_rows(tmp_path / 'none')


def test_rows_are_written_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'rows.jsonl'
    append_rows(path, [{'a': 1}])

    def stops_half_way(file: Any, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        raise FULL

    monkeypatch.setattr(files, 'write_all', stops_half_way)
    with pytest.raises(DiskFullError, match=r'rows\.jsonl'):
        append_rows(path, [{'a': 2}, {'a': 3}])
    assert path.read_text() == '{"a": 1}\n'


# ---------------------------------------------------------------- a full disk
def big_checkpoint(path: Path) -> None:
    save_atomically({'a': torch.zeros(100_000)}, path)


def small_checkpoint(path: Path) -> None:
    save_atomically({'a': torch.zeros(1)}, path)


def array(path: Path) -> None:
    with whole_file(path) as file:
        np.savez(file, a=np.zeros(100_000))


def picture(path: Path) -> None:
    import matplotlib.pyplot as plt

    from mmselfsup_graft.analysis.figures.picture_grid import save_figure

    save_figure(plt.figure(figsize=(1, 1)), path, dpi=20)


WRITERS = {
    'json': lambda path: write_json(path, {'a': 1}),
    'text': lambda path: write_text(path, 'text'),
    'checkpoint': big_checkpoint,
    'small checkpoint': small_checkpoint,
    'array': array,
    'picture': picture,
}


@pytest.mark.parametrize('kind', WRITERS)
def test_a_full_disk_names_the_file_and_keeps_the_old_one(kind: str, full_disk: None, tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(DiskFullError) as caught:
        WRITERS[kind](path)
    assert describe(caught.value).startswith(f'{path} ')
    assert 'disk is full' in describe(caught.value)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['file']


def test_rows_on_a_full_disk(full_disk: None, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=str(tmp_path / 'rows')):
        append_rows(tmp_path / 'rows', [{'a': 1}])


def test_other_errors_of_writing_pass(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / 'file'):
        raise ZeroDivisionError
    with pytest.raises(PermissionError), writing(tmp_path / 'file'):
        raise PermissionError
    with pytest.raises(DiskFullError, match='inner'), writing('outer'), writing('inner'):
        raise FULL
    assert os.listdir(tmp_path) == []


def test_names_aside_are_unique(tmp_path: Path) -> None:
    with whole_file(tmp_path / 'file') as first, whole_file(tmp_path / 'file') as second:
        first.write(b'first')
        second.write(b'second')
        assert first.name != second.name
        assert {Path(first.name).parent, Path(second.name).parent} == {tmp_path}
    assert os.listdir(tmp_path) == ['file']
    assert (tmp_path / 'file').read_bytes() == b'first', 'the one that ended last'


def test_a_new_file_is_synced_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(files.os, 'fsync', lambda handle: synced.append(os.path.exists(tmp_path / 'file')))
    write_json(tmp_path / 'file', json.loads('{"a": 1}'))
    assert synced == [False]


# ---------------------------------------------------------------- what the tools say
@pytest.mark.parametrize(
    'text',
    [
        'unable to allocate shared memory(shm) for file </torch_27_23_0>: Resource temporarily unavailable (11)',
        'unable to write to file </torch_27_23>: No space left on device (28)',
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        'shared memory. Please try to raise your shared memory limit.',
    ],
)
def test_full_shared_memory_is_named_with_what_to_do(text: str) -> None:
    error = RuntimeError(f'Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback ...\n{text}\n')
    assert is_shared_memory_full(error)
    assert not is_disk_full(error)
    for word in ('/dev/shm', 'num_workers=0', '--shm-size'):
        assert word in describe(error)


@pytest.mark.parametrize(
    ('module', 'is_disk'), [('multiprocessing/synchronize.py', False), ('other/synchronize.py', True)]
)
def test_a_semaphore_without_room_is_shared_memory_and_not_a_disk(module: str, is_disk: bool) -> None:
    with open('/dev/full', 'wb', buffering=0) as full, pytest.raises(OSError, match='No space') as caught:
        exec(compile("full.write(b'x')", f'/usr/lib/{module}', 'exec'), {'full': full})
    assert is_disk_full(caught.value) == is_disk
    assert is_shared_memory_full(caught.value) != is_disk


def test_a_full_disk_without_a_name_is_still_said() -> None:
    assert 'disk is full' in describe(OSError(errno.ENOSPC, 'No space left on device'))
    assert 'disk is full' in describe(OSError(errno.EDQUOT, 'Disk quota exceeded', 'some/file'))
    assert 'some/file' in describe(OSError(errno.EDQUOT, 'Disk quota exceeded', 'some/file'))
