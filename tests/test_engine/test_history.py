"""The files of a run's story: a kill or a full disk while they are written loses nothing; damage is named."""

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import build, moco_config, vit_config
from mmengine.fileio.backends import local_backend
from torch.utils.data import DataLoader, TensorDataset

from mmselfsup_graft.engine import HistoryHook
from mmselfsup_graft.errors import DataError, DiskFullError
from mmselfsup_graft.utils import files


class Rates:
    """Optimizer wrapper of which the hook asks rates only."""

    param_groups = ()

    def get_lr(self) -> dict[str, list[float]]:
        return {'lr': [0.1]}


def runner_in(folder: Path, iteration: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        work_dir=str(folder),
        iter=iteration,
        max_iters=20,
        epoch=0,
        model=build(moco_config(vit_config(depth=2))),
        optim_wrapper=Rates(),
        train_dataloader=DataLoader(TensorDataset(torch.zeros(8)), batch_size=4, drop_last=True),
        world_size=1,
    )


def write_rows(folder: Path, count: int) -> bytes:
    path = folder / 'history.jsonl'
    path.write_text(''.join(json.dumps({'iter': number}) + '\n' for number in range(count)))
    return path.read_bytes()


@pytest.mark.parametrize('name', ['history.jsonl', 'param_groups.json'])
def test_a_kill_while_a_file_is_replaced_keeps_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path, 10)
    (tmp_path / 'param_groups.json').write_text('{"layers": []}')
    before = (tmp_path / name).read_bytes()
    replace = os.replace

    def killed(source: str, target: str) -> None:
        if Path(target).name == name:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(files.os, 'replace', killed)
    with pytest.raises(KeyboardInterrupt):
        HistoryHook().before_train(runner_in(tmp_path, 4))
    assert (tmp_path / name).read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.suffix == '.tmp']


@pytest.mark.parametrize(
    'rest',
    [b'{"iter": 2', b'{"iter": 2}', b'\xff\xfe\n', b'[1]\n', b'{"iter": "2"}\n', b'{"loss": 1}\n'],
)
def test_lines_that_are_no_rows_are_cut(rest: bytes, tmp_path: Path) -> None:
    whole = write_rows(tmp_path, 2)
    (tmp_path / 'history.jsonl').write_bytes(whole + rest)
    HistoryHook().before_train(runner_in(tmp_path, 4))
    assert (tmp_path / 'history.jsonl').read_bytes() == whole


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'{"seconds"',
        b'[]',
        b'{"iter": 3}',
        b'\xff',
        b'{"seconds": "x"}',
        b'{"seconds": true}',
        b'{"seconds": -1}',
        b'{"seconds": NaN}',
        b'{"seconds": Infinity}',
        b'{"seconds": [1]}',
        b'{"seconds": null}',
        b'{"seconds": 1, "cpu_seconds": "x"}',
        b'{"seconds": 1, "cpu_seconds": -1}',
    ],
)
def test_a_damaged_progress_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'progress.json').write_bytes(content)
    with pytest.raises(DataError, match=str(tmp_path / 'progress.json')):
        HistoryHook().before_train(runner_in(tmp_path, 4))


@pytest.mark.parametrize('more', ['', ', "cpu_seconds": null', ', "cpu_seconds": NaN', ', "cpu_seconds": 2.5'])
def test_times_of_before_are_added(more: str, tmp_path: Path) -> None:
    (tmp_path / 'progress.json').write_text(f'{{"seconds": 1000{more}}}')
    hook, runner = HistoryHook(interval=1), runner_in(tmp_path, 4)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0)})
    after = json.loads((tmp_path / 'progress.json').read_text())
    assert 1000 <= after['seconds'] < 1100
    assert ('cpu_seconds' in after) == more.endswith('2.5')


def test_a_full_disk_names_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, runner = HistoryHook(interval=1), runner_in(tmp_path)
    hook.before_train(runner)
    full = partial(open, '/dev/full', 'r+b', buffering=0)
    monkeypatch.setattr(files, 'open', lambda *_, **__: full(), raising=False)
    with pytest.raises(DiskFullError, match=str(tmp_path / 'history.jsonl')):
        hook.after_train_iter(runner, 0, outputs={'loss': torch.tensor(1.0)})


def test_a_full_disk_names_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_tools.tiny_runs import call_tool, fresh_name, tiny_config, write_config

    def full(path: str, mode: str) -> object:
        return open('/dev/full' if 'epoch_1' in str(path) else path, mode)

    monkeypatch.setattr(local_backend, 'open', full, raising=False)
    config = write_config(tmp_path / 'cl.py', tiny_config('cl', images=16, epochs=2))
    done = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name())
    assert done.code == 1
    assert str(tmp_path / 'run' / 'epoch_1.pth') in done.error()
    assert 'disk is full' in done.error()
    assert not list((tmp_path / 'run').glob('*.pth'))
