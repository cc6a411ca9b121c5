"""Reconstructions during pre-training: drawn, kept, and felt by nothing."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tec_config, vit_config
from mmengine.hooks import Hook
from PIL import Image
from test_tools.tiny_runs import assert_same_run, call_tool, digits, fresh_name, tiny_config, write_config

from mmselfsup_graft.analysis.reconstruction import plot
from mmselfsup_graft.analysis.reconstruction.hook import ReconstructionHook
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS, HOOKS

PLAIN = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
SPLIT = digits('test', PLAIN, indices=6)


@HOOKS.register_module()
class WhatIsLeft(Hook):
    """Keeps generators, modes, gradients and the last losses behind the hook under test."""

    priority = 'VERY_LOW'
    seen: list = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = runner.model
        modes = [part.training for part in model.modules()]
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        generators = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        self.seen.append((float(outputs['loss'].detach()), generators, modes, gradients))


def a2mim_model() -> dict[str, Any]:
    backbone = {**vit_config(depth=3, in_channels=1, drop_path_rate=0.2), 'type': 'MaskedViT', 'out_type': 'featmap'}
    return dict(
        type='A2MIM',
        mask_patch=4,
        backbone=backbone,
        neck=dict(type='PixelShuffleNeck', in_channels=16, stride=4, out_channels=1),
        head=dict(type='A2MIMHead', fft_weight=0.1),
    )


def content(kind: str, epochs: int, *hooks: dict) -> dict[str, Any]:
    config = tiny_config('multi' if kind == 'multi' else 'mim', images=16, epochs=epochs, custom_hooks=list(hooks))
    return {**config, 'model': a2mim_model()} if kind == 'a2mim' else config


def train(folder: Path, kind: str, *hooks: dict, epochs: int = 3, resume: Path | None = None) -> tuple[Path, list]:
    WhatIsLeft.seen.clear()
    config = write_config(folder / 'tiny.py', content(kind, epochs, *hooks, dict(type='WhatIsLeft')))
    options = ['--resume', resume] if resume else []
    done = call_tool('train', config, '--work-dir', folder / 'run', *options, *fresh_name())
    assert done.code == 0, done.err
    return folder / 'run', list(WhatIsLeft.seen)


def files(run: Path) -> list[str]:
    return sorted(path.name for path in (run / 'reconstructions').iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, instead of pictures: (file name, rows)."""
    calls: list[tuple[str, dict[str, list[np.ndarray]], str]] = []

    def keep(rows, target, title=''):
        calls.append((Path(target).name, dict(rows), title))
        Path(target).parent.mkdir(exist_ok=True)
        Path(target).write_bytes(b'')

    monkeypatch.setattr(plot, 'draw_rows', keep)
    return calls


@pytest.mark.parametrize('kind', ['mim', 'a2mim', 'multi'])
def test_a_run_ends_with_the_same_bits(kind, tmp_path):
    plain, before = train(tmp_path / 'plain', kind)
    for number, options in enumerate(({'interval': 1}, {'interval': 4, 'by_epoch': False, 'dataset': SPLIT})):
        watched, after = train(tmp_path / f'watched_{number}', kind, dict(type='ReconstructionHook', **options))
        assert len([name for name in files(watched) if name.endswith('.png')]) == (3, 2)[number]
        assert_same_run(watched / 'epoch_3.pth', plain / 'epoch_3.pth')
        assert len(before) == len(after) == 6
        for first, second in zip(before, after):
            assert first[:3] == second[:3]
            for one, other in zip(first[3], second[3]):
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)


def test_pictures_are_drawn_at_their_time_and_at_the_end(tmp_path):
    run, _ = train(tmp_path, 'a2mim', dict(type='ReconstructionHook', interval=2))
    assert files(run) == ['epoch_2.png', 'epoch_3.png', 'images.npy']
    with Image.open(run / 'reconstructions' / 'epoch_3.png') as picture:
        assert picture.format == 'PNG'
        assert picture.width > 4 * 128
        assert picture.height > 4 * 128
    run, _ = train(tmp_path / 'iter', 'mim', dict(type='ReconstructionHook', interval=4, by_epoch=False))
    assert files(run) == ['images.npy', 'iter_4.png', 'iter_6.png']


@pytest.mark.parametrize('kind', ['mim', 'a2mim', 'multi'])
def test_rows_show_the_images_of_the_dataset(kind, tmp_path, drawn):
    train(tmp_path, kind, dict(type='ReconstructionHook', interval=2, num_images=5, dataset=SPLIT))
    assert [name for name, _, _ in drawn] == ['epoch_2.png', 'epoch_3.png']
    name = {'mim': 'MAE', 'a2mim': 'A2MIM', 'multi': 'MultiTask'}[kind]
    assert drawn[0][2] == f'{name} after epoch 2'
    dataset = DATASETS.build(SPLIT)
    expected = np.stack([dataset[number]['inputs'][0].numpy() for number in range(5)])
    masks = []
    for _, rows, _ in drawn:
        assert list(rows) == ['original', 'masked', 'reconstruction', 'visible part\npasted in']
        original, masked, prediction, pasted = (np.stack(row).astype(int) for row in rows.values())
        np.testing.assert_array_equal(original, expected)
        hidden = (masked == 128) & (original != 128)
        patches = hidden.reshape(5, 4, 4, 4, 4).any((2, 4)).repeat(4, 1).repeat(4, 2)  # a 4-px patch is hidden as one
        assert (masked[patches] == 128).all()
        np.testing.assert_array_equal(masked[~patches], original[~patches])
        np.testing.assert_array_equal(pasted[~patches], original[~patches])
        np.testing.assert_array_equal(pasted[patches], prediction[patches])
        assert patches.mean() == (0.625 if kind == 'a2mim' else 0.75)  # of 16 patches 10, rounded up, or 12
        masks.append(patches)
    np.testing.assert_array_equal(*masks)
    assert any((a != b).any() for a, b in zip(drawn[0][1]['reconstruction'], drawn[1][1]['reconstruction']))


