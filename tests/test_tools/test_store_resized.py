"""The stored copy: pixels, labels, going on after a kill, refusals in one line."""

import hashlib
import io
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_tools.tiny_runs import call_tool, run_tool_process

import mmselfsup_graft.datasets.shards.destination as destination
from mmselfsup_graft.datasets import ImageFolder, ImageNet, LoadImage, RawShards
from mmselfsup_graft.datasets.shards.stored_copy import resized, store_resized
from mmselfsup_graft.errors import ConfigError, DataError

TOOL = 'dataset_tools/store_resized'
SIDE = 24


def smooth(number: int, height: int, width: int) -> Image.Image:
    """A picture of few frequencies, as JPEG likes them."""
    coarse = np.random.RandomState(number).randint(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    """ImageNet's layout, a flat ``val`` with its list, images of all kinds and two that are not images."""
    root = tmp_path_factory.mktemp('source') / 'imagenet'
    for number in range(14):
        folder = root / 'train' / f'n0000000{number % 3}'
        folder.mkdir(parents=True, exist_ok=True)
        smooth(number, 30 + number, 60 - number).save(folder / f'a {number}.JPEG', quality=97)
    place = root / 'train' / 'n00000001'
    smooth(20, 20, 90).save(place / 'small.JPEG', quality=80)
    smooth(21, 48, 96).save(place / 'named.JPEG', format='PNG')
    smooth(22, 48, 96).convert('L').save(place / 'gray.JPEG')
    smooth(23, 40, 40).convert('CMYK').save(place / 'cmyk.JPEG')
    smooth(24, 40, 40).convert('RGBA').save(place / 'alpha.png')
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth(25, 40, 80).save(place / 'turned.JPEG', exif=turned)
    (place / 'bad.JPEG').write_bytes(b'no image')
    (root / 'train' / 'n00000002' / 'cut.JPEG').write_bytes(
        (root / 'train' / 'n00000002' / 'a 2.JPEG').read_bytes()[:500]
    )
    (root / 'val').mkdir()
    (root / 'meta').mkdir()
    smooth(30, 50, 40).save(root / 'val' / 'v1.JPEG')
    smooth(31, 50, 40).save(root / 'val' / 'v0.JPEG')
    (root / 'meta' / 'val.txt').write_text('v0.JPEG 2\nv1.JPEG 0\n')
    return root


BAD = ['train/n00000001/bad.JPEG', 'train/n00000002/cut.JPEG']


def scaled(path: Path) -> np.ndarray:
    """What is to be stored, worked out apart from the code: loaded in color, then antialiased to the short side."""
    image = LoadImage().transform({'img_path': str(path)})['img']
    ratio = min(1, SIDE / min(image.size))
    size = tuple(int(side * ratio + 0.5) for side in image.size)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC) if ratio < 1 else image)


def after_jpeg(pixels: np.ndarray, gray: bool) -> np.ndarray:
    """What JPEG makes of them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if gray else pixels).save(buffer, format='JPEG', quality=95, subsampling='4:2:0')
    return np.asarray(Image.open(buffer).convert('RGB'))


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file."""
    files = sorted(path for path in folder.rglob('*') if path.is_file() and path.name != '.lock')
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_jpeg_copy_is_read_by_the_same_data_sets(source, tmp_path):
    done = call_tool(TOOL, source, tmp_path / 'copy', '--short-side', SIDE)
    assert done.code == 0, done.err
    assert '22 of 24 images' in done.out
    assert all(f'skipped {name}: ' in done.out for name in BAD)
    for split in ('train', 'val'):
        old, new = ImageNet(str(source), split), ImageNet(str(tmp_path / 'copy'), split)
        names = [os.path.relpath(old.get_data_info(i)['img_path'], source) for i in range(len(old))]
        labels = {name: int(label) for name, label in zip(names, old.labels()) if name not in BAD}
        assert [os.path.relpath(new.get_data_info(i)['img_path'], tmp_path / 'copy') for i in range(len(new))] == [
            *labels
        ]
        assert new.labels().tolist() == [*labels.values()]
        assert new.classes == old.classes
        for name in labels:
            with Image.open(tmp_path / 'copy' / name) as image:
                assert image.format == 'JPEG'
                assert not image.getexif()
                stored = np.asarray(image.convert('RGB'))
            wanted = scaled(source / name)
            assert min(stored.shape[:2]) == SIDE or 'small' in name
            assert np.array_equal(stored, wanted if 'small' in name else after_jpeg(wanted, gray='gray' in name)), name
    place = Path('train/n00000001')
    assert (tmp_path / 'copy' / place / 'small.JPEG').read_bytes() == (source / place / 'small.JPEG').read_bytes()
    with Image.open(tmp_path / 'copy' / place / 'gray.JPEG') as image:
        assert image.mode == 'L'


