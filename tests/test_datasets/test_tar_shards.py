"""Archives: the same images as in the folder, exact over workers and ranks, clear about what is wrong."""

import json
import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import webdataset
from filelock import FileLock
from fsspec.implementations.memory import MemoryFileSystem
from test_datasets.shard_data import archives_of, folder_of, open_shards, picture, png, write_tar
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import ShardSampler
from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards
from mmselfsup_graft.datasets.shards.shard_cache import ShardCache
from mmselfsup_graft.datasets.shards.stores import Piece, Store
from mmselfsup_graft.errors import ConfigError, DataError

COUNT = 23


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> Path:
    """Five archives of 23 images in two classes."""
    return archives_of(tmp_path_factory.mktemp('written'), COUNT)


@pytest.fixture
def shards(written, tmp_path) -> Path:
    """A copy of them that may be damaged."""
    return Path(shutil.copytree(written, tmp_path / 'shards'))


@pytest.fixture
def bucket(written):
    """The archives in a store that is not a folder."""
    store = fsspec.filesystem('memory')
    store.put(str(written), '/bucket', recursive=True)
    yield 'memory://bucket'
    store.rm('/bucket', recursive=True)


def check(sample: dict) -> int:
    """The sample is the image that its name says, with its label; return its number."""
    number = int(sample['name'])
    assert np.array_equal(sample['img'], picture(number))
    assert sample['label'] == number % 2
    return number


def test_images_labels_and_classes_are_those_of_the_folder(written):
    data = open_shards(written)
    assert len(data) == COUNT
    assert data.classes == ('c0', 'c1')
    numbers = [check(data[index]) for index in range(COUNT)]
    assert sorted(numbers) == list(range(COUNT))
    assert numbers != sorted(numbers)  # written in a random order
    assert data.labels().tolist() == [number % 2 for number in numbers]
    assert data.shards().tolist() == [index // 5 for index in range(COUNT)]
    assert [check(sample) for sample in data.__getitems__([3, -1, 3, 8])] == [numbers[i] for i in (3, -1, 3, 8)]


def test_the_arguments_of_every_data_set(written):
    subset = open_shards(written, indices=[4, 20, 7])
    assert subset.shards().tolist() == [0, 4, 1]
    whole = open_shards(written)
    assert [sample['name'] for sample in subset] == [whole[i]['name'] for i in (4, 20, 7)]
    part = open_shards(written, part=dict(share=0.5))
    rest = open_shards(written, part=dict(share=0.5, rest=True))
    assert sorted([check(s) for s in part] + [check(s) for s in rest]) == list(range(COUNT))


def test_workers_read_for_themselves(bucket):
    data = open_shards(bucket)
    data[0]  # a connection of this process
    loader = DataLoader(data, batch_size=4, num_workers=2, collate_fn=list)
    assert sorted(check(sample) for batch in loader for sample in batch) == list(range(COUNT))
    again = pickle.loads(pickle.dumps(data))
    assert again.store._opened is None
    assert check(again[5]) == check(data[5])


def test_another_store_gives_the_same(bucket, written):
    here, there = open_shards(written), open_shards(bucket)
    assert [check(sample) for sample in there] == [check(sample) for sample in here]
    assert there.get_data_info(0)['img_path'].startswith('memory://bucket/images-000000.tar/')
    elsewhere = open_shards(bucket, ann_file=str(written / 'index.json'))
    assert check(elsewhere[9]) == check(here[9])


def test_neighbors_are_one_request_and_a_batch_is_asked_for_at_once(written, monkeypatch):
    data, asked = open_shards(written), []
    read = Store.read_pieces
    monkeypatch.setattr(Store, 'read_pieces', lambda self, pieces: asked.append(pieces) or read(self, pieces))
    samples = data.__getitems__([7, 5, 6, 20, 22, 0])
    assert [sample['name'] for sample in samples] == [data[i]['name'] for i in (7, 5, 6, 20, 22, 0)]
    names = [piece.name for piece in asked[0]]
    assert names == ['images-000000.tar', 'images-000001.tar', 'images-000004.tar']
    assert len(asked) == 1 + 6
    monkeypatch.setattr('mmselfsup_graft.datasets.shards.tar_shards._GAP', 0)  # images that do not touch
    data.__getitems__([5, 7])
    assert len(asked[-1]) == 2
    assert all(piece.end - piece.start < 2048 for piece in asked[-1])


# ---------------------------------------------------------------- order
def batches(root: Path, rank: int, world: int, workers: int, skip: int = 0, epoch: int = 3) -> list[list[tuple]]:
    """What a rank gets, with random numbers in every sample."""

    def draw(info: dict) -> dict:
        return {**info, 'drawn': (float(torch.rand(1)), float(np.random.rand()))}

    data = open_shards(root)
    data.pipeline.transforms.insert(0, draw)
    data.pipeline.transforms[-1] = lambda info: (info['img_path'], np.asarray(info['img']).tobytes(), info['drawn'])
    sampler = ShardSampler(data, seed=5, window=2, run=2)
    assert (sampler.rank, sampler.world_size) == (rank, world)
    sampler.set_epoch(epoch)
    sampler.skip(skip * 3)
    loader = DataLoader(data, batch_size=3, sampler=sampler, num_workers=workers, collate_fn=list)
    return list(loader)


@pytest.mark.parametrize('world', [1, 2, 3])
def test_exact_over_ranks_and_workers_and_after_a_stop(written, monkeypatch, world):
    seen = []
    for rank in range(world):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, world))
        alone, helped = (batches(written, rank, world, workers) for workers in (0, 2))
        assert alone == helped
        assert batches(written, rank, world, 2, skip=2) == alone[2:]
        assert rank or batches(written, rank, world, 0, epoch=4) != alone
        seen += [sample[0] for batch in alone for sample in batch]
    assert len(seen) == COUNT + -COUNT % world
    assert len(set(seen[:COUNT])) == COUNT


