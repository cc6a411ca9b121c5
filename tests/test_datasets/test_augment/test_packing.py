"""One tensor for the numbers of several operations, on every way that a batch takes."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from test_datasets.test_fast.images import COLORS, CROP, FLIP, dataset, write_photos
from torch.utils.data import ConcatDataset, DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from mmselfsup_graft.datasets.augment import of_images, pack, pack_batch, unpack
from mmselfsup_graft.datasets.augment.blur import BlurRow
from mmselfsup_graft.datasets.augment.color_jitter import ColorJitterRow
from mmselfsup_graft.datasets.augment.flip import FlipRow
from mmselfsup_graft.datasets.augment.noise import NoiseRow

LOAD, PACK = dict(type='LoadImage'), dict(type='mmpretrain.PackInputs')
LEVELS = torch.arange(6.0).view(2, 3)
SAMPLES = [
    [FlipRow(True), NoiseRow(LEVELS + n), ColorJitterRow([n, -1], [0.5, n + 0.25]), FlipRow(False), NoiseRow(-LEVELS)]
    for n in range(3)
]


def test_fields_come_out_by_name():
    for packed in (pack_batch(SAMPLES), default_collate([pack(rows) for rows in SAMPLES])):
        (tensors,) = packed.values()
        assert [each.shape for each in tensors] == [(3, 6), (3, 2, 3), (3, 2, 3)]
        first, noise, jitter, second, negative = unpack(packed)
        assert first.happens.tolist() == [1.0] * 3
        assert second.happens.tolist() == [0.0] * 3
        assert torch.equal(noise.levels, torch.stack([LEVELS, LEVELS + 1, LEVELS + 2]))
        assert torch.equal(negative.levels, -torch.stack([LEVELS] * 3))
        assert jitter.order.tolist() == [[0, -1], [1, -1], [2, -1]]
        assert jitter.factors.tolist() == [[0.5, 0.25], [0.5, 1.25], [0.5, 2.25]]
        assert of_images(jitter, [2]).factors.tolist() == [[0.5, 2.25]]
    assert unpack(pack([])) == unpack(pack_batch([[], []])) == unpack(pack_batch([])) == []


def test_numbers_are_rounded_to_float32_either_way():
    sigmas = np.random.RandomState(0).uniform(0.1, 2, 50)
    rows = [[BlurRow(sigma, 2.0)] for sigma in sigmas]
    for packed in (pack_batch(rows), default_collate([pack(each) for each in rows])):
        assert np.array_equal(unpack(packed)[0].sigma.numpy(), sigmas.astype(np.float32))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='only CUDA needs pinned memory')
def test_pinning_keeps_the_layout():
    packed = default_collate([pack(rows) for rows in SAMPLES])
    pinned = pin_memory(packed)
    assert list(pinned) == list(packed)
    assert all(torch.equal(one, other) for one, other in zip(*pinned.values(), *packed.values()))


@pytest.mark.parametrize('workers', [0, 1])
def test_data_sets_with_other_options_share_a_batch(tmp_path, workers):
    """The layout is the same for the same operations, whatever their options."""
    folder = write_photos(tmp_path, 2)
    bodies = [[CROP, *COLORS, FLIP], [CROP, *COLORS[:2], {**COLORS[2], 'radius': (3, 4), 'p': 1}, COLORS[3], FLIP]]
    both = ConcatDataset([dataset(folder, [LOAD, *body, PACK], 'device') for body in bodies])
    (batch,) = DataLoader(both, 4, num_workers=workers, collate_fn=default_collate)
    blur = next(row for row in unpack(batch['augment']) if isinstance(row, BlurRow))
    assert blur.largest.tolist() == [2, 2, 4, 4]
    assert (blur.sigma[2:] >= 3).all()