def test_raw_copy_holds_the_exact_pixels(source, tmp_path):
    done = call_tool(TOOL, source, tmp_path / 'copy', '--short-side', SIDE, '--format', 'raw', '--per-shard', 5)
    assert done.code == 0, done.err
    data = RawShards(str(tmp_path / 'copy'), split='train', pipeline=[dict(type='LoadImage')])
    assert len(data) == 20
    assert data.classes == ('n00000000', 'n00000001', 'n00000002')
    for info in data:
        path = source / os.path.relpath(info['img_path'], tmp_path / 'copy')
        if 'gray' not in info['img_path']:
            assert np.array_equal(np.asarray(info['img']), scaled(path))
        assert info['gt_label'] == int(path.parent.name[-1])


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_manifest(source, tmp_path, form):
    options = ('--short-side', SIDE, '--format', form, '--per-shard', 5)
    assert call_tool(TOOL, source, tmp_path / 'copy', *options).code == 0
    manifest = json.loads((tmp_path / 'copy' / 'manifest.json').read_text())
    assert manifest['complete'] is True
    assert manifest['settings']['source'] == str(source)
    assert manifest['settings']['short_side'] == SIDE
    assert set(manifest['versions']) == {'mmselfsup_graft', 'python', 'pillow', 'numpy'}
    assert list(manifest['skipped']) == BAD
    assert {key: manifest['counts'][key] for key in ('found', 'stored', 'skipped')} == dict(
        found=24, stored=22, skipped=2
    )
    if form == 'raw':
        assert sum(shard['images'] for shard in manifest['shards']) == 22
        for shard in manifest['shards']:
            content = (tmp_path / 'copy' / shard['name']).read_bytes()
            assert hashlib.sha256(content).hexdigest() == shard['sha256']
            assert len(content) == shard['bytes']
    else:
        images = [path for path in (tmp_path / 'copy').rglob('*') if path.suffix in ('.JPEG', '.png')]
        assert sum(path.stat().st_size for path in images) == manifest['counts']['bytes']


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_several_processes_write_the_same(source, tmp_path, form):
    options = ('--short-side', SIDE, '--format', form, '--per-shard', 5)
    assert call_tool(TOOL, source, tmp_path / 'one', *options).code == 0
    done = call_tool(TOOL, source, tmp_path / 'two', *options, '--jobs', 2)
    assert done.code == 0, done.err
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')


def killed_after(count: int, *args: object, **options: object) -> None:
    """Make a copy in a process that is killed when it gives its ``count``-th file its name."""

    def run() -> None:
        replace = os.replace

        def counting(old: str, new: str) -> None:
            nonlocal count
            count -= 1
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(old, new)

        destination.os.replace = counting
        store_resized(*args, **options)

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_a_killed_run_goes_on(source, tmp_path, form):
    options = dict(form=form, short_side=SIDE, per_shard=5)
    store_resized(source, tmp_path / 'whole', **options)
    whole, place = tree(tmp_path / 'whole'), tmp_path / 'copy'
    kept = {}
    for count in (4, 3, 2):
        killed_after(count, source, place, **options)
        part = {name: value for name, value in tree(place).items() if not Path(name).name.startswith('.')}
        assert json.loads((place / 'manifest.json').read_text())['complete'] is False
        del part['manifest.json']
        assert part.items() <= whole.items()  # nothing half-written under its name
        assert part.keys() >= kept.keys()
        assert len(part) > len(kept)
        assert any(path.name.endswith('.part') for path in place.rglob('.*'))
        times = {name: (place / name).stat().st_mtime_ns for name in part}
        for name, time in kept.items():  # what is complete is not made again; a shard is with its table
            if name.endswith('.txt') or (name.endswith('.bin') and f'{name[:-4]}.json' not in kept):
                continue
            assert times[name] == time, name
        kept = times
    store_resized(source, place, **options)
    assert tree(place) == whole
    assert store_resized(source, place, **options)['counts']['stored'] == 22  # and once more: nothing to do
    assert tree(place) == whole


