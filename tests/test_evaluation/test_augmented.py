"""Augmented batches of the linear sweep: fresh every epoch, equal for any number of workers, one pass for all heads."""

import numpy as np
import pytest
import torch
from helpers import vit_config

from mmselfsup_graft.evaluation import AugmentedBatches, LinearProtocol, load_backbone
from mmselfsup_graft.registry import DATASETS, MODELS

PIPELINE = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16),
    dict(type='mmpretrain.PackInputs'),
]
DATA = dict(type='Digits', split='train', img_size=16, indices=20, pipeline=PIPELINE)


def batches(workers: int = 0, piece: int = 3, seed: int = 0, indices=range(20), feature=None) -> AugmentedBatches:
    vit = load_backbone(vit_config(in_channels=1, drop_path_rate=0.5), None)
    preprocessor = MODELS.build(dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[78.0], std=[81.0]))
    protocol = LinearProtocol(batch_size=8, seed=seed)
    return AugmentedBatches(
        vit, preprocessor, DATASETS.build(DATA), np.array(indices), protocol, piece, workers, feature
    )


def epoch_of(source: AugmentedBatches, epoch: int) -> list:
    return list(source(epoch))


def test_shapes_and_labels():
    found = epoch_of(batches(), 0)
    assert [batch.total for batch in found] == [8, 8, 4]
    assert [tuple(batch.features.shape) for batch in found] == [(8, 16), (8, 16), (4, 16)]
    labels = torch.cat([batch.labels for batch in found])
    assert sorted(labels.tolist()) == sorted(DATASETS.build(DATA).labels().tolist())
    assert not any(batch.features.requires_grad for batch in found)


def test_every_epoch_is_augmented_anew_and_repeatable():
    source = batches()
    first, second, again = (epoch_of(source, epoch) for epoch in (0, 1, 0))
    assert torch.equal(first[0].features, again[0].features)
    rows = {tuple(row.tolist()) for batch in first for row in batch.features}
    assert len(rows) == 20
    assert not any(tuple(row.tolist()) in rows for batch in second for row in batch.features)
    other = epoch_of(batches(seed=1), 0)
    assert not any(tuple(row.tolist()) in rows for batch in other for row in batch.features)


@pytest.mark.parametrize('options', [{'workers': 2}, {'piece': 5}, {'piece': 100}])
def test_workers_and_pieces_change_nothing(options):
    source, other = batches(), batches(**options)
    for epoch in (0, 1):
        for expected, batch in zip(epoch_of(source, epoch), epoch_of(other, epoch), strict=True):
            torch.testing.assert_close(batch.features, expected.features, rtol=1e-5, atol=1e-6)
            assert torch.equal(batch.labels, expected.labels)


def test_another_feature():
    source, other = batches(), batches(feature='both')
    for expected, batch in zip(epoch_of(source, 0), epoch_of(other, 0), strict=True):
        torch.testing.assert_close(batch.features[:, :16], expected.features, rtol=1e-5, atol=1e-6)
        assert batch.features.shape[1] == 32
    assert batches(feature='patch_mean').feature == 'patch_mean'


def test_only_the_given_samples_are_seen():
    chosen = [1, 4, 5, 7, 11, 12, 13, 19, 2]
    found = epoch_of(batches(indices=chosen), 0)
    labels = DATASETS.build(DATA).labels()
    assert [batch.total for batch in found] == [8]  # the ninth would be alone
    kept = np.random.default_rng((0, 0)).permutation(9)[:8]
    assert found[0].labels.tolist() == labels[np.array(chosen)[kept]].tolist()
