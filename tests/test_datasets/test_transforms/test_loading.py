from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmselfsup_graft.datasets.transforms import CorruptImage, LoadImage
from mmselfsup_graft.errors import ConfigError

RGB = np.random.RandomState(0).randint(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def load(channels, **results):
    return LoadImage(channels)(results)['img']


@pytest.mark.parametrize('array', [RGB, GREY, GREY[:, :, None]])
@pytest.mark.parametrize(('channels', 'mode'), [(3, 'RGB'), (1, 'L')])
def test_array_and_file_give_the_same(tmp_path, array, channels, mode):
    expected = Image.fromarray(array.squeeze()).convert(mode)
    path = str(tmp_path / 'a.png')
    Image.fromarray(array.squeeze()).save(path)
    content = Path(path).read_bytes()
    for image in (load(channels, img=array), load(channels, img_path=path), load(channels, img_bytes=content)):
        assert image.mode == mode
        assert image.size == (5, 6)
        assert np.array_equal(image, expected)


def test_array_wins_over_bytes_and_they_over_a_path(tmp_path):
    content = {}
    for name, value in (('bytes', 50), ('path', 90)):
        Image.fromarray(np.full((2, 2, 3), value, np.uint8)).save(tmp_path / f'{name}.png')
        content[name] = (tmp_path / f'{name}.png').read_bytes()
    results = {'img_path': str(tmp_path / 'path.png'), 'img_bytes': content['bytes']}
    assert np.asarray(load(3, **results)).max() == 50
    assert np.asarray(load(3, img=RGB, **results)).shape == RGB.shape
    assert 'img_bytes' not in LoadImage().transform(dict(results))  # a sample does not carry it along
    with pytest.raises(CorruptImage, match='UnidentifiedImageError'):
        load(3, img_path=results['img_path'], img_bytes=b'text')


def test_transparent_and_palette_images_become_rgb(tmp_path):
    for mode in ('RGBA', 'P', 'CMYK'):
        path = str(tmp_path / f'{mode}.tif')
        Image.fromarray(RGB).convert(mode).save(path)
        assert load(3, img_path=path).mode == 'RGB'


def test_backend(tmp_path):
    Image.fromarray(RGB).save(tmp_path / 'a.png')
    loader = LoadImage(backend_args={'backend': 'local'})
    assert np.array_equal(loader({'img_path': str(tmp_path / 'a.png')})['img'], RGB)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tif', '.webp'])
def test_truncated_text_and_missing_files_are_corrupt(tmp_path, suffix):
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f'a{suffix}'
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b'', b'text'):
        path.write_bytes(damaged)
        with pytest.raises(CorruptImage):
            load(3, img_path=str(path))
    with pytest.raises(CorruptImage, match='FileNotFoundError'):
        load(3, img_path=str(tmp_path / 'nowhere'))


def test_wrong_arrays_and_channels():
    with pytest.raises(CorruptImage, match='float64'):
        load(3, img=RGB / 255)
    with pytest.raises(CorruptImage, match=r'\(6, 5, 2\)'):
        load(3, img=RGB[:, :, :2])
    with pytest.raises(ConfigError, match='channels is 4'):
        LoadImage(4)
