"""Whoever reads a checkpoint gets one line or plain data from any file: nothing runs, crashes, hangs or grows."""

import argparse
import collections
import json
import types
from pathlib import Path
from unittest import mock

import pytest
import torch
from forked import fork_context
from hostile_budget import refused_pickles
from hostile_files import damaged_files, good_files, hostile_files, odd_tops, vit_weights
from hostile_readers import assert_plain, outcome, read_all, read_plain, readers

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.errors import CheckpointError


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> types.SimpleNamespace:
    folder = tmp_path_factory.mktemp('hostile')
    (folder / 'good.pth').write_bytes(good_files()['zip.pth'])
    marker = folder / 'marker'
    paths, tops = hostile_files(folder / 'files', marker), {f'{what}.pth' for what in odd_tops()}
    return types.SimpleNamespace(paths=paths, tops=tops, marker=marker, good=folder / 'good.pth')


KINDS = ('graft', 'encoder', 'projector', 'convert', 'publish', 'zoo', 'model', 'classifier', 'score')
KINDS += ('part of a detector',)


@pytest.mark.parametrize('kind', ['checkpoint', *KINDS])
def test_hostile_files(kind: str, files: types.SimpleNamespace, tmp_path: Path) -> None:
    paths = files.paths
    if kind != 'checkpoint':  # most fail before the readers differ
        paths = {
            what: path for number, (what, path) in enumerate(paths.items()) if what in files.tops or not number % 9
        }
    process = fork_context().Process(target=read_all, args=(kind, paths, files.good, tmp_path / 'report.json'))
    process.start()
    process.join()
    assert process.exitcode == 0, 'crashed, hung or grew'
    assert not files.marker.exists(), 'code was run'
    report = json.loads((tmp_path / 'report.json').read_text())
    assert {what for what, text in report['said'].items() if 'CRASH' in text or '\n' in text} == set()
    assert report['grew'] < 400 * 2**20
    assert len(report['said']) == len(paths) > 30


def test_the_readers_are_all_there(tmp_path: Path) -> None:
    assert set(readers(tmp_path)) == set(KINDS)


def test_damaged_files(tmp_path: Path) -> None:
    outcomes = {what: outcome(read_plain, path) for what, path in damaged_files(tmp_path, seed=0, count=300)}
    assert {what: text for what, text in outcomes.items() if 'CRASH' in text or '\n' in text} == {}
    assert len({text.split(' (')[-1] for text in outcomes.values()}) > 20, 'they fail in many ways'


@pytest.mark.parametrize('kind', good_files())
def test_good_files_are_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / kind).write_bytes(good_files()[kind])
    content = read_checkpoint(tmp_path / kind)
    state = content.get('model', content)
    wanted = vit_weights()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], value) for name, value in wanted.items())


@pytest.mark.parametrize('what', refused_pickles())
def test_what_would_grow_is_refused(what: str, files: types.SimpleNamespace) -> None:
    path = files.paths[f'{what}.pth']
    said = outcome(read_plain, path)
    assert refused_pickles()[what][1] in said
    assert len(said) < 300 + len(str(path))
    assert said.isprintable()


def test_large_files_of_training_are_read(tmp_path: Path) -> None:
    """Many tensors, long histories and many objects are far from the limits."""
    names = [f'backbone.layers.{n}.attention.query_key_value.weight' for n in range(3000)]
    state = collections.OrderedDict((name, torch.zeros(1)) for name in names)
    moments = {
        n: {'step': torch.tensor(1.0), 'exp_avg': torch.zeros(1), 'exp_avg_sq': torch.zeros(1)}
        for n, _ in enumerate(names)
    }
    groups = [{'params': [n], 'lr': 0.1, 'betas': (0.9, 0.95), 'param_name': name} for n, name in enumerate(names)]
    history = {f'train/loss{n}': [[n + 0.5 + m for m in range(100_000)], [1] * 100_000] for n in range(2)}
    content = {
        'state_dict': state,
        'optimizer': {'state': moments, 'param_groups': groups},
        'message_hub': {'log_scalars': history},
        'args': argparse.Namespace(arch='vit_large', local_crops_scale=(0.05, 0.4)),
    }
    for zipped in (True, False):
        torch.save(content, tmp_path / 'file.pth', _use_new_zipfile_serialization=zipped)
        found = read_checkpoint(tmp_path / 'file.pth')
        assert list(found['state_dict']) == names
        assert found['optimizer']['param_groups'] == groups
        assert found['optimizer']['state'] == moments
        assert found['message_hub']['log_scalars'] == history
        assert found['args'] == {'arch': 'vit_large', 'local_crops_scale': (0.05, 0.4)}


