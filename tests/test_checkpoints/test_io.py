"""Writing without leaving halves."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from mmselfsup_graft.checkpoints import read_checkpoint, save_atomically


def test_save_and_read(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'deep' / 'file.pth'
    save_atomically({'a': torch.arange(5)}, path)
    assert torch.equal(read_checkpoint(path)['a'], torch.arange(5))
    save_atomically({'a': torch.zeros(1)}, path)
    assert torch.equal(read_checkpoint(path)['a'], torch.zeros(1))
    assert os.listdir(path.parent) == ['file.pth']


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    path = tmp_path / 'file.pth'
    save_atomically({'a': torch.arange(5)}, path)
    before = path.read_bytes()

    def breaks_in_the_middle(content: Any, file: Any) -> None:
        file.write(before[: len(before) // 2])
        file.flush()
        raise error

    monkeypatch.setattr(torch, 'save', breaks_in_the_middle)
    with pytest.raises(type(error)):
        save_atomically({'a': torch.ones(5)}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['file.pth'], 'nothing half-written stays'


def test_content_that_cannot_be_pickled_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'file.pth'
    save_atomically({'a': torch.arange(5)}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_atomically({'a': torch.ones(5), 'b': lambda: None}, path)
    assert torch.equal(read_checkpoint(path)['a'], torch.arange(5))
    assert os.listdir(tmp_path) == ['file.pth']


def test_files_are_as_readable_as_any_other_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_atomically({'a': torch.ones(1)}, tmp_path / 'file.pth')
    finally:
        os.umask(before)
    assert (tmp_path / 'file.pth').stat().st_mode & 0o777 == 0o640
