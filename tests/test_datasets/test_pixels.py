"""Every kind of picture that Pillow opens, by value and by every way of opening it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from test_datasets.conftest import pixels

from mmselfsup_graft.datasets import ImageFolder, LoadImage, RawShards
from mmselfsup_graft.datasets.fast.decode import Decoder
from mmselfsup_graft.datasets.image_modes import UnknownRange, to_rgb
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.datasets.transforms import CorruptImage
from mmselfsup_graft.errors import DataError

DEEP = (np.arange(64).reshape(8, 8) * 1040 + 15).astype(np.uint16)  # 15 .. 65535, in many steps
HALF = np.floor(DEEP / 257 + 0.5).astype(np.uint8)  # a slow reference: v / 257, rounded
RGB = pixels(1)


def stored(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def tiff(values: bytes, bits: int, photometric: int = 1, sample_format: int = 1, side: int = 8) -> bytes:
    """A little-endian gray TIFF, written by hand."""
    entries = [(256, 3, side), (257, 3, side), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 3, side), (279, 4, len(values)), (339, 3, sample_format)]
    table = struct.pack('<H', len(entries))
    for tag, kind, value in entries:
        table += struct.pack('<HHI', tag, kind, 1) + struct.pack('<I', value)
    return b'II*\0' + struct.pack('<I', 8 + len(values)) + values + table + b'\0' * 4


def twelve_bits(values: np.ndarray) -> bytes:
    """Pairs of 12-bit numbers in three bytes, the highest bits first."""
    pairs = values.reshape(-1, 2).astype(int)
    return b''.join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


def by_every_way(content: bytes, folder: Path, channels: int = 3) -> list[np.ndarray]:
    """The pixels as the transform, the compiled pipeline and a stored copy of decoded images give them."""
    (folder / 'a').mkdir(parents=True)
    (folder / 'a' / 'one.png').write_bytes(content)
    loader = LoadImage(channels=channels)
    slow = ImageFolder(str(folder), pipeline=[loader])[0]['img']
    store_resized(folder, folder.parent / f'{folder.name} copy', form='raw')
    copied = RawShards(str(folder.parent / f'{folder.name} copy'), pipeline=[loader])[0]['img']
    return [np.asarray(slow), Decoder(loader).decode(content).copy(), np.asarray(copied)]


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    'content',
    [
        stored(Image.fromarray(DEEP), 'PNG'),
        stored(Image.fromarray(DEEP), 'TIFF'),
        stored(Image.frombytes('I;16B', (8, 8), DEEP.astype('>u2').tobytes()), 'TIFF'),
        stored(Image.fromarray(DEEP.astype(np.int32)), 'PPM'),
        tiff((65535 - DEEP).astype('<u2').tobytes(), 16, photometric=0),  # white is zero
    ],
    ids=['png', 'tiff', 'big-endian tiff', 'pgm', 'inverted tiff'],
)
def test_sixteen_bits_are_scaled_by_their_range(content, channels, tmp_path):
    for found in by_every_way(content, tmp_path / 'data', channels):
        assert found.dtype == np.uint8
        assert np.array_equal(found, HALF if channels == 1 else np.stack([HALF] * 3, axis=-1))


@pytest.mark.parametrize('mode', ['I;16', 'I;16L', 'I;16B', 'I;16N'])
def test_sixteen_bits_in_either_order_of_bytes(mode):
    order = '>u2' if mode == 'I;16B' else '<u2'
    assert np.array_equal(to_rgb(Image.frombytes(mode, (8, 8), DEEP.astype(order).tobytes()), 'L'), HALF)


def test_twelve_bits_are_scaled_by_theirs(tmp_path):
    values = (np.arange(64) * 65).reshape(8, 8)
    assert values.max() == 4095
    expected = np.floor(values / 4095 * 255 + 0.5)
    for found in by_every_way(tiff(twelve_bits(values), 12), tmp_path / 'data', 1):
        assert np.array_equal(found, expected)


def test_sixteen_bits_per_color_keep_the_upper_eight():
    content = io.BytesIO()
    deep = np.stack([DEEP, DEEP[::-1], DEEP.T], axis=-1)
    raw = b''.join(b'\0' + row.astype('>u2').tobytes() for row in deep)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    content.write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 8, 16, 2, 0, 0, 0)))
    content.write(chunk(b'IDAT', zlib.compress(raw)) + chunk(b'IEND', b''))
    assert np.array_equal(to_rgb(opened(content.getvalue())), deep >> 8)


@pytest.mark.parametrize(
    ('content', 'word'),
    [
        (stored(Image.fromarray(DEEP.astype(np.float32) / 65535), 'TIFF'), 'floating-point'),
        (stored(Image.fromarray(DEEP.astype(np.int32) * 40000), 'TIFF'), '32-bit'),
        (tiff((DEEP.astype(np.int32) - 32768).astype('<i2').tobytes(), 16, sample_format=2), 'signed'),
    ],
    ids=['float', '32 bits', 'signed'],
)
def test_pixels_of_unknown_range_are_refused_by_every_way(content, word, tmp_path):
    with pytest.raises(UnknownRange, match=word):
        to_rgb(opened(content))
    for read in (LoadImage().decode, lambda file: Decoder(LoadImage()).decode(file.getvalue())):
        with pytest.raises(CorruptImage, match=f'{word}.*range is not known; scale them to 8 or 16 bits'):
            read(io.BytesIO(content))
    (tmp_path / 'source').mkdir()
    (tmp_path / 'source' / 'x.tif').write_bytes(content)
    Image.fromarray(RGB).save(tmp_path / 'source' / 'y.png')
    assert word in store_resized(tmp_path / 'source', tmp_path / 'copy')['skipped']['x.tif']


def lab(values: np.ndarray) -> np.ndarray:
    profile = ImageCms.createProfile
    turn = ImageCms.buildTransform(profile('LAB'), profile('sRGB'), 'LAB', 'RGB')
    return np.asarray(ImageCms.applyTransform(Image.frombytes('LAB', (8, 8), values.tobytes()), turn))


GREY, ALPHA = pixels(2, channels=1), pixels(3, channels=1)
FOUR = np.dstack([RGB, ALPHA])
KEY = np.dstack([RGB, np.where(ALPHA > 128, 40, 0).astype(np.uint8)])


MODES = {
    '1': (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    'L': (Image.fromarray(GREY), GREY),
    'LA': (Image.merge('LA', [Image.fromarray(GREY), Image.fromarray(ALPHA)]), GREY),
    'RGB': (Image.fromarray(RGB), RGB),
    'RGBA': (Image.fromarray(FOUR), RGB),  # alpha is dropped: the color below shows
    'RGBX': (Image.frombytes('RGBX', (8, 8), FOUR.tobytes()), RGB),
    'CMYK': (
        Image.frombytes('CMYK', (8, 8), KEY.tobytes()),
        np.clip(255 - KEY[..., 3:].astype(float) - KEY[..., :3] * (255 - KEY[..., 3:].astype(float)) / 255, 0, 255),
    ),
    'YCbCr': (Image.fromarray(RGB).convert('YCbCr'), RGB),
    'HSV': (Image.fromarray(RGB).convert('HSV'), RGB),
    'LAB': (Image.frombytes('LAB', (8, 8), RGB.tobytes()), lab(RGB)),
}


@pytest.mark.parametrize('mode', MODES)
def test_every_mode_by_value(mode):
    image, expected = MODES[mode]
    assert image.mode == mode
    expected = np.stack([expected] * 3, axis=-1) if np.ndim(expected) == 2 else expected
    near = {'CMYK': 1, 'YCbCr': 3, 'HSV': 6}.get(mode, 0)  # these are rounded on the way
    found = np.asarray(to_rgb(image)).astype(int)
    assert np.abs(found - expected).max() <= near
    gray = np.asarray(to_rgb(image, 'L')).astype(float)
    luma = np.asarray(expected) @ [0.299, 0.587, 0.114]
    assert np.abs(gray - luma).max() <= near + 1


def test_premultiplied_alpha_is_divided_out():
    opaque = np.full_like(ALPHA, 255)
    color = Image.fromarray(np.dstack([RGB, opaque])).convert('RGBa')
    gray = Image.merge('LA', [Image.fromarray(GREY), Image.fromarray(opaque)]).convert('La')
    assert (color.mode, gray.mode) == ('RGBa', 'La')
    assert np.array_equal(to_rgb(color), RGB)
    assert np.array_equal(to_rgb(gray, 'L'), GREY)
    half = Image.frombytes('RGBa', (1, 1), bytes([50, 25, 10, 128]))
    assert to_rgb(half).getpixel((0, 0)) == (99, 49, 19)  # v * 255 / 128, rounded down


@pytest.mark.parametrize('transparency', [None, 2, b'\0\x80\xff'])
@pytest.mark.filterwarnings('error')
def test_palettes_give_their_colors_with_or_without_transparency(transparency):
    image = Image.frombytes('P', (8, 8), (GREY % 3).tobytes())
    colors = np.array([[10, 20, 30], [200, 100, 0], [7, 255, 9]], dtype=np.uint8)
    image.putpalette(colors.tobytes())
    options = {} if transparency is None else {'transparency': transparency}
    for content in (stored(image, 'PNG', **options), stored(image, 'TIFF')):
        assert opened(content).mode == 'P'
        assert np.array_equal(to_rgb(opened(content)), colors[GREY % 3])
    with_alpha = Image.frombytes('PA', (8, 8), np.dstack([GREY % 3, ALPHA]).tobytes())
    with_alpha.putpalette(colors.tobytes())
    assert np.array_equal(to_rgb(with_alpha), colors[GREY % 3])


def test_jpeg_files_in_cmyk_are_not_inverted(tmp_path):
    plain = np.full((16, 16, 4), (0, 255, 255, 0), dtype=np.uint8)  # pure red
    content = stored(Image.frombytes('CMYK', (16, 16), plain.tobytes()), 'JPEG', quality=95)
    assert b'Adobe' in content  # the inverted form
    for found in by_every_way(content, tmp_path / 'data'):
        assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_tags_are_not_applied(orientation, tmp_path):
    image = Image.fromarray(np.kron(RGB, np.ones((4, 8, 1), np.uint8)))  # 32 high, 64 wide
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = stored(image, 'JPEG', quality=95, exif=exif)
    plain = np.asarray(opened(stored(image, 'JPEG', quality=95)))
    assert (ImageOps.exif_transpose(opened(content)).size != image.size) == (orientation > 4)
    for found in by_every_way(content, tmp_path / 'data'):
        assert np.array_equal(found, plain)


def test_color_profiles_are_not_applied(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('XYZ')).tobytes()
    content = stored(Image.fromarray(RGB), 'PNG', icc_profile=profile)
    assert opened(content).info['icc_profile'] == profile
    for found in by_every_way(content, tmp_path / 'data'):
        assert np.array_equal(found, RGB)


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_of_several_frames_the_first_is_read(kind, tmp_path):
    first, second = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in ((255, 0, 0), (0, 0, 255)))
    options = {'lossless': True} if kind == 'WEBP' else {}
    content = stored(first, kind, save_all=True, append_images=[second, second], **options)
    assert opened(content).n_frames >= 2
    for found in by_every_way(content, tmp_path / 'data'):
        assert np.abs(found.astype(int) - (255, 0, 0)).max() <= (2 if kind == 'AVIF' else 0)


def test_a_folder_of_unknown_range_says_so_and_not_only_that_it_cannot_be_read(tmp_path):
    for number in range(3):
        Image.fromarray(np.full((8, 8), number, np.float32)).save(tmp_path / f'{number}.tif')
    with pytest.raises(DataError, match=r'3 images in succession.*floating-point numbers, whose range is not known'):
        ImageFolder(str(tmp_path), pipeline=[LoadImage()])[0]
