import copy
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import ImageFolder, SeededSampler, SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.registry import DATASETS

PIPELINE = [
    {'type': 'LoadImage'},
    {'type': 'mmpretrain.torchvision/RandomResizedCrop', 'size': 8, 'scale': (0.2, 1.0)},
    {'type': 'mmpretrain.PackInputs'},
]


class InMemory(SelfSupDataset):
    """Ten samples that draw from all three generators; number 3 has no label if asked."""

    def __init__(self, labeled=True, count=10, **kwargs):
        self.labeled, self.count = labeled, count
        super().__init__(pipeline=[self.draw], **kwargs)

    def load_data_list(self):
        samples = [{'img': np.full((2, 2), i, np.uint8), 'gt_label': i % 2} for i in range(self.count)]
        if not self.labeled:
            del samples[3]['gt_label']
        return samples

    @staticmethod
    def draw(info):
        numbers = (random.random(), float(np.random.rand()), float(torch.rand(1)))
        return {'idx': info['sample_idx'], 'pixel': int(info['img'][0, 0]), 'drawn': numbers}


def spoil(path):
    path.write_bytes(path.read_bytes()[:60])


def batches(dataset, workers=0, skip=0, epoch=0, batch_size=4, persistent=False):
    sampler = SeededSampler(dataset, seed=7)
    sampler.set_epoch(epoch)
    sampler.skip(skip)
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=list, persistent_workers=persistent
    )


def flat(loader):
    return [sample for batch in loader for sample in batch]


def test_sample_is_the_same_for_any_number_of_workers_and_after_skipping():
    alone = flat(batches(InMemory(), epoch=3))
    assert sorted(sample['idx'] for sample in alone) == list(range(10))
    assert flat(batches(InMemory(), workers=2, epoch=3)) == alone
    assert flat(batches(InMemory(), skip=4, epoch=3)) == alone[4:]
    assert flat(batches(InMemory(), workers=2, skip=8, epoch=3)) == alone[8:]


def test_persistent_workers_see_epoch_and_seed():
    def three_epochs(workers):
        loader = batches(InMemory(), workers, persistent=workers > 0)
        first = flat(loader)
        loader.sampler.set_epoch(1)
        second = flat(loader)
        loader.sampler.set_seed(8)
        return first, second, flat(loader)

    alone = three_epochs(0)
    assert three_epochs(2) == alone
    drawn = [{sample['idx']: sample['drawn'] for sample in epoch} for epoch in alone]
    for index in range(10):
        assert len({epoch[index] for epoch in drawn}) == 3


def test_batched_access_equals_single_access():
    dataset = InMemory()
    assert dataset.__getitems__([3, 1]) == [dataset[3], dataset[1]]
    assert dataset[-1] == dataset[9]
    assert dataset[2]['drawn'] == dataset[2]['drawn'] != dataset[4]['drawn']


def test_caller_random_state_is_untouched():
    dataset = InMemory()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    dataset[0], dataset.__getitems__([1, 2])
    assert (torch.rand(1), np.random.rand(), random.random()) == expected


def test_iteration_ends_and_bad_index_raises():
    assert len(list(InMemory())) == 10
    with pytest.raises(IndexError, match='10'):
        InMemory()[10]


def test_deep_copy_and_subset_have_shared_state_of_their_own():
    dataset = InMemory()
    other, subset = copy.deepcopy(dataset), dataset.get_subset([4, 5])
    other.set_epoch(5), subset.set_epoch(5)
    assert other._clock.is_shared()
    assert other._corrupt.is_shared()
    assert subset._clock.is_shared()
    assert dataset[0]['drawn'] != other[0]['drawn']
    assert (len(subset), subset[0]['pixel'], len(subset._corrupt)) == (2, 4, 2)


def test_labels_classes_indices_and_lazy_init():
    assert InMemory().labels().tolist() == [0, 1] * 5
    assert InMemory().labels().dtype == np.int64
    assert InMemory(labeled=False).labels() is None
    assert InMemory(indices=3).labels().tolist() == [0, 1, 0]
    assert InMemory(indices=[9, 0], serialize_data=False).labels().tolist() == [1, 0]
    assert InMemory(metainfo={'classes': ['a', 'b']}).classes == ('a', 'b')
    assert InMemory().classes == ('0', '1')
    assert InMemory(labeled=False).classes is None
    lazy = InMemory(lazy_init=True)
    assert not lazy._fully_initialized
    assert lazy.num_corrupt == 0
    assert len(lazy) == 10


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match='datta_root'):
        InMemory(datta_root='x')
    with pytest.raises(ConfigError, match=r"'ignore'.*'skip' or 'raise'"):
        InMemory(on_corrupt='ignore')
    for wrong in ({'count': 0}, {'indices': []}, {'indices': [10]}):
        with pytest.raises(DataError, match='InMemory'):
            InMemory(**wrong)


