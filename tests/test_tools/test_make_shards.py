"""Archives from a folder: the same bytes again and after a kill; indices of existing ones; refusals; a training run."""

import hashlib
import json
import multiprocessing
import os
import signal
import tarfile
from pathlib import Path

import fsspec
import pytest
from test_datasets.shard_data import folder_of, png, write_tar
from test_tools.tiny_runs import assert_same_run, call_tool, fresh_name, tiny_config, write_config

import mmselfsup_graft.datasets.shards.destination as destination
from mmselfsup_graft.datasets import TarShards
from mmselfsup_graft.datasets.shards.make_shards import index_shards, make_shards
from mmselfsup_graft.datasets.shards.shard_index import expand_braces
from mmselfsup_graft.datasets.shards.stores import Store
from mmselfsup_graft.errors import ConfigError, DataError

TOOL = 'dataset_tools/make_shards'


@pytest.fixture
def source(tmp_path) -> Path:
    return folder_of(tmp_path / 'source', 17, classes=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith('.')}


def make(source: Path, target: Path, *options: object):
    return call_tool(TOOL, source, target, '--split', 'train', '--per-shard', 5, *options)


def test_archives_hold_the_files_and_their_labels(source, tmp_path):
    done = make(source, tmp_path / 'out', '--name', 'photos')
    assert done.code == 0, done.err
    assert '17 images in 4 archives' in done.out
    found = {}
    for number in range(4):
        with tarfile.open(tmp_path / 'out' / f'photos-{number:06d}.tar') as archive:
            names = archive.getnames()
            found |= {name: archive.extractfile(name).read() for name in names}
        assert [name.rpartition('.')[2] for name in names] == ['cls', 'png'] * (len(names) // 2)
    images = sorted((source / 'train').rglob('*.png'))
    for image in images:
        key = str(image.relative_to(source / 'train').with_suffix(''))
        assert found[f'{key}.png'] == image.read_bytes()
        assert found[f'{key}.cls'].decode() == image.parent.name[-1]
    assert len(found) == 2 * len(images) == 34
    manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
    assert manifest['complete'] is True
    assert [shard['images'] for shard in manifest['shards']] == [5, 5, 5, 2]
    for shard in manifest['shards']:
        content = (tmp_path / 'out' / shard['name']).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (shard['sha256'], shard['bytes'])


def test_the_order_is_random_and_seeded_or_that_of_the_paths(source, tmp_path):
    orders = {}
    for name, options in (('a', ()), ('b', ('--seed', 0)), ('c', ('--seed', 1)), ('d', ('--sorted',))):
        assert make(source, tmp_path / name, *options).code == 0
        data = TarShards(str(tmp_path / name))
        orders[name] = [data.get_data_info(number)['img_path'].partition('.tar/')[2] for number in range(17)]
    assert orders['a'] == orders['b'] != orders['c']
    assert orders['d'] == sorted(orders['a']) != orders['a']
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')


def test_without_labels(source, tmp_path):
    assert make(source, tmp_path / 'out', '--no-labels').code == 0
    assert TarShards(str(tmp_path / 'out')).labels() is None


def test_several_processes_write_the_same(source, tmp_path):
    assert make(source, tmp_path / 'one').code == 0
    done = make(source, tmp_path / 'two', '--jobs', 2)
    assert done.code == 0, done.err
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')


def killed_after(count: int, source: Path, target: Path) -> None:
    """Write archives in a process that is killed when it gives its ``count``-th file its name."""

    def run() -> None:
        replace = os.replace

        def counting(old: str, new: str) -> None:
            nonlocal count
            count -= 1
            if count < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(old, new)

        destination.os.replace = counting
        make_shards(source, target, split='train', per_shard=5)

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_killed_run_goes_on(source, tmp_path):
    assert make(source, tmp_path / 'whole').code == 0
    whole = contents(tmp_path / 'whole')
    for count in (2, 5, 10):  # after the first archive, after the second and its table, before the last manifest
        target = tmp_path / f'killed_{count}'
        killed_after(count, source, target)
        part = contents(target)
        assert json.loads(part.pop('manifest.json'))['complete'] is False
        assert part.items() <= whole.items()
        times = {name: (target / name).stat().st_mtime_ns for name in part}
        assert make(source, target).code == 0
        assert contents(target) == whole
        tabled = [f'images-{number:06d}.tar' for number in range((count - 1) // 2)]
        assert all((target / name).stat().st_mtime_ns == times[name] for name in tabled)
        assert not list(target.glob('.*.json'))
        assert not list(target.glob('.*.part'))
    for name in ('.images-000001.tar.json', '.images-000002.tar.json'):  # killed while it removed these
        (target / name).write_text('{}')
    assert make(source, target).code == 0
    assert contents(target) == whole
    assert not list(target.glob('.*.json'))


def test_refusals(source, tmp_path):
    assert make(source, tmp_path / 'out').code == 0
    assert 'seed = 0, now 2' in make(source, tmp_path / 'out', '--seed', 2).error()
    assert 'does not exist' in make(tmp_path / 'none', tmp_path / 'new').error()
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in make(source, tmp_path / 'file' / 'out').error()
    for arguments in ([source], ['--index-only', source, tmp_path], [source, tmp_path, '--out', 'x']):
        assert call_tool(TOOL, *arguments).code == 2
    with pytest.raises(ConfigError, match='per_shard is 0'):
        make_shards(source, tmp_path / 'new', per_shard=0)


# ---------------------------------------------------------------- existing archives
def test_an_index_made_afterwards_is_the_same(source, tmp_path):
    target = tmp_path / 'out'
    assert make(source, target).code == 0
    first = json.loads((target / 'index.json').read_text())
    assert 'exists and was not changed' in call_tool(TOOL, '--index-only', target).error()
    done = call_tool(TOOL, '--index-only', target, '--force')
    assert done.code == 0, done.err
    assert '17 images, 17 labeled, in 4 archives' in done.out
    second = json.loads((target / 'index.json').read_text())
    for old, new in zip(first['shards'], second['shards'], strict=True):
        assert {**old, 'sha256': ''} == new  # known to the writer only
    pattern, out = f'{target}/images-{{000001..000002}}.tar', tmp_path / 'some.json'
    done = call_tool(TOOL, '--index-only', pattern, '--out', out, '--jobs', 2)
    assert done.code == 0, done.err
    assert json.loads(out.read_text())['shards'] == second['shards'][1:3]
    data = TarShards(str(target), ann_file=str(out))
    assert len(data) == 10


def test_an_index_of_a_store(tmp_path):
    store = fsspec.filesystem('memory')
    store.pipe_file('/far/a-1.tar', write_tar(tmp_path / 'a.tar', {'x.png': png(0), 'x.cls': b'7'}).read_bytes())
    try:
        with pytest.raises(ConfigError, match='give a path for the index'):
            index_shards('memory://far/a-{1..1}.tar')
        (shard,) = index_shards('memory://far/a-{1..1}.tar', tmp_path / 'index.json')
        assert (shard.keys, shard.labels, shard.offsets) == (['x'], [7], [512])
        with pytest.raises(DataError, match=r'memory://far/a-2.tar does not exist'):
            index_shards('memory://far/a-{1..2}.tar', tmp_path / 'other.json')
    finally:
        store.rm('/far', recursive=True)


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        ({'x.png': b'1', 'x.jpg': b'2'}, "'x' has two images, 'png' and 'jpg'"),
        ({'x.png': b'1', 'x.cls': b'one'}, r"label 'x.cls' is b'one', expected a whole number"),
        ({'x.txt': b'1'}, 'no image in 1 archives'),
    ],
)
def test_archives_of_another_layout(tmp_path, members, message):
    write_tar(tmp_path / 'data' / 'a.tar', members)
    with pytest.raises(DataError, match=message):
        index_shards(str(tmp_path / 'data'))
    assert not (tmp_path / 'data' / 'index.json').exists()


def test_damaged_and_missing_archives(tmp_path):
    path = write_tar(tmp_path / 'data' / 'a.tar', {f'{number}.png': png(number) for number in range(4)})
    whole = path.read_bytes()
    for content, message in (
        (whole[:3000], 'cut off|damaged'),
        (whole[: 512 + 100], 'cut off|damaged'),
        (b'x' * 4096, 'not an uncompressed tar archive'),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            index_shards(str(tmp_path / 'data'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=r'no \*.tar in'):
        index_shards(str(tmp_path / 'empty'))
    with pytest.raises(DataError, match='is neither a folder nor a pattern'):
        index_shards(str(tmp_path / 'none'))


def test_ranges_of_names():
    assert expand_braces('a.tar') == ['a.tar']
    assert expand_braces('a-{008..011}.tar') == ['a-008.tar', 'a-009.tar', 'a-010.tar', 'a-011.tar']
    assert expand_braces('{0..1}-{0..1}.tar') == ['0-0.tar', '0-1.tar', '1-0.tar', '1-1.tar']
    with pytest.raises(DataError, match='runs backwards'):
        expand_braces('a-{3..1}.tar')


# ---------------------------------------------------------------- training
def test_a_run_on_archives_that_is_stopped_goes_on_to_the_same_bits(tmp_path):
    folder_of(tmp_path, 24)
    make_shards(tmp_path, tmp_path / 'shards', split='train', per_shard=5)
    base = tiny_config('mim', batch=4, epochs=2)
    loader = base['train_dataloader']
    loader['dataset'] = dict(
        type='TarShards', data_root=str(tmp_path / 'shards'), pipeline=loader['dataset']['pipeline']
    )
    loader['sampler'] = dict(type='ShardSampler', window=2, run=2)
    base['default_hooks']['checkpoint'] = dict(by_epoch=False, interval=1, max_keep_ckpts=-1)
    config = write_config(tmp_path / 'shards.py', base)
    done = call_tool('train', config, '--work-dir', tmp_path / 'whole', *fresh_name())
    assert done.code == 0, done.err
    loader.update(num_workers=2, persistent_workers=True)
    config = write_config(tmp_path / 'workers.py', base)
    (tmp_path / 'stopped').mkdir()
    start = tmp_path / 'whole' / 'iter_8.pth'  # in the middle of the second epoch
    done = call_tool('train', config, '--work-dir', tmp_path / 'stopped', '--resume', start, *fresh_name())
    assert done.code == 0, done.err
    assert_same_run(tmp_path / 'stopped' / 'iter_12.pth', tmp_path / 'whole' / 'iter_12.pth')


def test_options_of_a_store_reach_the_file_system(tmp_path, monkeypatch):
    write_tar(tmp_path / 'a-1.tar', {'x.png': png(0), 'x.cls': b'7'})
    given = []
    plain = Store.__init__
    monkeypatch.setattr(Store, '__init__', lambda self, root, options=None: given.append(options) or plain(self, root))
    options = ('anon=True', "client_kwargs={'region_name': 'x'}", 'profile=a=b')
    asked = [part for option in options for part in ('--storage-option', option)]
    done = call_tool(TOOL, '--index-only', tmp_path / 'a-{1..1}.tar', *asked)
    assert done.code == 0, done.err
    assert given == [dict(anon=True, client_kwargs={'region_name': 'x'}, profile='a=b')]
    assert 'KEY=VALUE' in call_tool(TOOL, '--index-only', tmp_path, '--storage-option', 'anon').err
    assert 'belongs to --index-only' in call_tool(TOOL, tmp_path, tmp_path / 'out', *asked).err
