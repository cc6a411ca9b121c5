"""The same pixels as LoadImage, and the same files refused."""

import io

import numpy as np
import pytest
from PIL import Image
from test_datasets.test_fast.images import photo

from mmselfsup_graft.datasets import LoadImage
from mmselfsup_graft.datasets.fast import Decoder, decode
from mmselfsup_graft.datasets.transforms import CorruptImage

PHOTO = Image.fromarray(photo(0, 44, 61))


def encoded(image: Image.Image = PHOTO, kind: str = 'JPEG', **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


rotated = Image.Exif()
rotated[0x0112] = 6
FILES = {
    'jpeg': encoded(quality=90),
    'full color': encoded(quality=97, subsampling=0),
    'progressive': encoded(progressive=True),
    'restarts': encoded(restart_marker_blocks=2),
    'gray': encoded(PHOTO.convert('L')),
    'cmyk': encoded(PHOTO.convert('CMYK')),
    'rotated': encoded(exif=rotated),
    'rest behind the end': encoded() + b'rest',
    'png': encoded(kind='PNG'),
    'palette': encoded(PHOTO.convert('P'), 'PNG'),
    'transparent': encoded(PHOTO.convert('RGBA'), 'PNG'),
    '16 bits': encoded(Image.fromarray(np.arange(2000, dtype=np.uint16).reshape(40, 50) * 30), 'PNG'),
    'bmp': encoded(kind='BMP'),
}


@pytest.fixture(params=['simplejpeg', 'torchvision'])
def jpeg_decoder(request, monkeypatch):
    if request.param == 'torchvision':
        monkeypatch.setattr(decode, '_simplejpeg_decoder', lambda: None)
    else:
        monkeypatch.setattr(decode, '_torchvision_decoder', None)


def outcome(function, data: bytes):
    try:
        return np.asarray(function(data))
    except CorruptImage:
        return None


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_are_those_of_pil(name, channels, jpeg_decoder, tmp_path):
    (tmp_path / 'image').write_bytes(FILES[name])
    info = {'img_path': str(tmp_path / 'image')}
    for backend in (None, dict(backend='local')):
        loader = LoadImage(channels=channels, backend_args=backend)
        expected = np.asarray(loader.transform(dict(info))['img'])
        found = Decoder(loader)(info)
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
    assert Decoder(loader).decode(FILES[name]).shape == expected.shape


def test_the_quick_decoder_is_used(jpeg_decoder, monkeypatch):
    monkeypatch.setattr(LoadImage, 'decode', None)
    assert Decoder(LoadImage()).decode(FILES['jpeg']).shape == (44, 61, 3)
    assert Decoder(LoadImage(channels=1)).decode(FILES['gray']).shape == (44, 61)


def test_damaged_files_are_refused_exactly_where_pil_refuses_them(jpeg_decoder):
    random = np.random.RandomState(0)
    damaged = []
    for name in ('jpeg', 'progressive', 'gray'):
        whole = FILES[name]
        damaged += [whole[:cut] for cut in (*range(0, len(whole), len(whole) // 12), *range(-4, 0))]
        for _ in range(40):
            wrong = bytearray(whole)
            for place in random.randint(2, len(whole), random.randint(1, 4)):
                wrong[place] = random.randint(256)
            damaged.append(bytes(wrong))
    loader = LoadImage()
    decoder, refused = Decoder(loader), 0
    for data in damaged:
        expected = outcome(lambda data: loader.decode(io.BytesIO(data)), data)
        found = outcome(decoder.decode, data)
        assert (expected is None) == (found is None)
        refused += expected is None
        assert expected is None or np.array_equal(found, expected)
    assert 20 < refused < len(damaged) - 20


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('shape', [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_arrays(channels, shape):
    array = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    loader = LoadImage(channels=channels)
    assert np.array_equal(Decoder(loader)({'img': array}), np.asarray(loader.transform({'img': array})['img']))


def test_what_cannot_be_read():
    decoder = Decoder(LoadImage())
    for info in ({'img_path': '/nowhere.jpg'}, {'img': np.zeros((4, 4), np.float32)}, {'img': np.zeros(4, np.uint8)}):
        with pytest.raises(CorruptImage):
            decoder(info)
    with pytest.raises(CorruptImage, match='FileNotFoundError'):
        Decoder(LoadImage(backend_args=dict(backend='local'))).read({'img_path': '/nowhere.jpg'})


@pytest.mark.parametrize('channels', [1, 3])
def test_more_pixels_than_pil_takes_are_left_to_pil(channels, jpeg_decoder, monkeypatch):
    loader, data = LoadImage(channels=channels), FILES['gray' if channels == 1 else 'jpeg']
    pixels = 44 * 61
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', pixels // 2 - 1)  # an error from twice as many on
    with pytest.raises(CorruptImage, match='DecompressionBombError'):
        Decoder(loader).decode(data)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', pixels - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        assert Decoder(loader).decode(data).shape[:2] == (44, 61)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert Decoder(loader).decode(data).shape[:2] == (44, 61)
