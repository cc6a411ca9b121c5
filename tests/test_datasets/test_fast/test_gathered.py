"""Batches gathered at once are those of single samples, bit for bit."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from test_datasets.test_fast.images import CROP, FLIP, photo
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import Digits, SeededSampler, SelfSupDataset
from mmselfsup_graft.datasets.fast import Gathered, LazySamples, collate
from mmselfsup_graft.registry import FUNCTIONS, MODELS

TV = 'mmpretrain.torchvision/'
VIEW = [
    dict(type='RandomApply', transforms=[dict(type=f'{TV}RandomAffine', degrees=20, scale=(0.7, 1.1))], p=0.6),
    dict(type=f'{TV}ColorJitter', brightness=0.3, contrast=0.2),
    dict(type='PILGaussianNoise', std=0.05, p=0.7),
    FLIP,
]
TWO = dict(type='TwoViews', view1=VIEW, view2=VIEW[1:])
INDICES = [3, 0, -1, 5, 3]


class Photos(SelfSupDataset):
    """Six cuts of photographs in memory; the last one may be of another size, or the only one without a label."""

    def __init__(self, labeled=True, odd=False, partly=False, lists=False, **options):
        self.labeled, self.odd, self.partly, self.lists = labeled, odd, partly, lists
        super().__init__(seed=3, **options)

    def load_data_list(self):
        sizes = [(20, 24)] * 5 + [(24, 20) if self.odd else (20, 24)]
        values = [[0, 2] if self.lists else number % 3 for number in range(6)]
        labels = [{'gt_label': value} if self.labeled else {} for value in values]
        labels[5] = {} if self.partly else labels[5]
        return [{'img': photo(number, *size), **label} for number, (size, label) in enumerate(zip(sizes, labels))]


class ReadPhotos(Photos):
    def read_image(self, info):
        return {**info, 'img': 255 - info['img']}


def pipeline(*body, channels=3):
    return [dict(type='LoadImage', channels=channels), *body, dict(type='mmpretrain.PackInputs')]


def assert_same(one, other):
    """Equal tensors, labels and structure."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, list | tuple | LazySamples):
        assert len(one) == len(other)
        for each in zip(one, other):
            assert_same(*each)
    else:  # a DataSample
        assert one.keys() == other.keys()
        assert all(torch.equal(one.get(key), other.get(key)) for key in one.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    'body', [[], [TWO], VIEW, [dict(type='TwoViews', view1=[])]], ids=['none', 'two', 'one', 'two equal']
)
@pytest.mark.parametrize('labeled', [True, False])
def test_batches_are_those_of_single_samples(body, labeled):
    data = Photos(labeled, pipeline=pipeline(*body), fast='device')
    data.set_epoch(2)
    data.set_copies(2)
    for indices in (INDICES, [7, 1, 11]):
        gathered = data.__getitems__(indices)
        assert isinstance(gathered, Gathered)
        expected = default_collate([data[index] for index in indices])
        assert_same(collate(gathered), expected)
        assert_same(default_collate(gathered), expected)
    assert_same(collate(data.__getitems__([1, 2])), collate(copy.deepcopy(data).__getitems__([1, 2])))
    assert_same(collate(data.__getitems__([1, 2])), collate(pickle.loads(pickle.dumps(data)).__getitems__([1, 2])))
    part = data.get_subset([4, 2, 0])
    assert_same(collate(part.__getitems__([1]))['inputs'], default_collate([part[1]])['inputs'])


@pytest.mark.parametrize('mode', ['cpu', 'device'])
def test_digits_are_gathered(mode):
    data = Digits(pipeline=pipeline(channels=1), fast=mode, indices=20)
    gathered = data.__getitems__([4, 2])
    assert isinstance(gathered, Gathered)
    batch = collate(gathered)
    assert batch['inputs'].shape == (2, 1, 16, 16)
    assert batch['inputs'][1, 0].equal(torch.from_numpy(data.get_data_info(2)['img']))
    assert [int(sample.gt_label) for sample in batch['data_samples']] == data.labels()[[4, 2]].tolist()