# ---------------------------------------------------------------- what is wrong
def test_an_image_that_cannot_be_decoded(shards):
    entry = json.loads((shards / 'index.json').read_text())['shards'][1]
    with open(shards / entry['name'], 'r+b') as file:
        file.seek(entry['offsets'][2] + 20)
        file.write(bytes(40))
    data = open_shards(shards)
    samples = data.__getitems__([6, 7, 8])
    assert [sample['name'] for sample in samples] == [data[i]['name'] for i in (6, 8, 8)]
    assert data.corrupt_files() == [f'{shards}/images-000001.tar/{entry["keys"][2]}.png']
    with pytest.raises(DataError, match=rf'images-000001.tar/{entry["keys"][2]}.png cannot be read'):
        open_shards(shards, on_corrupt='raise')[7]


def test_a_missing_archive_ends_the_run_even_if_images_are_skipped(shards):
    data = open_shards(shards)
    os.remove(shards / 'images-000002.tar')
    for read in (lambda: data[11], lambda: data.__getitems__([0, 11])):
        with pytest.raises(DataError, match=r'images-000002.tar does not exist; check data_root'):
            read()


def test_an_archive_that_is_cut_off(shards):
    os.truncate(shards / 'images-000002.tar', 2000)
    data = open_shards(shards)
    with pytest.raises(DataError, match=r'images-000002.tar ends before byte \d+; cut off'):
        data[14]


