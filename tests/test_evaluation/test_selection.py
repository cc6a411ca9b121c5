"""Held-out parts."""

import numpy as np
import pytest

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation import KNNProtocol, LinearProtocol
from mmselfsup_graft.evaluation.protocols.selection import split_holdout


def test_the_same_share_of_every_class_and_nothing_twice():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 20, 5]))
    kept, held = split_holdout(labels, 0.2, seed=3)
    assert sorted([*kept, *held]) == list(range(35))
    assert np.bincount(labels[held]).tolist() == [2, 4, 1]
    assert [kept.tolist(), held.tolist()] == [sorted(kept), sorted(held)]


def test_the_seed_alone_decides():
    labels = np.arange(40) % 4
    first, again, other = (split_holdout(labels, 0.3, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_small_classes():
    kept, held = split_holdout(np.array([0, 0, 1, 1]), 0.9, 0)
    assert len(kept) == len(held) == 2  # one of each stays
    kept, held = split_holdout(np.array([0, 0, 1]), 0.5, 0)
    assert 2 in kept  # the only one of its class
    with pytest.raises(DataError, match='no class has two images'):
        split_holdout(np.array([0, 1]), 0.5, 0)


@pytest.mark.parametrize('kind', [KNNProtocol, LinearProtocol])
def test_unknown_ways_are_refused(kind):
    with pytest.raises(ConfigError, match="selection is 'best'; choose from"):
        kind(selection='best')
    with pytest.raises(ConfigError, match=r'holdout_share is 1\.5'):
        kind(holdout_share=1.5)
