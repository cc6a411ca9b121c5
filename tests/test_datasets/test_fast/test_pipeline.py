"""Compiled pipelines draw what the PIL pipeline draws and come to the same images; unknown transforms are refused."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from PIL import Image
from test_datasets.test_fast import images
from test_datasets.test_fast.images import (
    AFFINE_OPTIONS,
    CROP,
    FLIP,
    JITTER,
    MASKED,
    MULTI_CROP,
    TWO_VIEWS,
    USABLE,
    VIEW,
    dataset,
    write_photos,
)
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import ImageFolder, SeededSampler
from mmselfsup_graft.datasets.augment import unpack
from mmselfsup_graft.datasets.fast import MODES, compile_pipeline, resolve_mode
from mmselfsup_graft.datasets.seeding import seed_generators
from mmselfsup_graft.datasets.transforms import build_pipeline
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import MODELS

CONFIGS = Path(__file__).parents[3] / 'configs'
LOAD = dict(type='LoadImage')
PACK = dict(type='mmpretrain.PackInputs')
TV = 'mmpretrain.torchvision/'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp('photos'))


def views_of(samples: list[dict]) -> list[torch.Tensor]:
    """What the model would get, without normalisation: [B, C, H, W] for each view."""
    inputs = MODELS.build(dict(type='SelfSupDataPreprocessor'))(default_collate(samples))['inputs']
    return inputs if isinstance(inputs, list) else [inputs]


@pytest.mark.parametrize('mode', USABLE)
@pytest.mark.parametrize('pipeline', [MASKED, TWO_VIEWS, MULTI_CROP], ids=['masked', 'two views', 'multi-crop'])
def test_images_are_those_of_the_pil_pipeline(folder, pipeline, mode):
    pil, fast = dataset(folder, pipeline, False), dataset(folder, pipeline, mode)
    count = {'TwoViews': 2, 'MultiCrop': 5}.get(pipeline[1]['type'], 1)
    for epoch in range(4):
        pil.set_epoch(epoch)
        fast.set_epoch(epoch)
        expected, found = (views_of(each.__getitems__(range(6))) for each in (pil, fast))
        assert len(expected) == len(found) == count
        for one, other in zip(expected, found):
            assert one.shape == other.shape
            means = (one - other).abs().mean((1, 2, 3))
            assert means.max() < (0.5 if count == 1 else 3)  # in gray levels
            assert means.median() < 1


@pytest.mark.parametrize('mode', USABLE)
@pytest.mark.parametrize('name', ['imagenet_moco-v1_224', 'imagenet_moco-v2_224', 'folder_moco-v2_64'])
def test_views_of_moco(folder, name, mode):
    """Gray before a jitter of large hue in v1; all hues come out as PIL's, up to rounding between the steps."""
    pipeline = Config.fromfile(CONFIGS / '_base_' / 'datasets' / f'{name}.py').train_pipeline
    pil, fast = dataset(folder, pipeline, False), dataset(folder, pipeline, mode)
    for epoch in range(3):
        pil.set_epoch(epoch)
        fast.set_epoch(epoch)
        expected, found = (torch.cat(views_of(each.__getitems__(range(6)))) for each in (pil, fast))
        assert found.shape == (12, 3, *[int(name.rsplit('_', 1)[1])] * 2)
        means = (expected - found).abs().mean((1, 2, 3))
        assert means.max() < 3  # in gray levels
        assert means.median() < 1


def test_modes_agree(folder):
    found = {mode: views_of(dataset(folder, TWO_VIEWS, mode).__getitems__(range(6))) for mode in USABLE}
    for one, other in zip(found['device'], found['nvjpeg']):
        assert torch.equal(one, other)
    for mode in USABLE:
        for one, other in zip(found[mode], found['device']):
            assert (one - other).abs().mean() < 1


def test_workers_do_the_same_for_every_decoder_of_the_device(folder):
    nvjpeg, dali = (dataset(folder, TWO_VIEWS, mode)[2] for mode in ('nvjpeg', 'dali'))
    assert (nvjpeg.pop('decoder'), dali.pop('decoder')) == ('nvjpeg', 'dali')
    assert dali['inputs'] == nvjpeg['inputs'] == (folder / '2.jpg').read_bytes()
    assert torch.equal(dali['source'], nvjpeg['source'])
    for one, other in zip(dali['augment'], nvjpeg['augment']):
        (layout, numbers), (other_layout, others) = one.popitem(), other.popitem()
        assert layout == other_layout
        assert all(map(torch.equal, numbers, others))