@pytest.mark.parametrize(
    ('cls', 'body', 'options'),
    [
        (Photos, [FLIP], dict(fast='cpu')),
        (Photos, [CROP], dict(fast='device')),
        (Photos, [CROP], dict(fast='nvjpeg')),
        (Photos, [], dict(fast=False)),
        (Photos, [], dict(fast='device', odd=True)),
        (Photos, [], dict(fast='device', channels=1)),
        (Photos, [FLIP], dict(fast='device', partly=True)),
        (Photos, [FLIP], dict(fast='device', lists=True)),
        (ReadPhotos, [FLIP], dict(fast='device')),
    ],
)
def test_what_cannot_be_gathered_comes_sample_by_sample(cls, body, options):
    channels = options.pop('channels', 3)
    data = cls(pipeline=pipeline(*body, channels=channels), **options)
    samples = data.__getitems__([1, 2, 1])
    assert not isinstance(samples, Gathered)
    alone = data[1]
    assert_same(samples[0]['data_samples'], alone['data_samples'])
    assert samples[0]['inputs'] is not alone['inputs']
    assert len(collate(samples)['data_samples']) == 3


def test_partly_labelled_images_keep_their_labels():
    data = Photos(pipeline=pipeline(TWO), fast='device', partly=True)
    assert data.labels() is None
    samples = data.__getitems__(INDICES)
    for sample, index in zip(samples, INDICES, strict=True):
        assert_same(sample, data[index])
    assert [int(each['data_samples'].get('gt_label', -1)) for each in samples] == [0, 0, -1, -1, 0]


@pytest.mark.parametrize('labeled', [True, False])
def test_a_batch_does_not_look_into_the_list_of_samples(labeled, monkeypatch):
    data, asked = Photos(labeled, pipeline=pipeline(TWO), fast='device'), []
    monkeypatch.setattr(Photos, 'get_data_info', lambda self, index: asked.append(index))
    for _ in range(2):
        batch = collate(data.__getitems__(INDICES))
        assert [each.get('gt_label') is not None for each in batch['data_samples']] == [labeled] * len(INDICES)
    assert asked == []


def test_workers_give_the_same_batches():
    def load(workers):
        data = Photos(pipeline=pipeline(TWO), fast='device')
        loader = DataLoader(data, 2, sampler=SeededSampler(data, seed=1), num_workers=workers, collate_fn=collate)
        return list(loader)

    assert_same(load(0), load(2))


def test_the_caller_keeps_its_random_state():
    data = Photos(pipeline=pipeline(TWO), fast='device')
    before = torch.default_generator.get_state()
    data.__getitems__([0, 1])
    assert torch.equal(torch.default_generator.get_state(), before)


def test_indices_out_of_range():
    gathered = (data := Photos(pipeline=pipeline(), fast='device')).__getitems__([0, 1])
    for wrong in ([0, 6], [-7]):
        with pytest.raises(IndexError, match=r'Photos.*6 samples'):
            data.__getitems__(wrong)
    with pytest.raises(IndexError, match='2 samples'):
        gathered[2]
    assert len(list(gathered)) == len(gathered) == 2


@pytest.mark.parametrize('several', [False, True])
def test_preprocessors_take_them(several):
    body = [TWO] if several else VIEW
    data = Photos(pipeline=pipeline(*body), fast='device')
    prepare = MODELS.build(dict(type='SelfSupDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3))
    found = prepare(collate(data.__getitems__(INDICES)))
    expected = prepare(default_collate([data[index] for index in INDICES]))
    assert_same(found['inputs'], expected['inputs'])
    assert isinstance(found['data_samples'], LazySamples)
    assert found['data_samples']._made is None  # nobody looked


def test_mixed_labels_arrive():
    data = Photos(pipeline=pipeline(), fast='device')
    mixing = dict(augments=dict(type='mmpretrain.Mixup', alpha=0.8), probs=1.0)
    prepare = MODELS.build(dict(type='ClsDataPreprocessor', num_classes=3, batch_augments=mixing))
    outputs = []
    for batch in (collate(data.__getitems__(INDICES)), default_collate([data[index] for index in INDICES])):
        np.random.seed(0), torch.manual_seed(0)
        outputs.append(prepare(batch, training=True))
    assert_same(*outputs)
    assert 'gt_score' in outputs[0]['data_samples'][0]


def test_configs_find_collate():
    assert FUNCTIONS.get('collate') is collate
