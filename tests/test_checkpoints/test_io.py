"""Writing without leaving halves."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmselfsup_graft.checkpoints import read_checkpoint, save_atomically, save_weights


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


def test_what_is_known_is_read_back(tmp_path: Path) -> None:
    state = {'a': torch.arange(5.0)}
    meta = {'encoder': {'num_heads': 3, 'grid': [2, 8], 'norm_eps': 1e-6}, 'target': 'hf'}
    for name in ('file.pth', 'file.safetensors'):
        read = read_checkpoint(save_weights(state, meta, tmp_path / name))
        assert read['meta'] == meta
        assert torch.equal(read['state_dict']['a'], state['a'])


HEADERS = {
    'text': 'no JSON',
    'list': '[1]',
    'empty': '{}',
    'deep': '[' * 100_000,
    'long number': '9' * 100_000,
    'long': '{"a": "' + 'b' * 2**20 + '"}',
}


@pytest.mark.parametrize('text', HEADERS.values(), ids=HEADERS)
def test_a_header_of_another_kind(tmp_path: Path, text: str) -> None:
    save_file({'a': torch.arange(5.0)}, tmp_path / 'file.safetensors', {'meta': text})
    assert list(read_checkpoint(tmp_path / 'file.safetensors')) == ['a']


def test_files_are_as_readable_as_any_other_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_atomically({'a': torch.ones(1)}, tmp_path / 'file.pth')
    finally:
        os.umask(before)
    assert (tmp_path / 'file.pth').stat().st_mode & 0o777 == 0o640