WRONG = {
    'nan weights': 'cls_token holds NaN or infinite values',
    'infinite weights': 'norm.bias holds NaN or infinite values',
    'bool weights': 'norm.bias is of type bool, expected float16',
    'integer weights': 'blocks.0.attn.qkv.weight is of type int64',
    'complex weights': 'norm.bias is of type complex64',
    'float8 weights': 'norm.bias is of type float8_e4m3fn',
    'no elements': 'norm.bias has no elements',
    'large weights': 'norm.bias holds values beyond float32',
    'text as a weight': 'norm.bias is a str, not a tensor',
}


@pytest.mark.parametrize('kind', WRONG)
def test_weights_that_are_not_finite_floats(kind: str, files: types.SimpleNamespace, tmp_path: Path) -> None:
    each = readers(tmp_path)
    for reader in ('encoder', 'convert', 'publish', 'graft', 'score', 'zoo'):
        said = outcome(each[reader], files.paths[f'{kind}.pth'])
        assert WRONG[kind] in said, (reader, said)
        assert str(files.paths[f'{kind}.pth']) in said
    assert {path.name for path in tmp_path.iterdir()} == set()


@pytest.mark.parametrize('kind', ['wide stem', 'long patch', 'wide layers', 'many blocks'])
def test_shapes_that_would_make_a_huge_model(kind: str, files: types.SimpleNamespace, tmp_path: Path) -> None:
    with mock.patch(
        'mmselfsup_graft.export.convert_file.check_target_model', side_effect=AssertionError('a model was built')
    ):
        said = outcome(readers(tmp_path)['convert'], files.paths[f'{kind}.pth'])
    assert 'contradict each other' in said


def test_an_instance_cannot_hide_what_it_holds(tmp_path: Path) -> None:
    """A dict subclass whose own ``pop`` does nothing would keep what is taken out of it."""

    class Meta(dict):
        pass

    class Content(dict):
        pass

    with mock.patch.dict('sys.modules', {__name__: types.SimpleNamespace(Meta=Meta, Content=Content)}):
        Meta.__module__ = Content.__module__ = __name__
        Meta.__qualname__, Content.__qualname__ = 'Meta', 'Content'
        meta = Meta(config='import os')
        meta.pop = 'hidden'  # type: ignore[assignment]
        torch.save(Content(meta=meta, state_dict=vit_weights()), tmp_path / 'file.pth')
        for unsafe in (False, True):
            content = read_checkpoint(tmp_path / 'file.pth', unsafe_pickle=unsafe)
            assert_plain(content)
            assert content['meta'].pop('config') == 'import os'
            assert content['meta'] == {}


def test_a_shared_storage_stays_shared(tmp_path: Path) -> None:
    whole = torch.arange(1000.0)
    torch.save({'a': whole, 'b': whole[10:20], 'c': torch.nn.Parameter(whole.view(10, 100))}, tmp_path / 'file.pth')
    content = read_checkpoint(tmp_path / 'file.pth')
    assert len({value.untyped_storage().data_ptr() for value in content.values()}) == 1
    assert torch.equal(content['b'], whole[10:20])
    assert torch.equal(content['c'], whole.view(10, 100))


def test_an_expanded_tensor_is_refused(tmp_path: Path) -> None:
    torch.save({'a': torch.ones(1).expand(1000)}, tmp_path / 'file.pth')
    with pytest.raises(CheckpointError, match=r'1,000 elements whose storage has 1; .*contiguous'):
        read_checkpoint(tmp_path / 'file.pth')