def test_an_index_of_other_archives(shards):
    shutil.copy(shards / 'images-000003.tar', shards / 'images-000002.tar')
    content = json.loads((shards / 'index.json').read_text())
    content['shards'][2]['offsets'][1] += 512
    (shards / 'index.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'images-000002.tar/.* is not at its place in the index.*--index-only'):
        open_shards(shards)[11]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'is not JSON'),
        ('[1]', 'is not an index of shards'),
        ('{"format": "mmselfsup_graft shard index", "version": 9}', 'has version 9, expected 1'),
        ('{"format": "mmselfsup_graft shard index", "version": 1}', 'is damaged'),
        (
            '{"format": "mmselfsup_graft shard index", "version": 1, "classes": null, '
            '"shards": [{"name": "a", "bytes": 1, "keys": ["b"]}]}',
            'unequal lengths',
        ),
        ('{"format": "mmselfsup_graft shard index", "version": 1, "classes": null, "shards": []}', 'lists no image'),
    ],
)
def test_a_wrong_index(tmp_path, text, message):
    (tmp_path / 'index.json').write_text(text)
    with pytest.raises(DataError, match=message):
        open_shards(tmp_path)


def test_a_missing_index_and_wrong_addresses(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r'index.json does not exist; check data_root and ann_file'):
        open_shards(tmp_path)
    with pytest.raises(ConfigError, match="'nosuch://bucket' cannot be opened"):
        open_shards('nosuch://bucket')

    def lacking(*_, **__):
        raise ImportError('Install s3fs to access S3')

    monkeypatch.setattr('mmselfsup_graft.datasets.shards.stores.url_to_fs', lacking)
    with pytest.raises(ConfigError, match='Install s3fs to access S3'):
        open_shards('s3://bucket')


@pytest.mark.parametrize(('failures', 'calls'), [(2, 3), (99, 3)])
def test_a_store_that_answers_now_and_then(bucket, monkeypatch, failures, calls):
    store, tried = Store(bucket, attempts=3, patience=0), []
    read = MemoryFileSystem.cat_file

    def shaky(self, *args, **kwargs):
        tried.append(args)
        if len(tried) <= failures:
            raise ConnectionResetError('the line went dead')
        return read(self, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, 'cat_file', shaky)
    if failures < 3:
        assert len(store.read_pieces([Piece('images-000000.tar', 0, 10)])[0]) == 10
    else:
        with pytest.raises(DataError, match=r'index.json cannot be read \(ConnectionResetError: the line went dead\)'):
            store.read('index.json')
    assert len(tried) == calls


# ---------------------------------------------------------------- the cache
def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith('.lock'))


def test_archives_are_fetched_once_and_whole(bucket, written, tmp_path, monkeypatch):
    fetched = []
    get = MemoryFileSystem.get_file
    monkeypatch.setattr(
        MemoryFileSystem, 'get_file', lambda self, *args, **kw: fetched.append(args[0]) or get(self, *args, **kw)
    )
    data = open_shards(bucket, cache_dir=str(tmp_path / 'cache'))
    plain = open_shards(written)
    for _ in range(2):
        assert [check(sample) for sample in data] == [check(sample) for sample in plain]
    assert len(fetched) == len(set(fetched)) == 5
    contents = {path.read_bytes() for path in (tmp_path / 'cache').glob('*.tar')}
    assert contents == {path.read_bytes() for path in written.glob('*.tar')}
    loader = DataLoader(open_shards(bucket, cache_dir=str(tmp_path / 'new')), 3, num_workers=2, collate_fn=list)
    assert sorted(check(sample) for batch in loader for sample in batch) == list(range(COUNT))
    assert len(cached(tmp_path / 'new')) == 5


def test_the_bound_removes_what_was_read_longest_ago(bucket, tmp_path):
    size = max(
        shard['bytes'] for shard in json.loads(fsspec.filesystem('memory').cat_file('/bucket/index.json'))['shards']
    )
    data = open_shards(bucket, cache_dir=str(tmp_path), cache_bytes=2 * size)
    data[0], data[5]
    first, second = sorted(tmp_path.glob('*.tar'), key=lambda path: path.stat().st_mtime_ns)
    data[1]  # the first archive again
    data[10]
    assert first.exists()
    assert not second.exists()
    assert len(list(tmp_path.glob('*.tar'))) == 2
    assert sorted(check(sample) for sample in data) == list(range(COUNT))
    assert sum(path.stat().st_size for path in tmp_path.glob('*.tar')) <= 2 * size