def test_without_a_dataset_it_is_the_first_batch_in_every_picture(tmp_path, drawn):
    run, _ = train(tmp_path, 'mim', dict(type='ReconstructionHook', interval=1, num_images=3))
    kept = np.load(run / 'reconstructions' / 'images.npy')
    assert (kept.shape, kept.dtype) == ((3, 1, 16, 16), np.uint8)
    for _, rows, _ in drawn:
        np.testing.assert_array_equal(rows['original'], kept[:, 0])


def test_a_resumed_run_goes_on_with_the_same_images_and_keeps_pictures(tmp_path, drawn):
    hook = dict(type='ReconstructionHook', interval=1)
    whole, _ = train(tmp_path / 'whole', 'a2mim', hook)
    expected = list(drawn)
    drawn.clear()
    run, _ = train(tmp_path, 'a2mim', hook, epochs=1)  # draws epoch 1
    (run / 'reconstructions' / 'epoch_2.png').write_bytes(b'mine')
    train(tmp_path, 'a2mim', hook, resume=whole / 'epoch_1.pth')
    assert [name for name, _, _ in drawn] == ['epoch_1.png', 'epoch_3.png']
    assert (run / 'reconstructions' / 'epoch_2.png').read_bytes() == b'mine'
    for name, pictures in drawn[-1][1].items():
        np.testing.assert_array_equal(pictures, expected[-1][1][name])


@pytest.mark.parametrize('kind', ['text', 'objects', 'vector', 'large', 'other channels', 'archive'])
def test_kept_images_that_are_damaged_are_named(kind, tmp_path):
    run, _ = train(tmp_path, 'mim', dict(type='ReconstructionHook', interval=5), epochs=2)
    kept = run / 'reconstructions' / 'images.npy'
    images = np.load(kept)
    kept.unlink()
    if kind == 'text':
        kept.write_text('x')
    elif kind == 'objects':
        np.save(kept, np.array([kept], dtype=object), allow_pickle=True)
    elif kind == 'large':
        with kept.open('wb') as file:
            np.lib.format.write_array_header_1_0(
                file, {'descr': '|u1', 'fortran_order': False, 'shape': (2**20, 3, 2**20, 2**20)}
            )
    elif kind == 'archive':
        np.savez(kept.with_suffix('.npz'), images=images)
        kept.with_suffix('.npz').rename(kept)
    else:
        np.save(kept, images[0, 0] if kind == 'vector' else np.repeat(images, 5, axis=1))
    options = ['--work-dir', run, '--resume', run / 'epoch_1.pth', *fresh_name()]
    assert str(kept) in call_tool('train', tmp_path / 'tiny.py', *options).error()


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match='interval and num_images must be at least 1, got 0 and 4'):
        ReconstructionHook(interval=0)
    with pytest.raises(ConfigError, match='got 1 and 0'):
        ReconstructionHook(interval=1, num_images=0)
    hook = dict(type='ReconstructionHook', dataset={**SPLIT, 'split_': 'x'})
    config = write_config(tmp_path / 'tiny.py', content('mim', 1, hook))
    message = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name()).error()
    assert "unknown key 'custom_hooks.0.dataset.split_'" in message


def test_images_that_the_model_does_not_take_show_before_the_training(tmp_path):
    color = [dict(type='LoadImage', channels=3), dict(type='mmpretrain.PackInputs')]
    for dataset in (digits('test', color), {**SPLIT, 'img_size': 12}):
        hook = dict(type='ReconstructionHook', dataset=dataset)
        config = write_config(tmp_path / 'tiny.py', content('mim', 1, hook))
        message = call_tool('train', config, '--work-dir', tmp_path / 'run', *fresh_name()).error()
        assert 'ReconstructionHook.dataset gives images of shape' in message
        assert 'give it the size and channels of the training images' in message
    assert not (tmp_path / 'run' / 'epoch_1.pth').exists()


def test_images_larger_than_the_model_are_drawn_whole(tmp_path, drawn):
    train(tmp_path, 'mim', dict(type='ReconstructionHook', dataset={**SPLIT, 'img_size': 26}), epochs=1)
    ((_, rows, _),) = drawn
    original, masked, prediction, pasted = (np.stack(row) for row in rows.values())
    assert original.shape == (4, 26, 26)
    known = original != 128  # where gray can only mean hidden
    np.testing.assert_array_equal(pasted[known], np.where(masked == 128, prediction, original)[known])


@pytest.mark.parametrize('kind', ['cl', 'tec'])
def test_models_without_pixels_are_refused_before_the_training(kind, tmp_path):
    config = tiny_config('cl' if kind == 'cl' else 'mim', images=16, custom_hooks=[dict(type='ReconstructionHook')])
    if kind == 'tec':
        config['model'] = tec_config(vit_config(in_channels=1))
    path = write_config(tmp_path / 'tiny.py', config)
    message = call_tool('train', path, '--work-dir', tmp_path / 'run', *fresh_name()).error()
    assert ('predicts features of its base model' if kind == 'tec' else 'MoCoV3 predicts no pixels') in message
    assert not (tmp_path / 'run' / 'reconstructions').exists()
