"""The order of shards: exact over ranks, a function of (seed, epoch), reading neighbors, resumable."""

import numpy as np
import pytest

from mmselfsup_graft.datasets import SeededSampler, ShardSampler
from mmselfsup_graft.errors import ConfigError

SIZES = (7, 12, 1, 9, 12, 5, 12, 3)


class Sharded(list):
    """A data set that knows its shards only."""

    def __init__(self, sizes=SIZES):
        super().__init__(range(sum(sizes)))
        self.sizes = sizes

    def shards(self):
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def sampler(monkeypatch, rank=0, world=1, data=None, **options):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world))
    return ShardSampler(data or Sharded(), **{'seed': 1, 'window': 3, 'run': 4, **options})


@pytest.mark.parametrize('epoch', [0, 5])
@pytest.mark.parametrize('world', [1, 2, 3, 7])
def test_every_sample_comes_once_over_all_ranks(monkeypatch, world, epoch):
    count = sum(SIZES)
    for round_up in (True, False):
        ranks = [sampler(monkeypatch, rank, world, round_up=round_up) for rank in range(world)]
        for each in ranks:
            each.set_epoch(epoch)
        pieces = [list(each) for each in ranks]
        assert [len(piece) for piece in pieces] == [len(each) for each in ranks]
        joined = [index for piece in pieces for index in piece]
        assert sorted(joined[:count]) == list(range(count))
        assert joined[:count] == ranks[0].order().tolist()  # each rank has one piece of the common order
        more = -count % world if round_up else 0
        assert joined[count:] == joined[:more]
        if round_up:
            assert len({len(piece) for piece in pieces}) == 1


def test_more_ranks_than_samples(monkeypatch):
    data = Sharded((2, 1))
    pieces = [list(sampler(monkeypatch, rank, 5, data)) for rank in range(5)]
    assert all(len(piece) == 1 for piece in pieces)
    assert {index for piece in pieces for index in piece} == {0, 1, 2}


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch):
    first, second = sampler(monkeypatch), sampler(monkeypatch, rank=1, world=2)
    assert first.order().tolist() == second.order().tolist()
    orders = {}
    for seed in (1, 2):
        for epoch in (0, 1, 2):
            first.set_seed(seed), first.set_epoch(epoch)
            orders[seed, epoch] = tuple(first.order())
    assert len(set(orders.values())) == 6
    first.set_seed(2), first.set_epoch(1)
    list(first)
    assert tuple(first.order()) == orders[2, 1]


def test_samples_are_mixed_within_windows_and_neighbors_stay_together(monkeypatch):
    data = Sharded((40,) * 12)
    shards = data.shards()
    one = sampler(monkeypatch, data=data, window=3, run=8)
    seen, cuts = [], set()
    for epoch in range(4):
        one.set_epoch(epoch)
        order = one.order()
        windows = [frozenset(shards[order[start : start + 120]]) for start in range(0, 480, 120)]
        assert all(len(window) == 3 for window in windows)
        assert len(frozenset.union(*windows)) == 12
        assert any(len(set(shards[order[start : start + 24]])) > 1 for start in range(0, 480, 120))
        seen.append(tuple(windows))
        breaks = np.flatnonzero(np.diff(order) != 1)
        assert 480 / (len(breaks) + 1) > 5  # mean length of a run: 8 but for those at the ends of a shard
        starts = order[np.append(0, breaks + 1)]
        cuts.add(tuple(sorted({int(start) % 40 for start in starts} - {0})))
    assert len(set(seen)) == 4
    assert len(cuts) > 1  # the runs are cut elsewhere in another epoch


def test_one_window_and_runs_of_one_mix_everything(monkeypatch):
    order = sampler(monkeypatch, window=100, run=1).order()
    shards = Sharded().shards()[order]
    assert np.mean(np.diff(order) == 1) < 0.15
    assert np.mean(np.diff(shards) == 0) < 0.5


def test_a_rank_touches_few_shards(monkeypatch):
    data = Sharded((10,) * 32)
    for rank in range(4):
        mine = list(sampler(monkeypatch, rank, 4, data, window=4))
        assert len(set(data.shards()[mine])) == 8
        strided = SeededSampler(data, seed=1)
        assert len(set(data.shards()[list(strided)])) > 24


def test_without_shuffling_the_order_is_that_of_the_shards(monkeypatch):
    data = Sharded((2, 3, 2))
    data.shards = lambda: np.array([2, 0, 1, 0, 1, 2, 1])
    assert list(sampler(monkeypatch, data=data, shuffle=False)) == [1, 3, 2, 4, 6, 0, 5]


@pytest.mark.parametrize('round_up', [True, False])
@pytest.mark.parametrize(('rank', 'world'), [(0, 1), (1, 2), (2, 3)])
def test_skip_holds_for_the_next_iteration_only(monkeypatch, rank, world, round_up):
    one = sampler(monkeypatch, rank, world, round_up=round_up)
    one.set_epoch(2)
    full = list(one)
    one.skip(5)
    assert list(one) == full[5:]
    assert list(one) == full
    one.skip(len(one))
    assert list(one) == []
    with pytest.raises(ConfigError, match=f'0 to {len(one)}'):
        one.skip(len(one) + 1)


@pytest.mark.parametrize(
    ('options', 'message'), [({'window': 0}, 'window'), ({'run': 1.5}, 'run'), ({'run': 0}, 'run')]
)
def test_wrong_sizes(monkeypatch, options, message):
    with pytest.raises(ConfigError, match=f'{message} must be a whole number'):
        sampler(monkeypatch, **options)


def test_data_without_shards():
    with pytest.raises(ConfigError, match='list has no shards; use TarShards'):
        ShardSampler([1, 2])