def test_what_a_killed_download_left_is_removed(bucket, tmp_path):
    (tmp_path / '.0123456789abcdef.99999999.part').write_bytes(b'half')
    data = open_shards(bucket, cache_dir=str(tmp_path), cache_bytes=10**6)
    check(data[0])
    assert [name for name in cached(tmp_path) if name.endswith('.part')] == []
    assert len(cached(tmp_path)) == 1


def test_a_cache_that_cannot_work(bucket, shards, tmp_path):
    with pytest.raises(ConfigError, match='cache_bytes is 0'):
        ShardCache(str(tmp_path), 0)
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot be made'):
        ShardCache(str(tmp_path / 'file' / 'cache'))
    with pytest.raises(DataError, match='more than cache_bytes=100'):
        open_shards(bucket, cache_dir=str(tmp_path), cache_bytes=100)[0]
    data = open_shards(shards, cache_dir=str(tmp_path))
    os.truncate(shards / 'images-000000.tar', 1024)
    with pytest.raises(DataError, match='has 1024 bytes, expected'):
        data[0]
    assert list(tmp_path.glob('*.tar')) == []
    os.remove(shards / 'images-000000.tar')
    with pytest.raises(DataError, match=r'images-000000.tar does not exist'):
        data[0]


def test_a_full_disk_is_named(bucket, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(MemoryFileSystem, 'get_file', full)
    with pytest.raises(DataError, match=r'cannot be kept in cache_dir .*No space left on device.*lower cache_bytes'):
        open_shards(bucket, cache_dir=str(tmp_path))[0]
    assert cached(tmp_path) == []


# ---------------------------------------------------------------- other tools' archives
def test_nothing_but_images_and_labels_is_read(tmp_path):
    class Marker:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'executed'),)

    evil = pickle.dumps(Marker())
    members = [('0.png', png(0)), ('0.json', b'{"x": '), ('0.pyd', evil), ('0.pth', evil), ('0.seg.png', png(9))]
    members += [('1.cls', b'1\n'), ('1.PNG', png(1)), ('2.txt', b'no image'), ('noname', b'')]
    write_tar(tmp_path / 'data' / 'a.tar', members)
    with pytest.raises(DataError, match=r'2 of 4 would be left out.*further images of a sample 1.*no extension 1'):
        index_shards(str(tmp_path / 'data'))
    index_shards(str(tmp_path / 'data'), max_left_out=1)
    with pytest.raises(DataError, match=r'2 of 4 would be left out'):
        open_shards(tmp_path / 'data')
    data = open_shards(tmp_path / 'data', max_left_out=1)
    assert [(sample['name'], sample['label']) for sample in data] == [('0', -1), ('1', 1)]
    assert np.array_equal(data[0]['img'], picture(0))
    assert data.labels() is None
    assert data.classes is None
    assert not (tmp_path / 'executed').exists()


def test_webdataset_reads_our_archives(written):
    pattern = str(written / 'images-{000000..000004}.tar')
    stream = webdataset.WebDataset(pattern, shardshuffle=False, empty_check=False).decode('rgb8').to_tuple('png', 'cls')
    data = open_shards(written)
    pairs = list(stream)
    assert len(pairs) == COUNT
    for (image, label), sample in zip(pairs, data):
        assert np.array_equal(image, sample['img'])
        assert label == sample['label']


def test_we_read_archives_of_webdataset(tmp_path):
    with webdataset.ShardWriter(str(tmp_path / 'x-%03d.tar'), maxcount=4, verbose=0) as out:
        for number in range(10):
            meta = {'caption': 'ignored'}
            out.write({'__key__': f'dir/{number:02d}', 'png': picture(number), 'cls': number % 2, 'json': meta})
    index_shards(str(tmp_path / 'x-{000..002}.tar'))
    data = open_shards(tmp_path)
    assert [check(sample) for sample in data] == list(range(10))
    assert data.classes == ('0', '1')
    assert data.shards().tolist() == [0] * 4 + [1] * 4 + [2] * 2