@pytest.mark.parametrize('mode', MODES)
def test_generators_end_where_those_of_the_pil_pipeline_end(folder, mode):
    ends = []
    for fast in (False, mode):
        seed_generators(5)
        dataset(folder, TWO_VIEWS, fast).pipeline({'img_path': str(folder / '2.jpg')})
        ends.append(torch.default_generator.get_state())
    assert torch.equal(*ends)


@pytest.mark.parametrize('mode', USABLE)
def test_samples_do_not_depend_on_workers_batches_or_pickling(folder, mode):
    def load(data, workers: int) -> list[torch.Tensor]:
        sampler = SeededSampler(data, seed=1)
        sampler.set_epoch(2)
        loader = DataLoader(data, 3, sampler=sampler, num_workers=workers, collate_fn=default_collate)
        preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor'))
        return [view for batch in loader for view in preprocess(batch)['inputs']]

    data = dataset(folder, TWO_VIEWS, mode)
    alone = load(data, 0)
    for others in (load(data, 2), load(pickle.loads(pickle.dumps(data)), 0), load(copy.deepcopy(data), 0)):
        assert len(alone) == len(others) == 4
        assert all(torch.equal(a, b) for a, b in zip(alone, others))


def test_samples_keep_their_images(folder):
    data = dataset(folder, [dict(type='LoadImage', channels=1), PACK], 'cpu', indices=[0])
    first = data[0]['inputs']
    kept = first.clone()
    data.pipeline({'img_path': str(folder / '3.jpg')})
    assert torch.equal(first, kept)


