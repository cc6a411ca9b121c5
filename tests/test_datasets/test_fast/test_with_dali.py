"""DALI's crops beside PIL's, in gray levels; collected where NVIDIA DALI is installed, see docs/speed.md."""

import io

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from test_datasets.test_augment.beside_pil import batched
from test_datasets.test_fast.images import difference

from mmselfsup_graft.datasets.augment import CropRow
from mmselfsup_graft.datasets.fast import DaliDecoder, dali
from mmselfsup_graft.errors import DataError

CPU = torch.device('cpu')
PHOTOS = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())
WINDOWS = [(0, 0, 300, 400), (10, 21, 97, 133), (50, 60, 240, 111), (5, 7, 40, 30), (299, 0, 1, 451), (100, 200, 1, 1)]
RESAMPLING = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def encoded(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, 'JPEG', **{'quality': 95, 'subsampling': 2, **options})
    return file.getvalue()


def source(count: int) -> torch.Tensor:
    return torch.tensor([[1.0, 0, 0, 3]] * count)


def crop(window: tuple, size: tuple, mode: int, count: int) -> CropRow:
    return batched([CropRow(window, size, mode)] * count)


def by_pil(file: bytes, window: tuple, size: tuple, mode: int) -> np.ndarray:
    top, left, height, width = window
    cut = Image.open(io.BytesIO(file)).convert('RGB').crop((left, top, left + width, top + height))
    return np.asarray(cut.resize(size[::-1], RESAMPLING[mode])).transpose(2, 0, 1)


FILES = [encoded(image) for image in PHOTOS]


@pytest.mark.parametrize('window', WINDOWS, ids=str)
def test_decoding_and_windows_are_exact(window):
    """In its own size a window stays as it is, whatever the interpolation; with the nearest pixel in any size."""
    for size, mode in [(window[2:], 0), (window[2:], 1), (window[2:], 2), ((96, 80), 0)]:
        (found,) = DaliDecoder()(FILES, source(3), [crop(window, size, mode, 3)], CPU)
        assert found.dtype == torch.uint8
        for file, image in zip(FILES, found):
            assert np.array_equal(image, by_pil(file, window, size, mode))


@pytest.mark.parametrize(
    'options', [{'progressive': True}, {'subsampling': 0}, {'restart_marker_blocks': 2}, {'exif': 6}]
)
def test_kinds_of_jpeg(options):
    if 'exif' in options:
        options = {'exif': Image.Exif()}
        options['exif'][0x0112] = 6  # to be turned by whoever shows it, which LoadImage does not
    file = encoded(PHOTOS[0], **options)
    (found,) = DaliDecoder()([file], source(1), [crop((0, 0, 512, 512), (512, 512), 2, 1)], CPU)
    assert np.array_equal(found[0], by_pil(file, (0, 0, 512, 512), (512, 512), 2))


@pytest.mark.parametrize('mode', [1, 2], ids=['bilinear', 'bicubic'])
def test_resampling_differs_by_few_levels(mode):
    decoder, apart = DaliDecoder(), []
    for window in WINDOWS:
        for size in [(96, 80), (224, 224)]:
            (found,) = decoder(FILES, source(3), [crop(window, size, mode, 3)], CPU)
            apart += [difference(image, by_pil(file, window, size, mode)) for file, image in zip(FILES, found)]
    assert max(each.max() for each in apart) <= 16
    assert max(each.mean() for each in apart) <= 0.3


def test_views_and_images_have_windows_sizes_and_interpolations_of_their_own():
    rows = [CropRow(WINDOWS[0], (40, 50), 2), CropRow(WINDOWS[1], (40, 50), 0), CropRow(WINDOWS[2], (40, 50), 1)]
    other = crop(WINDOWS[3], (31, 17), 2, 3)
    decoder = DaliDecoder()
    one, two = decoder(FILES, source(3), [batched(rows), other], CPU)
    assert (one.shape, two.shape) == ((3, 3, 40, 50), (3, 3, 31, 17))
    for number, (file, window, mode) in enumerate(zip(FILES, WINDOWS, (2, 0, 1))):
        assert difference(one[number], by_pil(file, window, (40, 50), mode)).mean() < 0.3
        assert difference(two[number], by_pil(file, WINDOWS[3], (31, 17), 2)).mean() < 0.3
        alone = decoder([file], source(1), [batched([rows[number]]), crop(WINDOWS[3], (31, 17), 2, 1)], CPU)
        assert torch.equal(alone[0][0], one[number])
        assert torch.equal(alone[1][0], two[number])


def test_results_stay_as_they_are():
    decoder = DaliDecoder()
    (kept,) = decoder(FILES, source(3), [crop(WINDOWS[0], (48, 48), 2, 3)], CPU)
    before = kept.clone()
    for _ in range(4):
        decoder(FILES[::-1], source(3), [crop(WINDOWS[1], (48, 48), 2, 3)], CPU)
    assert torch.equal(kept, before)
    del decoder
    assert torch.equal(kept, before)
    assert kept.is_contiguous()


@pytest.mark.parametrize('damaged', [FILES[1][:3000], FILES[1][:300], b'\xff\xd8\xff\xd9', b'nothing of the kind'])
def test_damaged_files_are_errors_and_the_next_batch_goes_on(damaged):
    decoder, rows = DaliDecoder(), [crop((0, 0, 30, 30), (30, 30), 2, 2)]
    with pytest.raises(DataError, match="fast='device'"):
        decoder([FILES[0], damaged], source(2), rows, CPU)
    (found,) = decoder(FILES[:2], source(2), rows, CPU)
    assert np.array_equal(found[1], by_pil(FILES[1], (0, 0, 30, 30), (30, 30), 2))


@pytest.mark.parametrize(('name', 'number'), [('cuda', 3), ('cuda:0', 0), ('cuda:1', 1)])
def test_a_gpu_decodes_for_itself(name, number, monkeypatch):
    """A pipeline can be described without the GPU that it is for."""
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 3)
    pipeline = dali._build(8, 2, torch.device(name))
    assert (pipeline.device_id, pipeline.exec_dynamic, pipeline.max_batch_size) == (number, True, 8)