def test_long_names_and_equal_keys(tmp_path):
    long = 'a' * 120
    root = folder_of(tmp_path / 'in', 2)
    for name, number in ((f'{long}.png', 2), ('x.y.png', 3), ('x_y.png', 4), ('x.y.bmp', 5)):
        (root / 'train' / 'c0' / name).write_bytes(png(number))
    make_shards(root, tmp_path / 'out', split='train', seed=None)
    data = open_shards(tmp_path / 'out')
    images = {sample['name']: sample['img'] for sample in data}
    assert set(images) == {'00', '01', long, 'x_y', 'x_y_2', 'x_y_3'}
    found = {value.tobytes() for value in images.values()}
    assert found == {picture(number).tobytes() for number in range(6)}


def test_a_download_waits_for_those_of_others_that_leave_no_room(bucket, tmp_path, monkeypatch):
    size = len(fsspec.filesystem('memory').cat_file('/bucket/images-000000.tar'))
    other = tmp_path / f'.0123456789abcdef.{size}.part'
    lock = FileLock(tmp_path / '.0123456789abcdef.lock')
    lock.acquire()
    other.touch()  # on its way, with nothing written so far
    waited = []

    def finish(seconds: float) -> None:
        waited.append(sorted(path.suffix for path in tmp_path.glob('*.tar')))
        if len(waited) == 2:
            other.unlink()
            (tmp_path / '0123456789abcdef.tar').write_bytes(bytes(size))
            lock.release()

    monkeypatch.setattr('mmselfsup_graft.datasets.shards.shard_cache.time.sleep', finish)
    data = open_shards(bucket, cache_dir=str(tmp_path), cache_bytes=2 * size - 1)
    check(data[0])
    assert waited == [[], []]
    assert not (tmp_path / '0123456789abcdef.tar').exists()  # a whole file may go
    assert sum(path.stat().st_size for path in tmp_path.glob('*.tar')) == size


def test_an_archive_that_two_ask_for_is_fetched_once(bucket, tmp_path, monkeypatch):
    store, both, entered, fetched = Store(bucket), threading.Event(), [], []
    size = len(store.read('images-000000.tar'))
    need, fetch = ShardCache._fetch, Store.fetch

    def entering(self, *args):
        entered.append(args)
        if len(entered) == 2:
            both.set()
        need(self, *args)

    def slow(self, *args):
        fetched.append(args)
        assert both.wait(20)  # the other has seen that the archive is missing
        fetch(self, *args)

    monkeypatch.setattr(ShardCache, '_fetch', entering)
    monkeypatch.setattr(Store, 'fetch', slow)
    pieces = [Piece('images-000000.tar', 0, 10)]

    def read(_: int) -> list[bytes]:
        return ShardCache(str(tmp_path)).read_pieces(store, pieces, {'images-000000.tar': size})

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(read, range(2))
    assert first == second
    assert len(entered) == 2
    assert len(fetched) == 1


@pytest.mark.parametrize('denied', ['os.open', 'os.utime', 'FileLock', 'os.replace'])
def test_the_cache_of_another_user(bucket, tmp_path, monkeypatch, denied):
    def refuse(*_, **__):
        raise PermissionError(13, 'Permission denied')

    data = open_shards(bucket, cache_dir=str(tmp_path))
    monkeypatch.setattr(f'mmselfsup_graft.datasets.shards.shard_cache.{denied}', refuse)
    with pytest.raises(DataError, match=r'belongs to another user .*choose a folder of your own'):
        data[0]


def test_an_index_in_the_root_folder(written, monkeypatch):
    monkeypatch.chdir(written)  # holds a file of that name, which is another one
    read = []
    content = (written / 'index.json').read_bytes()
    monkeypatch.setattr(Store, 'read', lambda self, name: read.append(self.path(name)) or content)
    open_shards(written, ann_file='/index.json')
    assert read == ['/index.json']
