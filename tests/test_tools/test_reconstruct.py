"""tools/analysis_tools/reconstruct.py: from checkpoints and photos to a picture."""

from pathlib import Path

import numpy as np
import pytest
from helpers import tec_config, vit_config
from PIL import Image
from test_tools.tiny_runs import call_tool, digits, evaluation, fresh_name, tiny_config, write_config

from mmselfsup_graft.analysis.figures import picture_grid as drawing
from mmselfsup_graft.analysis.reconstruction.report import checkpoint_labels
from mmselfsup_graft.registry import DATASETS

TOOL = 'analysis_tools/reconstruct'


def trained(folder: Path, content: dict) -> tuple[Path, Path]:
    config = write_config(folder / 'config.py', content)
    done = call_tool('train', config, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return config, folder / 'run'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp('mim'), tiny_config('mim', images=16, epochs=2))


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn, besides being drawn."""
    calls: list[dict[str, np.ndarray]] = []
    draw = drawing.draw_rows

    def keep(rows, target, title=''):
        calls.append({name: np.stack(row) for name, row in rows.items()})
        draw(rows, target, title)

    monkeypatch.setattr(drawing, 'draw_rows', keep)
    return calls


def photo(path: Path, width: int, height: int, color: bool = True, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if color else (height, width)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def test_one_checkpoint_on_the_test_data(run, drawn):
    config, folder = run
    done = call_tool(TOOL, config, folder / 'epoch_2.pth', '--num-images', 5)
    assert done.code == 0, done.err
    target = folder / 'epoch_2_reconstructions.png'
    assert f'picture: {target}' in done.out
    with Image.open(target) as picture:
        assert picture.format == 'PNG'
        assert picture.width > 5 * 128
    (rows,) = drawn
    assert list(rows) == ['original', 'masked', 'reconstruction', 'visible part\npasted in']
    test = DATASETS.build(evaluation()['test'])  # 200 images
    np.testing.assert_array_equal(rows['original'], [test[n]['inputs'][0] for n in range(0, 200, 40)])
    original, masked, prediction, pasted = rows.values()
    hidden = ((masked == 128) & (original != 128)).reshape(5, 4, 4, 4, 4).any((2, 4)).repeat(4, 1).repeat(4, 2)
    assert hidden.mean() == 0.75
    np.testing.assert_array_equal(pasted, np.where(hidden, prediction, original))


def test_several_checkpoints_share_images_and_masks(run, drawn, tmp_path):
    config, folder = run
    both = [folder / 'epoch_1.pth', folder / 'epoch_2.pth']
    for out, checkpoints in (('both', both), ('second', both[1:])):
        done = call_tool(TOOL, config, *checkpoints, '--out', tmp_path / 'new' / f'{out}.png', '--seed', 4)
        assert done.code == 0, done.err
    together, alone = drawn
    assert list(together) == ['original', 'masked', 'epoch_1', 'epoch_2']
    for name in ('original', 'masked'):
        np.testing.assert_array_equal(together[name], alone[name])
    np.testing.assert_array_equal(together['epoch_2'], alone['visible part\npasted in'])
    assert (together['epoch_1'] != together['epoch_2']).any()
    call_tool(TOOL, config, both[0], '--out', tmp_path / 'other.png', '--seed', 5)
    assert (drawn[2]['masked'] != alone['masked']).any()


def test_photos_are_resized_and_cropped_to_what_the_model_takes(run, drawn, tmp_path):
    config, folder = run
    wide = photo(tmp_path / 'wide.png', 60, 32)
    many = tmp_path / 'many'
    for number in range(4):
        photo(many / f'{number}.jpg', 30 + number, 30, color=number % 2 == 0, seed=number)
    options = ['--images', wide, many, '--num-images', 3, '--out', tmp_path / 'photos.png']
    done = call_tool(TOOL, config, folder / 'epoch_1.pth', *options)
    assert done.code == 0, done.err
    original = drawn[0]['original']
    assert original.shape == (4, 16, 16)  # the named one and three of the folder
    with Image.open(wide) as image:
        expected = image.convert('L').resize((30, 16), Image.Resampling.BICUBIC).crop((7, 0, 23, 16))
    np.testing.assert_array_equal(original[0], np.asarray(expected))


def test_photos_as_a_whole(run, tmp_path, monkeypatch):
    config, folder = run
    calls = []
    monkeypatch.setattr(drawing, 'draw_titled_rows', lambda rows, target: calls.append(rows))
    files = [photo(tmp_path / 'wide.png', 60, 40), photo(tmp_path / 'high.png', 30, 45)]
    both = [folder / 'epoch_1.pth', folder / 'epoch_2.pth']
    options = ['--images', *files, '--side', 20, '--out', tmp_path / 'whole.png']
    for checkpoints in (both, both[:1]):
        done = call_tool(TOOL, config, *checkpoints, *options)
        assert done.code == 0, done.err
    several, one = calls
    assert [[picture.shape for picture in row.values()] for row in several] == [[(20, 30)] * 4, [(30, 20)] * 4]
    assert list(several[0]) == ['original', 'masked', 'epoch_1', 'epoch_2']
    for row, file, size in zip(several, files, [(30, 20), (20, 30)]):
        with Image.open(file) as image:
            expected = image.convert('L').resize(size, Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(row['original'], np.asarray(expected))
    for row, again in zip(several, one):
        np.testing.assert_array_equal(row['masked'], again['masked'])
        np.testing.assert_array_equal(row['epoch_1'], again['visible part\npasted in'])
    assert 'expected at least' in call_tool(TOOL, config, both[0], '--images', files[0], '--side', 15).error()
    assert 'give photos' in call_tool(TOOL, config, both[0], '--side', 20).error()


def test_training_data_without_augmentation_where_there_is_no_evaluation(drawn, tmp_path):
    content = tiny_config('multi', images=12, epochs=1)
    del content['evaluation']
    config, folder = trained(tmp_path, content)
    done = call_tool(TOOL, config, folder / 'epoch_1.pth', '--num-images', 3)
    assert done.code == 0, done.err
    plain = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    data = DATASETS.build(digits('train', plain, indices=12))
    np.testing.assert_array_equal(drawn[0]['original'], [data[n]['inputs'][0] for n in (0, 4, 8)])


def test_a_convolutional_model_learns_its_size_from_the_crop(drawn, tmp_path):
    sizes = dict(depth=18, stem_channels=4, base_channels=4, zero_init_residual=False)
    model = dict(
        type='A2MIM',
        mask_patch=16,
        backbone=dict(type='MaskedResNet', mask_layer=3, mask_replace=False, **sizes),
        neck=dict(type='PixelShuffleNeck', in_channels=32, stride=32, out_channels=3),
        head=dict(type='A2MIMHead', fft_weight=0.1),
    )
    pipeline = [
        dict(type='LoadImage', channels=3),
        dict(type='mmpretrain.torchvision/RandomResizedCrop', size=64, scale=(0.8, 1.0)),
        dict(type='mmpretrain.PackInputs'),
    ]
    content = {**tiny_config('mim', batch=4, epochs=1), 'model': model}
    content['data_preprocessor'] = dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3)
    content['train_dataloader']['dataset'] = dict(
        type='SamplePhotos', library='scikit-image', channels=3, window=64, height=64, stride=32, pipeline=pipeline
    )
    content['optim_wrapper'].pop('paramwise_cfg')
    del content['evaluation']
    config, folder = trained(tmp_path, content)
    done = call_tool(TOOL, config, folder / 'epoch_1.pth', '--num-images', 2)
    assert done.code == 0, done.err
    test = DATASETS.build({**content['train_dataloader']['dataset'], 'split': 'test', 'pipeline': []})
    assert drawn[0]['original'].shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(drawn[0]['original'][0], test.get_data_info(0)['img'])
    # the config does not say what the photos are: the same in gray files
    gray = ['--images', photo(tmp_path / 'gray.png', 80, 70, False), '--overwrite']
    done = call_tool(TOOL, config, folder / 'epoch_1.pth', *gray)
    assert done.code == 0, done.err
    assert drawn[1]['original'].shape == (1, 64, 64, 3)


def test_labels_tell_checkpoints_apart():
    assert checkpoint_labels([Path('a/epoch_1.pth'), Path('a/epoch_2.pth')]) == ['epoch_1', 'epoch_2']
    assert checkpoint_labels([Path('a/last.pth'), Path('b/last.pth')]) == ['a/\nlast', 'b/\nlast']
    assert checkpoint_labels([Path('a/last.pth')] * 2) == ['1: a/\nlast', '2: a/\nlast']


def test_bad_input(run, tmp_path):
    config, folder = run
    checkpoint = folder / 'epoch_1.pth'
    assert 'does not exist' in call_tool(TOOL, tmp_path / 'none.py', checkpoint).error()
    assert 'does not exist' in call_tool(TOOL, config, tmp_path / 'none.pth').error()
    assert 'end in .png' in call_tool(TOOL, config, checkpoint, '--out', tmp_path / 'x.gif').error()
    assert 'at least one image' in call_tool(TOOL, config, checkpoint, '--num-images', 0).error()
    text = tmp_path / 'text.png'
    text.write_text('no image')
    assert 'cannot be read as an image' in call_tool(TOOL, config, checkpoint, '--images', text).error()
    missing = call_tool(TOOL, config, checkpoint, '--images', tmp_path / 'none.png').error()
    assert 'none.png' in missing
    (tmp_path / 'empty').mkdir()
    assert 'no image below' in call_tool(TOOL, config, checkpoint, '--images', tmp_path / 'empty').error()
    other = write_config(tmp_path / 'other.py', tiny_config('cl'))
    assert call_tool(TOOL, other, checkpoint).error()
    assert not list(tmp_path.glob('*_reconstructions.png'))


@pytest.mark.parametrize('kind', ['cl', 'tec'])
def test_models_without_pixels_are_refused(kind, tmp_path):
    from mmselfsup_graft.checkpoints import save_atomically
    from mmselfsup_graft.registry import MODELS

    content = tiny_config('cl', images=16)
    if kind == 'tec':
        content['model'] = tec_config(vit_config(in_channels=1))
    state = MODELS.build({**content['model'], 'data_preprocessor': content['data_preprocessor']}).state_dict()
    save_atomically({'state_dict': state}, tmp_path / 'any.pth')
    config = write_config(tmp_path / 'config.py', content)
    message = call_tool(TOOL, config, tmp_path / 'any.pth').error()
    assert ('TEC predicts features of its base model' if kind == 'tec' else 'MoCoV3 predicts no pixels') in message
