"""Affine maps beside PIL's and torchvision's."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from PIL import Image
from test_datasets.test_augment.beside_pil import GRAY, NOISE, NOISES, PHOTOS, apart, batch_of, worst
from test_datasets.test_fast.images import AFFINE_OPTIONS, AFFINES, difference, photo
from torchvision.transforms import InterpolationMode

from mmselfsup_graft.datasets.augment import Affine
from mmselfsup_graft.datasets.augment.affine import affine_array, affine_batch
from mmselfsup_graft.datasets.augment.kernels import planes
from mmselfsup_graft.datasets.seeding import seed_generators
from mmselfsup_graft.datasets.transforms import build_pipeline


@pytest.mark.parametrize('center', [None, [10, 31.5]])
@pytest.mark.parametrize('parameters', AFFINES)
@pytest.mark.parametrize('images', [(*PHOTOS, NOISE), GRAY], ids=['color', 'gray'])
def test_arrays(images, parameters, center):
    matrix = F._get_inverse_affine_matrix(center or [60.0, 50.0], *parameters)
    fill = (7, 99, 200) if images[0].ndim == 3 else (99,)
    for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR):
        bilinear = mode == InterpolationMode.BILINEAR

        def pils(x, mode=mode):
            return F.affine(x, *parameters, interpolation=mode, fill=list(fill), center=center)

        most, mean = worst(lambda x, b=bilinear: affine_array(x, matrix, b, fill), pils, images)
        if bilinear:
            assert most <= 1
            assert mean < 0.02
        else:  # PIL finds the nearest pixel in fixed point, so a few positions halfway go to the other one
            moved = [difference(affine_array(x, matrix, False, fill), pils(Image.fromarray(x))) for x in images]
            assert max((each > 0).mean() for each in moved) < 0.005


@pytest.mark.parametrize('center', [None, [10, 31.5]])
@pytest.mark.parametrize('images', [PHOTOS, NOISES, GRAY], ids=['photos', 'noise', 'gray'])
def test_batches(images, center):
    images = [*images, images[0]]  # one for each set of parameters
    fill = [7, 99, 200] if images[0].ndim == 3 else [7]
    matrices = torch.tensor([F._get_inverse_affine_matrix(center or [60.0, 50.0], *each) for each in AFFINES])
    fills = torch.tensor([fill] * 4).float()
    for mode in (InterpolationMode.NEAREST, InterpolationMode.BILINEAR):
        pils = [
            lambda x, p=each, m=mode: F.affine(x, *p, interpolation=m, fill=fill, center=center) for each in AFFINES
        ]
        ours = affine_batch(batch_of(images), matrices, fills, mode == InterpolationMode.BILINEAR)
        found = apart(images, ours, pils)
        if mode == InterpolationMode.BILINEAR:
            assert found.max() <= 1
            assert found.float().mean() < 0.02
        else:
            assert (found > 0).float().mean((1, 2, 3)).max() < 0.005


@pytest.mark.parametrize('images', [PHOTOS, GRAY], ids=['photos', 'gray'])
def test_both_forms_are_the_same(images):
    matrix = F._get_inverse_affine_matrix([60.0, 50.0], *AFFINES[1])
    batch = batch_of(images)
    fill = [30.0] * batch.shape[1]
    for bilinear in (False, True):
        found = affine_batch(batch, torch.tensor([matrix] * 3), torch.tensor([fill] * 3), bilinear)
        for image, other in zip(images, found):
            expected = torch.from_numpy(planes(affine_array(image, matrix, bilinear, fill)))
            assert (expected != other).float().mean() < 0.005
            assert not bilinear or (expected.int() - other.int()).abs().max() <= 1


@pytest.mark.parametrize('options', AFFINE_OPTIONS)
def test_draws_are_those_of_torchvision(options):
    transform = build_pipeline([dict(type='mmpretrain.torchvision/RandomAffine', **options)])[0].t
    operation = Affine(transform, 1)
    image = Image.fromarray(photo(0, 40, 70)).convert('L')
    for number in range(20):
        seed_generators(number)
        expected = transform(image)
        after = torch.rand(1)
        seed_generators(number)
        found = operation.apply(np.array(image), operation.draw(40, 70))
        assert torch.equal(torch.rand(1), after)
        moved = difference(found, expected)
        assert moved.max() <= 1 if options.get('interpolation') == 'bilinear' else (moved > 0).mean() < 0.005
