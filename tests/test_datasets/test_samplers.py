import pytest
from mmengine.dataset import DefaultSampler

from mmselfsup_graft.datasets import SeededSampler
from mmselfsup_graft.errors import ConfigError


class Told(list):
    """A dataset that remembers what it was told."""

    def set_epoch(self, epoch):
        self.epoch = epoch

    def set_seed(self, seed):
        self.seed = seed


def on_rank(monkeypatch, rank, world, count, **kwargs):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world))
    return SeededSampler(Told(range(count)), **kwargs)


@pytest.mark.parametrize('shuffle', [True, False])
def test_same_order_as_mmengine(shuffle):
    ours, theirs = SeededSampler(range(17), shuffle, seed=3), DefaultSampler(range(17), shuffle, seed=3)
    for epoch in (0, 4):
        ours.set_epoch(epoch), theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)


@pytest.mark.parametrize(('round_up', 'lengths'), [(True, (6, 6)), (False, (6, 5))])
def test_two_ranks_cover_all(monkeypatch, round_up, lengths):
    parts = [on_rank(monkeypatch, rank, 2, 11, seed=1, round_up=round_up) for rank in range(2)]
    assert tuple(map(len, parts)) == lengths == tuple(len(list(part)) for part in parts)
    assert set(parts[0]) | set(parts[1]) == set(range(11))
    assert len(set(parts[0]) & set(parts[1])) == round_up  # the one repeated sample


def test_skip_holds_for_the_next_iteration_only(monkeypatch):
    sampler = on_rank(monkeypatch, 1, 2, 20, seed=1)
    full = list(sampler)
    sampler.skip(4)
    assert len(sampler) == 10
    assert list(sampler) == full[4:]
    assert list(sampler) == full
    sampler.skip(10)
    assert list(sampler) == []
    for wrong in (-1, 11):
        with pytest.raises(ConfigError, match='0 to 10'):
            sampler.skip(wrong)


def test_dataset_is_told_seed_and_epoch():
    dataset = Told(range(4))
    sampler = SeededSampler(dataset, seed=9)
    assert (dataset.seed, dataset.epoch) == (9, 0)
    sampler.set_epoch(3), sampler.set_seed(2)
    assert (dataset.seed, dataset.epoch, sampler.seed) == (2, 3, 2)
    assert isinstance(SeededSampler(dataset).seed, int)
    assert dataset.seed >= 0
