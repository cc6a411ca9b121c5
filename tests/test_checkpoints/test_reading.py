"""Reading checkpoint files: as plain data, without running code."""

import argparse
import builtins
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.errors import CheckpointError


class Malicious:
    """Unpickles by calling ``function`` with ``argument``."""

    def __init__(self, function: Callable[..., Any], argument: Any) -> None:
        self.function, self.argument = function, argument

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any]]:
        return self.function, (self.argument,)


def _attacks(marker: Path) -> dict[str, Malicious]:
    return {
        'system': Malicious(os.system, f'touch {marker}'),
        'eval': Malicious(builtins.eval, f'open({str(marker)!r}, "w")'),
        'exec': Malicious(builtins.exec, f'open({str(marker)!r}, "w").close()'),
        'check_call': Malicious(subprocess.check_call, ['touch', str(marker)]),
    }


def _one_line_error(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert '\n' not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize('layout', ['zip', 'legacy', 'bare pickle'])
@pytest.mark.parametrize('attack', ['system', 'eval', 'exec', 'check_call'])
def test_code_in_a_file_is_not_run(tmp_path: Path, attack: str, layout: str) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    content = {'model': {'a': torch.ones(1)}, 'extra': _attacks(marker)[attack]}
    if layout == 'bare pickle':
        path.write_bytes(pickle.dumps({'extra': content['extra']}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == 'zip')
    message = _one_line_error(path)
    assert not marker.exists(), 'the file ran code'
    if layout != 'bare pickle':
        assert attack in message, 'the message names what was blocked'
        assert 'would run code' in message


def test_the_attack_is_real_and_the_switch_is_explicit(tmp_path: Path) -> None:
    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    torch.save({'extra': _attacks(marker)['system']}, path)
    read_checkpoint(path, unsafe_pickle=True)
    assert marker.exists()


def test_objects_of_other_software_are_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / 'old.pth'
    torch.save(
        {
            'state_dict': {'a': torch.arange(3)},
            'args': argparse.Namespace(lr=1.5e-4, model='vit'),
            'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0, 2.0], [1, 1])}},
        },
        path,
    )
    content = read_checkpoint(path)
    assert torch.equal(content['state_dict']['a'], torch.arange(3))
    assert content['args'] == {'lr': 1.5e-4, 'model': 'vit'}
    history = content['message_hub']['log_scalars']['train/loss']
    assert type(history) is dict
    assert history['_log_history'].tolist() == [1.0, 2.0]


@pytest.mark.parametrize('share', [0.0, 0.3, 0.9])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = tmp_path / 'half.pth'
    torch.save({'model': {'a': torch.randn(1000)}}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert 'damaged or not a PyTorch file' in _one_line_error(path)


@pytest.mark.parametrize(
    'content', [b'hello, this is text\n', b'\x89PNG\r\n\x1a\n' + bytes(64), b'PK\x03\x04' + bytes(99)]
)
def test_not_a_torch_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'other.pth'
    path.write_bytes(content)
    assert 'damaged or not a PyTorch file' in _one_line_error(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert 'does not exist' in _one_line_error(tmp_path / 'nowhere.pth')
    assert 'does not exist' in _one_line_error(tmp_path)


def test_file_that_holds_no_dict(tmp_path: Path) -> None:
    path = tmp_path / 'list.pth'
    torch.save([torch.ones(1)], path)
    assert 'holds a list' in _one_line_error(path)


def test_a_class_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType('lab_code')
    module.Settings = type('Settings', (), {'__module__': 'lab_code'})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'lab_code', module)
    torch.save({'settings': module.Settings()}, tmp_path / 'file.pth')
    monkeypatch.delitem(sys.modules, 'lab_code')
    with pytest.raises(CheckpointError, match=r"needs a class that is not installed \(No module named 'lab_code'\)"):
        read_checkpoint(tmp_path / 'file.pth', unsafe_pickle=True)