def test_the_caller_keeps_its_random_state(folder):
    data = dataset(folder, TWO_VIEWS, 'cpu')
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.default_generator.get_state(), np.random.get_state()[1]
    data.__getitems__([0, 1])
    assert torch.equal(torch.default_generator.get_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize('mode', USABLE)
def test_corrupt_images_are_replaced_or_refused(tmp_path, mode):
    write_photos(tmp_path)
    for number, kept in ((1, 0), (3, 2000)):
        path = tmp_path / f'{number}.jpg'
        path.write_bytes(path.read_bytes()[:kept])
    pil, fast = dataset(tmp_path, MASKED, False), dataset(tmp_path, MASKED, mode)
    expected, found = views_of(pil.__getitems__(range(6))), views_of(fast.__getitems__(range(6)))
    assert (expected[0] - found[0]).abs().mean((1, 2, 3)).max() < 0.5
    assert fast.corrupt_files() == pil.corrupt_files() == [str(tmp_path / f'{number}.jpg') for number in (1, 3)]
    with pytest.raises(DataError, match=r'1\.jpg'):
        dataset(tmp_path, MASKED, mode, on_corrupt='raise')[1]


@pytest.mark.parametrize('mode', USABLE)
def test_odd_files(tmp_path, mode):
    photo = Image.fromarray(images.photo())
    for number, (kind, image) in enumerate(
        [('JPEG', photo.convert('L')), ('JPEG', photo.convert('CMYK')), ('PNG', photo.convert('RGBA')), ('JPEG', photo)]
    ):
        image.save(tmp_path / f'{number}.png', kind)
    expected, found = (views_of(dataset(tmp_path, MASKED, each).__getitems__(range(4))) for each in (False, mode))
    assert (expected[0] - found[0]).abs().mean((1, 2, 3)).max() < 0.5


@pytest.mark.parametrize('mode', ['cpu', 'device'])
def test_grey_images_in_memory(mode):
    jitter = dict(type=f'{TV}ColorJitter', brightness=0.4, contrast=0.4, saturation=0.3, hue=0.1)
    view = [{**CROP, 'size': 16}, jitter, dict(type='PILGaussianBlur', radius=(0.1, 1.0), p=0.5), FLIP]
    outputs = []
    for fast in (False, mode):
        pipeline = [dict(type='LoadImage', channels=1), *view, dict(type=f'{TV}RandomGrayscale', p=0.5), PACK]
        built = compile_pipeline(pipeline, fast) if fast else None
        array = np.array(Image.fromarray(images.photo(0, 28, 28)).convert('L'))
        samples = []
        for number in range(8):
            seed_generators(number)
            if built is None:
                sample = {'img': array}
                for transform in build_pipeline(pipeline):
                    sample = transform(sample)
                samples.append({'inputs': sample['inputs']})
            else:
                samples.append(built({'img': array}))
        outputs.append(views_of(samples)[0])
    assert outputs[0].shape == (8, 1, 16, 16)
    assert (outputs[0] - outputs[1]).abs().mean() < 1
    assert (outputs[0] - outputs[1]).abs().max() <= 6


def test_noise_is_that_of_the_pil_pipeline(folder):
    pipeline = [*MASKED[:-1], dict(type='PILGaussianNoise', std=0.05, p=0.5), JITTER, PACK]
    expected, cpu, device = (
        views_of(dataset(folder, pipeline, mode).__getitems__(range(6)))[0] for mode in (False, 'cpu', 'device')
    )
    assert (expected - cpu).abs().mean() < 1
    assert (expected - device).abs().mean() < 1
    deferred = unpack(default_collate([dataset(folder, pipeline, 'device')[0]['augment']]))
    assert [type(row).__name__ for row in deferred] == ['FlipRow', 'NoiseRow', 'ColorJitterRow']
    assert deferred[1].levels.shape == (1, 48, 48, 3)
    noisy = [*pipeline[:-2], PACK]
    cpu, device = (views_of(dataset(folder, noisy, mode).__getitems__(range(6)))[0] for mode in ('cpu', 'device'))
    assert torch.equal(cpu, device)


@pytest.mark.parametrize('mode', ['cpu', 'device'])
@pytest.mark.parametrize('channels', [1, 3])
def test_noise_has_its_mean_and_deviation_and_comes_again(mode, channels):
    pipeline = [dict(type='LoadImage', channels=channels), dict(type='PILGaussianNoise', std=0.1, p=0.7), PACK]
    array = np.full((40, 50, 3)[: 2 + channels // 2], 128, np.uint8)
    compiled, found = compile_pipeline(pipeline, mode), []
    for number in [*range(40), *range(40)]:
        seed_generators(number)
        found.append(compiled({'img': array}))
    (images,) = views_of(found)
    assert torch.equal(images[:40], images[40:])
    changed = images[:40].sub(128)[images[:40].ne(128).any(3).any(2).any(1)]
    assert 20 < len(changed) < 36
    assert changed.mean().abs() < 0.5
    assert changed.std() == pytest.approx(25.5, rel=0.02)
    assert (changed[0] - changed[1]).abs().mean() > 20


@pytest.mark.parametrize('mode', ['cpu', 'device'])
@pytest.mark.parametrize('options', AFFINE_OPTIONS)
@pytest.mark.parametrize('channels', [1, 3])
def test_affine_views_are_those_of_the_pil_pipeline(folder, options, mode, channels):
    """Warped, blended, with noise; some images are left alone by each of them."""
    affine = dict(type='RandomApply', transforms=[dict(type=f'{TV}RandomAffine', **options)], p=0.8)
    crop = dict(type=f'{TV}RandomResizedCrop', size=(24, 40))
    jitter = dict(type=f'{TV}ColorJitter', brightness=0.3)
    view = [crop, affine, jitter, dict(type='PILGaussianNoise', std=0.05, p=0.7)]
    pipeline = [dict(type='LoadImage', channels=channels), dict(type='TwoViews', view1=view), PACK]
    pil, fast = (views_of(dataset(folder, pipeline, each).__getitems__(range(6))) for each in (False, mode))
    for one, other in zip(pil, fast):
        assert one.shape == other.shape == (6, channels, 24, 40)
        assert (one - other).abs().mean((1, 2, 3)).max() < 1
        assert ((one - other).abs() > 3).float().mean((1, 2, 3)).max() < 0.005


def test_noise_and_affine_after_a_crop_on_the_device(folder):
    """Drawn for the size of the window, whatever the size of the file."""
    body = [CROP, dict(type=f'{TV}RandomAffine', degrees=30, translate=(0.2, 0.2)), dict(type='PILGaussianNoise')]
    found = [views_of(dataset(folder, [LOAD, *body, PACK], mode).__getitems__(range(6)))[0] for mode in USABLE]
    for other in found[1:]:
        assert ((found[0] - other).abs() > 2).float().mean() < 0.005


def test_labels_stay(folder):
    data = ImageFolder(str(folder), pipeline=MASKED, fast='device', metainfo=dict(classes=('a',)))
    data.data_list = [{'img_path': str(folder / '0.jpg'), 'gt_label': 4}]
    sample = data.pipeline(data.data_list[0])
    assert int(sample['data_samples'].gt_label) == 4


@pytest.mark.parametrize('mode', [False, *MODES])
def test_samples_with_and_without_a_label_meet_in_a_batch(folder, mode):
    data = dataset(folder, MASKED, mode)
    samples = [{'img_path': str(folder / '0.jpg'), 'gt_label': 4}, {'img_path': str(folder / '1.jpg')}]
    for order in (1, -1):
        batch = default_collate([data.pipeline(dict(sample)) for sample in samples[::order]])
        assert ['gt_label' in sample for sample in batch['data_samples']] == [True, False][::order]


# ---------------------------------------------------------------- what is refused
def test_modes():
    assert resolve_mode(False) is None
    assert resolve_mode(True) == ('device' if torch.cuda.is_available() else 'cpu')
    assert [resolve_mode(mode) for mode in MODES] == list(MODES)
    for wrong in ('gpu', None, 1):
        with pytest.raises(ConfigError, match='cpu'):
            resolve_mode(wrong)
    with pytest.raises(ConfigError, match='nvjpeg'):
        compile_pipeline(MASKED, 'gpu')


@pytest.mark.parametrize(
    ('body', 'named'),
    [
        ([dict(type=f'{TV}RandomPerspective')], 'RandomPerspective'),
        ([dict(type=f'{TV}RandomAffine', degrees=10, interpolation='bicubic')], 'bicubic'),
        ([dict(type=f'{TV}RandomAffine', degrees=10, fill=(1, 2))], 'fill has 2 levels, expected 1 or 3'),
        ([CROP, dict(type='mmpretrain.RandomFlip', prob=0.5)], 'RandomFlip'),
        ([dict(type='TwoViews', view1=[CROP, dict(type=f'{TV}CenterCrop', size=8)])], 'CenterCrop'),
        ([dict(type='RandomApply', transforms=[CROP], p=0.5)], 'RandomResizedCrop'),
        ([{**CROP, 'interpolation': 'lanczos'}], 'lanczos'),
        ([FLIP, dict(type='TwoViews', view1=VIEW)], 'RandomHorizontalFlip'),
        ([lambda results: results], 'function'),
    ],
)
def test_unknown_transforms_are_named(body, named):
    with pytest.raises(ConfigError, match=named):
        compile_pipeline([dict(type='LoadImage'), *body, PACK], 'cpu')


@pytest.mark.parametrize('pipeline', [[], [PACK], [CROP, PACK], [dict(type='LoadImage'), CROP]])
def test_pipelines_begin_and_end_as_they_should(pipeline):
    with pytest.raises(ConfigError, match='LoadImage'):
        compile_pipeline(pipeline, 'cpu')


@pytest.mark.parametrize('body', [[], [FLIP], [FLIP, CROP], [CROP, FLIP, CROP]])
@pytest.mark.parametrize('mode', ['nvjpeg', 'dali'])
def test_decoding_on_the_device_needs_a_crop_first(body, mode):
    with pytest.raises(ConfigError, match=f"fast='{mode}'.*take 'device'"):
        compile_pipeline([dict(type='LoadImage'), *body, PACK], mode)


DATASETS = {path.stem: Config.fromfile(str(path)) for path in sorted((CONFIGS / '_base_' / 'datasets').glob('*.py'))}
REFUSED = {
    'imagenet_finetune_224': 'PILToNumpy',
    'folder_finetune_224': 'PILToNumpy',
    'imagenet100_finetune_224': 'PILToNumpy',
    'imagenet_rsb-a2_224': 'PILToNumpy',
    'imagenet_rsb-a3_160': 'PILToNumpy',
}


@pytest.mark.parametrize('name', DATASETS)
def test_every_config_is_compiled_or_refused_by_name(name):
    pipeline = DATASETS[name].train_dataloader.dataset.pipeline
    for mode in ('cpu', 'device'):
        if name in REFUSED:
            with pytest.raises(ConfigError, match=f'{REFUSED[name]}.*leave out fast'):
                compile_pipeline(pipeline, mode)
        else:
            assert compile_pipeline(pipeline, mode).mode == mode