def test_other_settings_and_foreign_folders_are_refused(source, tmp_path):
    base = (source, tmp_path / 'copy', '--short-side', SIDE)
    assert call_tool(TOOL, *base).code == 0
    for options, name in (
        (['--quality', 90], 'quality = 95, now 90'),
        (['--subsampling', '4:4:4'], "subsampling = '4:2:0', now '4:4:4'"),
        (['--format', 'raw'], "format = 'jpeg', now 'raw'"),
        (['--short-side', 25], 'short_side = 24, now 25'),
    ):
        assert name in call_tool(TOOL, *base, *options).error()
    assert 'source' in call_tool(TOOL, source / 'val', *base[1:]).error()
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'file').write_text('')
    assert 'is not empty and holds no manifest.json' in call_tool(TOOL, source, tmp_path / 'mine').error()
    assert 'is inside the source' in call_tool(TOOL, source, source / 'copy').error()
    assert not (source / 'copy').exists()


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_another_list_of_images_is_refused(tmp_path, form):
    for name in 'ab':
        (tmp_path / 'in').mkdir(exist_ok=True)
        smooth(0, 30, 30).save(tmp_path / 'in' / f'{name}.png')
    store_resized(tmp_path / 'in', tmp_path / 'out', form=form)
    smooth(1, 30, 30).save(tmp_path / 'in' / 'c.png')
    with pytest.raises(DataError, match='images_sha256'):
        store_resized(tmp_path / 'in', tmp_path / 'out', form=form)
    (tmp_path / 'in' / 'c.png').unlink()
    store_resized(tmp_path / 'in', tmp_path / 'out', form=form)
    (tmp_path / 'in' / 'b.png').unlink()  # its copy would be there and not be counted
    with pytest.raises(DataError, match='images_sha256'):
        store_resized(tmp_path / 'in', tmp_path / 'out', form=form)


def test_corrupt_images_may_stop_it(source, tmp_path):
    for form in ('jpeg', 'raw'):
        done = call_tool(TOOL, source, tmp_path / form, '--format', form, '--on-corrupt', 'raise')
        assert done.error().startswith(f'{BAD[0]} cannot be read (UnidentifiedImageError')
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'a.png').write_bytes(b'')
    assert 'none of the 1 images' in call_tool(TOOL, tmp_path / 'none', tmp_path / 'out').error()


def test_a_corrupt_image_in_a_worker_is_one_line(source, tmp_path):
    done = run_tool_process(TOOL, source, tmp_path / 'copy', '--on-corrupt', 'raise', '--jobs', 2)
    assert done.error().startswith(f'{BAD[0]} cannot be read')


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_a_full_disk_and_an_unwritable_place_are_one_line(source, tmp_path, monkeypatch, form):
    (tmp_path / 'file').write_text('')
    done = call_tool(TOOL, source, tmp_path / 'file' / 'copy', '--format', form)
    assert 'cannot be written' in done.error()

    class Full(io.BytesIO):
        def write(self, content: bytes) -> int:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(destination, 'open', lambda path, mode: Full(), raising=False)
    message = call_tool(TOOL, source, tmp_path / 'copy', '--format', form).error()
    assert 'cannot be written (the disk is full)' in message
    assert 'run the command again to continue' in message


def test_two_at_once_are_kept_apart(source, tmp_path):
    with destination.Destination(tmp_path / 'copy', {}):
        assert 'is being filled by another process' in call_tool(TOOL, source, tmp_path / 'copy').error()


@pytest.mark.parametrize(
    'options',
    [{'short_side': 0}, {'quality': 101}, {'form': 'png'}, {'subsampling': '4:1:1'}, {'jobs': 0}, {'per_shard': 0}],
)
def test_wrong_numbers(source, tmp_path, options):
    with pytest.raises(ConfigError, match='expected'):
        store_resized(source, tmp_path / 'copy', **options)
    assert not (tmp_path / 'copy').exists()


def test_sizes_are_never_enlarged_and_keep_the_proportions():
    for size, expected in (((100, 50), (48, 24)), ((30, 24), (30, 24)), ((10, 99), (10, 99)), ((25, 1000), (24, 960))):
        assert resized(Image.new('RGB', size), SIDE).size == expected


def test_the_folder_data_set_reads_a_copy_of_any_folder(tmp_path):
    for name in ('x/deep/1.webp', 'x/2.bmp', 'y/3.png'):
        (tmp_path / 'in' / name).parent.mkdir(parents=True, exist_ok=True)
        smooth(3, 40, 50).save(tmp_path / 'in' / name)
    store_resized(tmp_path / 'in', tmp_path / 'out', short_side=SIDE)
    data = ImageFolder(str(tmp_path / 'out'), pipeline=[dict(type='LoadImage')])
    assert data.labels().tolist() == [0, 0, 1]
    assert {sample['img'].size for sample in data} == {(30, 24)}
