"""Raw copies: the pixels of the source, mapped and not copied, labels of the tree, clear about damage."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_datasets.shard_data import PIPELINE, folder_of, picture
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import ImageFolder, RawShards, ShardSampler
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.errors import DataError

COUNT = 11


@pytest.fixture
def copied(tmp_path) -> Path:
    """Three shards of color images and a gray one, none of them scaled."""
    root = folder_of(tmp_path / 'source', COUNT)
    Image.fromarray(picture(99)[..., 0]).save(root / 'train' / 'c1' / 'gray.png')
    folder_of(tmp_path / 'other', 3)
    os.rename(tmp_path / 'other' / 'train', root / 'val')
    store_resized(root, tmp_path / 'copy', form='raw', per_shard=5)
    return tmp_path / 'copy'


def source(copied: Path, **options: object) -> ImageFolder:
    return ImageFolder(str(copied.parent / 'source'), pipeline=PIPELINE, **options)


@pytest.mark.parametrize(
    'options', [{'split': 'train'}, {'split': 'val'}, {'with_label': False}, {'split': 'train', 'subset': 'test'}]
)
def test_samples_are_those_of_the_folder(copied, options):
    raw, folder = RawShards(str(copied), pipeline=PIPELINE, **options), source(copied, **options)
    assert len(raw) == len(folder) > 0
    assert raw.classes == folder.classes
    assert np.array_equal(raw.labels(), folder.labels())  # None for both without labels
    for one, other in zip(raw, folder):
        assert (one['name'], one['label']) == (other['name'], other['label'])
        assert np.array_equal(one['img'], other['img'])


def test_images_are_views_of_the_mapped_file(copied):
    data = RawShards(str(copied), split='train')
    infos = [data.read_image(data.get_data_info(index)) for index in range(len(data))]
    assert [info['img'].shape for info in infos] == [(12, 10, 3)] * COUNT + [(12, 10)]
    assert not any(info['img'].flags.writeable or info['img'].flags.owndata for info in infos)
    assert len(data._maps) == len(set(data.shards())) == 3
    for number, shard in data._maps.items():
        mine = [info['img'] for info in infos if info['shard'] == number]
        assert all(np.shares_memory(image, shard) for image in mine)


def test_forked_and_pickled(copied):
    data = RawShards(str(copied), split='train', pipeline=PIPELINE)
    expected = [sample['img'].tobytes() for sample in data]
    again = pickle.loads(pickle.dumps(data))
    assert again._maps == {}
    assert len(pickle.dumps(data)) < 10_000
    for each in (data, again, data.get_subset(list(range(len(data))))):
        loader = DataLoader(each, batch_size=3, num_workers=2, collate_fn=list)
        assert [sample['img'].tobytes() for batch in loader for sample in batch] == expected


def test_the_sampler_of_shards_takes_it(copied):
    data = RawShards(str(copied), split='train', pipeline=PIPELINE)
    sampler = ShardSampler(data, seed=0, window=2, run=2)
    assert sorted(sampler) == list(range(len(data)))
    assert data.shards().tolist() == sorted(data.shards())


def test_a_copy_that_is_not_there_not_finished_or_no_raw_one(copied, tmp_path):
    with pytest.raises(DataError, match=r'manifest.json.* cannot be read .*store_resized.py --format raw'):
        RawShards(str(tmp_path / 'none'))
    with pytest.raises(DataError, match="holds no image below 'test'"):
        RawShards(str(copied), split='test')
    manifest = copied / 'manifest.json'
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, 'complete': False}))
    with pytest.raises(DataError, match='is not finished; run the same command again'):
        RawShards(str(copied))
    manifest.write_text('{')
    with pytest.raises(DataError, match='is damaged'):
        RawShards(str(copied))
    store_resized(copied.parent / 'source', tmp_path / 'jpeg')
    with pytest.raises(DataError, match='is not a copy of raw images'):
        RawShards(str(tmp_path / 'jpeg'))


def test_damaged_shards(copied):
    os.truncate(copied / 'images-000001.bin', 100)
    with pytest.raises(DataError, match=r'images-000001.bin.* has 100 bytes, expected \d+'):
        RawShards(str(copied))
    os.remove(copied / 'images-000001.bin')
    with pytest.raises(DataError, match=r'images-000001.bin.* is missing'):
        RawShards(str(copied))
    store_resized(copied.parent / 'source', copied, form='raw', per_shard=5)  # as the message says
    assert len(RawShards(str(copied), split='train')) == COUNT + 1
