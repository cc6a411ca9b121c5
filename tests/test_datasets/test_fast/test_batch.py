"""Rows are applied to the images that they are meant for, without asking the device."""

import sys

import pytest
import torch
from mmengine.dataset import default_collate
from test_datasets.test_augment.beside_pil import batched
from test_datasets.test_fast.images import MULTI_CROP, TWO_VIEWS, dataset, write_photos

from mmselfsup_graft.datasets.augment import color_jitter, unpack
from mmselfsup_graft.datasets.augment.affine import AffineRow
from mmselfsup_graft.datasets.augment.blur import BlurRow
from mmselfsup_graft.datasets.augment.color_jitter import ColorJitterRow
from mmselfsup_graft.datasets.augment.flip import FlipRow
from mmselfsup_graft.datasets.augment.grayscale import GrayscaleRow
from mmselfsup_graft.datasets.augment.noise import NoiseRow
from mmselfsup_graft.datasets.augment.solarize import SolarizeRow
from mmselfsup_graft.datasets.fast import augment_batch, augment_views, batch
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import MODELS

IMAGES = torch.randint(0, 256, (4, 3, 20, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
KEEP = ColorJitterRow([-1.0] * 4, [1.0] * 4)


def flips(*happens: bool) -> FlipRow:
    return batched([FlipRow(each) for each in happens])


def blurs(*sigmas: float, largest: float = 2.0) -> BlurRow:
    return batched([BlurRow(sigma, largest) for sigma in sigmas])


def test_only_the_images_that_are_meant():
    before = IMAGES.clone()
    thresholds = batched([SolarizeRow(each) for each in (256, 100, 256, 256)])
    out = augment_batch(IMAGES, [flips(True, False, False, True), thresholds])
    assert torch.equal(IMAGES, before)
    assert torch.equal(out[2], IMAGES[2])
    assert torch.equal(out[0], IMAGES[0].flip(-1))
    assert torch.equal(out[3], IMAGES[3].flip(-1))
    assert torch.equal(out[1], torch.where(IMAGES[1] < 100, IMAGES[1], 255 - IMAGES[1]))
    nothing = [flips(*[False] * 4), batched([KEEP] * 4), batched([GrayscaleRow(False)] * 4), blurs(*[0.0] * 4)]
    assert torch.equal(augment_batch(IMAGES, nothing), IMAGES)
    assert torch.equal(augment_batch(IMAGES, []), IMAGES)


def test_every_image_has_its_own_order_and_factors():
    rows = [
        ColorJitterRow([2, 0, 1, 3], [0.7, 1.3, 0.8, 0.1]),
        ColorJitterRow([0, 1, 2, 3], [0.9, 1.2, 1.1, -0.1]),
        KEEP,
        ColorJitterRow([3, 1, -1, -1], [0.2, 1.4, 1, 1]),
    ]
    out = augment_batch(IMAGES, [batched(rows)])
    named = [getattr(color_jitter, f'{name}_batch') for name in ('brightness', 'contrast', 'saturation', 'hue')]
    for image, result, row in zip(IMAGES, out, rows):
        expected = image[None]
        for number, factor in zip(row.order, row.factors):
            if number >= 0:
                expected = named[int(number)](expected, torch.tensor([factor]))
        assert torch.equal(result, expected[0])


def test_affine_and_noise_of_some_images():
    shift = AffineRow([1, 0, 3, 0, 1, -2], True, [9, 8, 7])  # the pixel 3 to the right, 2 up
    stay = AffineRow([0] * 6, True, [9, 8, 7])
    noise = torch.arange(20 * 24 * 3).float().sub(700).div(10).view(20, 24, 3)
    levels = [NoiseRow(torch.full_like(noise, torch.inf)), NoiseRow(noise)]
    out = augment_batch(IMAGES, [batched([shift, stay] * 2), batched(levels * 2)])
    moved = torch.tensor([9, 8, 7])[:, None, None].expand(3, 20, 24).clone()
    moved[:, 2:, :-3] = IMAGES[0, :, :-2, 3:]
    assert torch.equal(out[0], moved.byte())
    for number in (1, 3):
        expected = IMAGES[number] + noise.permute(2, 0, 1)
        assert torch.equal(out[number], expected.round().clamp(0, 255).byte())
    alone = augment_batch(IMAGES[2:3], [batched([shift])])
    assert torch.equal(out[2], alone[0])


def test_blur_does_not_depend_on_the_others_of_the_batch():
    together = augment_batch(IMAGES, [blurs(0.5, 0.0, 2.0, 1.2)])
    alone = augment_batch(IMAGES[:1], [blurs(0.5, largest=0.5)])
    assert (together[:1].int() - alone.int()).abs().max() <= 1
    assert torch.equal(together[1], IMAGES[1])


def test_a_missing_kornia(monkeypatch):
    monkeypatch.setitem(sys.modules, 'kornia', None)
    assert augment_batch(IMAGES, [flips(*[True] * 4)]).shape == IMAGES.shape  # needs none
    with pytest.raises(ConfigError, match=r'tools/install\.sh installs it'):
        augment_batch(IMAGES, [batched([GrayscaleRow(True)] * 4)])


def test_the_host_never_waits(tmp_path):
    """On the meta device there are no values to wait for: asking for one raises."""
    data = dataset(write_photos(tmp_path), TWO_VIEWS, 'device')
    batch = default_collate(data.__getitems__(range(6)))
    assert any(len(group.images) for row in unpack(batch['augment'][0]) for group in row.groups())
    preprocess = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)).to('meta')
    out = preprocess(batch)['inputs']
    assert [(view.device.type, view.dtype, tuple(view.shape)) for view in out] == [
        ('meta', torch.float32, (6, 3, 48, 48))
    ] * 2


@pytest.mark.parametrize(
    ('pipeline', 'calls'), [(TWO_VIEWS, [6, 6]), (MULTI_CROP, [12, 18])], ids=['two views', 'multi-crop']
)
def test_crops_of_one_size_are_one_batch(tmp_path, monkeypatch, pipeline, calls):
    samples = default_collate(dataset(write_photos(tmp_path), pipeline, 'device').__getitems__(range(6)))
    views, rows = samples['inputs'], list(map(unpack, samples['augment']))
    expected, seen = [augment_batch(*each) for each in zip(views, rows)], []

    def counted(images, drawn):
        seen.append(len(images))
        return augment_batch(images, drawn)

    monkeypatch.setattr(batch, 'augment_batch', counted)
    found = augment_views(views, rows)
    assert seen == calls
    assert len(found) == len(expected)
    assert all(map(torch.equal, found, expected))


def test_views_that_blur_by_other_filters_stay_apart():
    rows = [[blurs(1.0, 2.0, 0.5, 0.0, largest=largest)] for largest in (2.0, 3.0, 3.0)]
    found = augment_views([IMAGES] * 3, rows)
    assert all(torch.equal(view, augment_batch(IMAGES, each)) for view, each in zip(found, rows))


def test_a_damaged_file_is_an_error(tmp_path):
    data = dataset(write_photos(tmp_path), TWO_VIEWS, 'nvjpeg')
    batch = default_collate(data.__getitems__(range(2)))
    batch['inputs'][1] = batch['inputs'][1][:1000]
    with pytest.raises(DataError, match="fast='device'"):
        MODELS.build(dict(type='SelfSupDataPreprocessor'))(batch)
