"""Images larger than the model: one mask, overlapping windows, a smooth average."""

import math
from unittest import mock

import numpy as np
import pytest
import reference.mae as reference_mae
import torch
from helpers import build, mae_config, vit_config
from test_analysis.test_reconstructions import Stub

from mmselfsup_graft.analysis.reconstruction.plot import reconstruct_images
from mmselfsup_graft.analysis.reconstruction.stitching import (
    draw_image_mask,
    reconstruct_stitched,
    window_starts,
    window_weight,
)
from mmselfsup_graft.models.masking import mask_from_cells

VIT = {**vit_config(), 'type': 'MaskedViT', 'out_type': 'featmap'}
SIMMIM = dict(
    type='SimMIM',
    mask_patch=8,
    mask_ratio=0.6,
    backbone=VIT,
    neck=dict(type='PixelShuffleNeck', in_channels=16, stride=4, out_channels=3),
    head=dict(type='SimMIMHead'),
)


@pytest.fixture(scope='module')
def mae():
    torch.manual_seed(0)
    model = build(mae_config(mask_ratio=0.6, norm_pix=False)).double()
    model.init_weights()
    return model.eval()


def test_windows_cover_every_pixel_and_start_at_whole_patches() -> None:
    for patch, window in ((4, 16), (8, 64), (16, 48), (32, 32)):
        for patches in range(window // patch, 40):
            starts = window_starts(patches * patch, window, patch)
            assert starts == sorted(set(starts))
            assert all(start % patch == 0 for start in starts)
            covered = {pixel for start in starts for pixel in range(start, start + window)}
            assert covered == set(range(patches * patch))
            assert max(np.diff(starts), default=0) <= max(patch, window // 4)


def test_weights_are_positive_and_fall_to_the_border() -> None:
    weight = window_weight((16, 24))
    assert weight.shape == (16, 24)
    assert (weight > 0).all()
    by_hand = math.sin(math.pi * 3.5 / 16) ** 2 * math.sin(math.pi * 20.5 / 24) ** 2
    assert weight[3, 20].item() == pytest.approx(by_hand, rel=1e-12)
    torch.testing.assert_close(weight, weight.flip(0, 1))
    assert int(weight.argmax()) in {7 * 24 + 11, 7 * 24 + 12, 8 * 24 + 11, 8 * 24 + 12}


def slow_reference(model, inputs, window, mask):
    """Pixel by pixel: the weighted mean over all windows that hold it, each predicted alone."""
    patch, (height, width) = model.mask_patch, inputs.shape[-2:]
    sums, weights = torch.zeros_like(inputs), torch.zeros(height, width, dtype=inputs.dtype)
    one_side = [math.sin(math.pi * (k + 0.5) / window) ** 2 for k in range(window)]
    stride = window // patch // 4 * patch
    tops, lefts = ([*range(0, size - window, stride), size - window] for size in (height, width))
    for image in range(len(inputs)):
        for top in tops:
            for left in lefts:
                cut = inputs[image : image + 1, :, top : top + window, left : left + window]
                cells = mask[image, top : top + window : patch, left : left + window : patch].flatten()
                order = [*(cells == 0).nonzero()[:, 0].tolist(), *(cells == 1).nonzero()[:, 0].tolist()]
                noise = torch.empty(1, len(order)).index_copy(
                    1, torch.tensor(order), torch.arange(len(order))[None] / 99
                )
                with mock.patch.object(model, 'mask_ratio', float(cells.sum()) / len(order)):
                    predicted = model.head.unpatchify(reference_mae.predict(model, cut, noise)[0])[0]
                for y in range(window):
                    for x in range(window):
                        weight = one_side[y] * one_side[x]
                        sums[image, :, top + y, left + x] += weight * predicted[:, y, x]
                        weights[top + y, left + x] += weight if image == 0 else 0.0
    return sums / weights


@torch.no_grad()
def test_prediction_equals_a_slow_reference(mae) -> None:
    inputs = torch.randn(2, 3, 24, 36, dtype=torch.float64)
    torch.manual_seed(5)
    prediction, mask = reconstruct_stitched(mae, inputs, (16, 16))
    counts = {int(mask[0, 0, y : y + 16 : 4, x : x + 16 : 4].sum()) for y in (0, 4, 8) for x in range(0, 21, 4)}
    assert len(counts) > 1  # windows hide different numbers of patches
    expected = slow_reference(mae, inputs, 16, mask[:, 0])
    torch.testing.assert_close(prediction, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('size', [(40, 56), (35, 50), (16, 70), (9, 33)])
def test_a_constant_model_gives_a_constant_picture(size) -> None:
    prediction, mask = reconstruct_stitched(Stub(0.25), torch.randn(2, 3, *size), (16, 16))
    assert prediction.shape == (2, 3, *size)
    assert mask.shape == (2, 1, *size)
    torch.testing.assert_close(prediction, torch.full_like(prediction, 0.25))


def test_every_window_sees_its_part_of_one_mask() -> None:
    inputs = torch.arange(40 * 56.0).reshape(1, 1, 40, 56).repeat(2, 1, 1, 1)  # pixels tell where they lie
    inputs[1] += 40 * 56
    seen = []

    class Spy(Stub):
        def reconstruct(self, inputs, *, mask=None):
            if mask is not None:
                seen.extend(zip(inputs[:, 0, 0, 0].long().tolist(), mask, strict=True))
            else:
                mask = (torch.rand(len(inputs), 4, 4) < 0.5).float()
            return super().reconstruct(inputs, mask=mask)

    _, mask = reconstruct_stitched(Spy(), inputs, (16, 16))
    assert len(seen) == 2 * 7 * 11
    for first, cells in seen:
        image, place = divmod(first, 40 * 56)
        top, left = divmod(place, 56)
        assert torch.equal(cells, mask[image, 0, top : top + 16 : 4, left : left + 16 : 4])


@pytest.mark.parametrize('kind', ['mae', 'simmim'])
def test_the_mask_is_made_of_masks_as_the_model_draws_them(kind, mae) -> None:
    model = mae if kind == 'mae' else build(SIMMIM).eval()
    inputs = torch.zeros(2, 3, 40, 52, dtype=torch.float64 if kind == 'mae' else torch.float32)
    mask = draw_image_mask(model, inputs, (16, 16))
    assert mask.shape == (2, 40, 52)
    share = 10 / 16 if kind == 'mae' else 3 / 4  # int(16 * 0.4) kept; ceil(4 * 0.6) hidden
    tiles = [tile for image in mask[:, :32, :48].split(16, 1) for tile in image.split(16, 2)]
    assert {tile[image].mean().item() for tile in tiles for image in range(2)} == {share}
    assert len({tuple(tile[image].flatten().tolist()) for tile in tiles for image in range(2)}) > 3
    patch = model.mask_patch
    cells = mask[:, ::patch, ::patch].repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    assert torch.equal(cells[:, :40, :52], mask)


def test_masks_of_large_images_are_drawn_in_parts() -> None:
    sizes, drawn = [], []

    class Spy(Stub):
        def reconstruct(self, inputs, *, mask=None):
            sizes.append(len(inputs))
            drawn.append((torch.rand(len(inputs), 1, 4, 4) < 0.5).float())
            return inputs, drawn[-1].repeat_interleave(4, 2).repeat_interleave(4, 3)

    mask = draw_image_mask(Spy(), torch.zeros(3, 3, 9 * 16, 5 * 16), (16, 16))
    assert max(sizes) <= 64
    assert sum(sizes) == 3 * 9 * 5
    tiles = torch.cat(drawn)[:, 0].reshape(9, 5, 3, 4, 4)
    for row in range(9):
        for column in range(5):
            part = mask[:, 16 * row : 16 * row + 16 : 4, 16 * column : 16 * column + 16 : 4]
            assert torch.equal(part, tiles[row, column])


@pytest.mark.parametrize('kind', ['mae', 'simmim'])
def test_visible_patches_are_pasted_exactly(kind, mae) -> None:
    model = mae.float() if kind == 'mae' else build(SIMMIM).eval()
    images = torch.randint(0, 100, (2, 3, 40, 52))
    pictures = reconstruct_images(model, images, [50.0] * 3, [30.0] * 3, window=(16, 16))
    mae.double()
    for original, masked, prediction, pasted in zip(*pictures, strict=True):
        hidden = (masked == 128).all(-1)
        assert 0.5 < hidden.mean() < 0.8
        np.testing.assert_array_equal(pasted, np.where(hidden[..., None], prediction, original))
        np.testing.assert_array_equal(masked[~hidden], original[~hidden])


def test_a_given_mask_is_kept_in_order() -> None:
    hidden = torch.tensor([[1.0, 0, 0, 1, 0], [0.0, 0, 1, 0, 1]])
    mask = mask_from_cells(hidden)
    assert mask.keep.tolist() == [[1, 2, 4], [0, 1, 3]]
    assert mask.hidden.tolist() == [[0, 3], [2, 4]]
    assert mask.restore.tolist() == [[3, 0, 1, 4, 2], [0, 1, 3, 2, 4]]
    assert torch.equal(mask.mask, hidden)
