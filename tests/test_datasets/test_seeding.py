import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from mmselfsup_graft.datasets.seeding import preserved_random_state, sample_seed, seed_generators


def draw() -> tuple:
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()


@contextmanager
def seeded_sample(seed: int, epoch: int, index: int) -> Iterator[None]:
    """Run a block with all CPU generators seeded from (seed, epoch, index), leaving the caller's state untouched."""
    with preserved_random_state():
        seed_generators(sample_seed(seed, epoch, index))
        yield


def test_draws_depend_on_seed_epoch_and_index_only():
    with seeded_sample(3, 2, 1):
        first = draw()
    draw()
    with seeded_sample(3, 2, 1):
        assert draw() == first
    for other in [(4, 2, 1), (3, 1, 1), (3, 2, 2), (2, 3, 1)]:
        with seeded_sample(*other):
            assert all(a != b for a, b in zip(draw(), first))


def test_caller_state_is_untouched():
    def run(inside: bool) -> list:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        drawn = [draw()]  # one normal number: numpy keeps its twin for the next call
        if inside:
            with seeded_sample(0, 0, 0):
                draw()
        return [*drawn, draw(), random.gauss(0, 1)]

    assert run(True) == run(False)


def test_caller_state_is_put_back_after_an_error():
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    with pytest.raises(KeyError), seeded_sample(0, 0, 0):
        {}[torch.rand(3)]
    assert torch.rand(1).item() == expected


def test_hash_spreads_neighboring_triples():
    seeds = {sample_seed(s, e, i) & 0xFFFFFFFF for s in range(4) for e in range(20) for i in range(100)}
    assert len(seeds) >= 8000 - 2  # 32-bit birthday: 0.007 collisions expected
    bits = np.array([[sample_seed(0, 0, i) >> b & 1 for b in range(64)] for i in range(2000)])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.06


def test_negative_and_large_numbers_are_accepted():
    assert 0 <= sample_seed(-1, 0, 2**40) < 2**64