def test_corrupt_image_is_replaced_and_counted(image_folder):
    root = image_folder(*[f'{number}.png' for number in range(6)])
    spoil(root / '2.png'), spoil(root / '3.png')
    (root / '5.png').write_text('no image')
    dataset = ImageFolder(str(root), pipeline=[{'type': 'LoadImage'}])
    assert dataset.num_corrupt == 0
    samples = [dataset[index] for index in range(6)]
    assert [sample['sample_idx'] for sample in samples] == [0, 1, 4, 4, 4, 0]
    assert dataset.num_corrupt == 3
    assert dataset.corrupt_files() == [str(root / f'{number}.png') for number in (2, 3, 5)]


def test_replacement_draws_with_the_original_index(image_folder):
    root = image_folder('0.png', '1.png', '2.png')
    draws = [{'type': 'LoadImage'}, lambda info: {**info, 'drawn': torch.rand(1).item()}]
    expected = ImageFolder(str(root), pipeline=draws)[1]['drawn']
    spoil(root / '1.png')
    sample = ImageFolder(str(root), pipeline=draws)[1]
    assert (sample['sample_idx'], sample['drawn']) == (2, expected)


def test_corrupt_images_are_counted_across_workers(image_folder):
    root = image_folder(*[f'{number}.png' for number in range(8)])
    spoil(root / '1.png'), spoil(root / '6.png')
    dataset = ImageFolder(str(root), pipeline=PIPELINE)
    sampler = SeededSampler(dataset, shuffle=False, seed=0)
    loader = DataLoader(dataset, 2, sampler=sampler, num_workers=2, collate_fn=default_collate)
    inputs = torch.cat([batch['inputs'] for batch in loader])
    assert dataset.num_corrupt == 2
    sampler.set_epoch(0)
    alone = DataLoader(dataset, 2, sampler=sampler, collate_fn=default_collate)
    assert torch.equal(torch.cat([batch['inputs'] for batch in alone]), inputs)


def test_one_warning_for_each_corrupt_image(image_folder, monkeypatch):
    said = []
    monkeypatch.setattr('mmselfsup_graft.datasets.self_sup_dataset.print_log', lambda text, **_: said.append(text))
    root = image_folder('0.png', '1.png')
    spoil(root / '0.png')
    dataset = ImageFolder(str(root), pipeline=[{'type': 'LoadImage'}])
    dataset[0], dataset[0]
    assert len(said) == 1
    assert str(root / '0.png') in said[0]
    assert '\n' not in said[0]


@pytest.mark.parametrize('arguments', [{'on_corrupt': 'raise'}, {'test_mode': True}])
def test_corrupt_image_raises_if_asked(image_folder, arguments):
    root = image_folder('0.png', '1.png')
    spoil(root / '1.png')
    dataset = ImageFolder(str(root), pipeline=[{'type': 'LoadImage'}], **arguments)
    assert dataset[0]['sample_idx'] == 0
    with pytest.raises(DataError, match=r'1\.png'):
        dataset[1]


def test_only_unreadable_images_raise(image_folder):
    root = image_folder('0.png', '1.png')
    spoil(root / '0.png'), spoil(root / '1.png')
    dataset = ImageFolder(str(root), pipeline=[{'type': 'LoadImage'}])
    with pytest.raises(DataError, match='2 images in succession'):
        dataset[0]


def test_error_survives_the_way_back_from_a_worker():
    try:
        raise DataError('some message')
    except DataError:
        wrapped = ExceptionWrapper()
    with pytest.raises(DataError, match='some message'):
        wrapped.reraise()


def test_none_from_a_pipeline_counts_as_unreadable():
    dataset = InMemory()
    dataset.pipeline = lambda info: None if info['sample_idx'] == 0 else info['sample_idx']
    assert dataset[0] == 1
    assert dataset.corrupt_files() == ['in-memory image 0']


@pytest.mark.parametrize('kind', ['Digits', 'SamplePhotos'])
def test_a_folder_that_would_not_be_read_is_refused(kind, tmp_path):
    with pytest.raises(ConfigError, match=r'data_root=.*ImageFolder'):
        DATASETS.build(dict(type=kind, data_root=str(tmp_path)))
