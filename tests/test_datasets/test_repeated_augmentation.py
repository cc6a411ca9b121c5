"""Repeated augmentation: the order of mmpretrain's sampler, and copies that differ."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.datasets import RepeatAugSampler
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import RepeatedAugSampler, SeededSampler, SelfSupDataset
from mmselfsup_graft.errors import ConfigError

COUNT = 10


class Noisy(SelfSupDataset):
    """Samples of an image number and a random number."""

    def load_data_list(self):
        return [{'img': np.full((2, 2), number, np.uint8)} for number in range(COUNT)]


def sample(info):
    return int(info['img'][0, 0]), float(torch.rand(()))


def noisy(**options):
    return Noisy(pipeline=[sample], **options)


def on_rank(monkeypatch, rank, world, **options):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world))
    monkeypatch.setattr('mmpretrain.datasets.samplers.repeat_aug.get_dist_info', lambda: (rank, world))
    return RepeatedAugSampler(noisy(), seed=3, **options)


@pytest.mark.parametrize(('world', 'repeats', 'shuffle'), [(1, 3, True), (2, 3, True), (4, 2, True), (3, 3, False)])
def test_images_in_the_order_of_mmpretrains_sampler(monkeypatch, world, repeats, shuffle):
    for rank in range(world):
        ours = on_rank(monkeypatch, rank, world, repeats=repeats, shuffle=shuffle)
        theirs = RepeatAugSampler(noisy(), shuffle=shuffle, num_repeats=repeats, seed=3)
        for epoch in (0, 5):
            ours.set_epoch(epoch), theirs.set_epoch(epoch)
            assert [index % COUNT for index in ours] == list(theirs)
            assert len(ours) == len(list(ours)) == math.ceil(COUNT / world)


@pytest.mark.parametrize('world', [1, 2, 5])
def test_ranks_partition_the_copies(monkeypatch, world):
    parts = [list(on_rank(monkeypatch, rank, world)) for rank in range(world)]
    joined = [index for part in parts for index in part]
    assert len(set(joined)) == len(joined) == COUNT
    images, counts = np.unique([index % COUNT for index in joined], return_counts=True)
    assert (sorted(counts), len(images)) == ([1, 3, 3, 3], 4)
    if world == 5:  # at most one copy more than an even share
        assert all(len({index % COUNT for index in part}) == len(part) for part in parts)


def test_more_ranks_than_copies(monkeypatch):
    """The first ones are drawn again, as few as there are."""
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (39, 40))
    (index,) = RepeatedAugSampler(noisy(), shuffle=False, repeats=3)
    assert index == 3  # there are 30 entries: the last rank has the tenth, image 3, copy 0


def test_copies_of_an_image_are_augmented_differently():
    dataset = noisy(seed=1)
    plain = [dataset[index] for index in range(COUNT)]
    RepeatedAugSampler(dataset, seed=1)
    copies = [dataset[index] for index in range(3 * COUNT)]
    assert copies[:COUNT] == plain  # copy 0 is what it was without copies
    assert [image for image, _ in copies] == 3 * list(range(COUNT))
    assert len({noise for _, noise in copies}) == 3 * COUNT
    assert dataset[-1] == copies[COUNT - 1]
    assert len(dataset) == COUNT
    for beyond in (3 * COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            dataset[beyond]


def test_without_copies_iteration_ends_as_before():
    dataset = noisy()
    SeededSampler(dataset)
    assert len(list(dataset)) == COUNT
    with pytest.raises(IndexError):
        dataset[COUNT]


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_resumed_in_its_middle_has_the_same_samples(workers):
    def batches(skipped):
        dataset = noisy()
        sampler = RepeatedAugSampler(dataset, seed=4)
        sampler.set_epoch(2)
        sampler.skip(skipped)
        return list(DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=tuple))

    whole = batches(0)
    assert len(whole) == COUNT // 2
    assert batches(4) == whole[2:]


def test_what_is_refused():
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match='repeats must be a whole number of at least 1'):
            RepeatedAugSampler(noisy(), repeats=wrong)
    with pytest.raises(ConfigError, match='list cannot augment an image several times'):
        RepeatedAugSampler([1, 2, 3])
    with pytest.raises(ConfigError, match='RepeatedAugSampler: cannot skip 11 samples'):
        RepeatedAugSampler(noisy()).skip(11)
