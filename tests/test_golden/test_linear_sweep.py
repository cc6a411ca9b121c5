"""The sweep of linear evaluation: order of the heads, factor of the learning rates, schedule."""

from typing import Any

import pytest
from golden_sets import golden, some
from helpers import assert_close

from mmselfsup_graft.evaluation import LinearProtocol


@pytest.fixture(scope='module')
def case() -> dict[str, Any]:
    """The part of ``schedules.json`` about the sweep."""
    (found,) = (case for case in golden('schedules.json').values() if 'heads' in case)
    return found


def test_order_of_the_heads(case: dict[str, Any]) -> None:
    heads = LinearProtocol().heads()
    assert len(heads) == case['num_heads'] == len(case['heads'])
    for expected in some(case['heads'], 'heads'):
        base, decay = heads[expected['index']]
        assert base == pytest.approx(expected['base_lr'], rel=1e-12)
        assert decay == expected['weight_decay']


def test_factor_of_the_rates(case: dict[str, Any]) -> None:
    example = case['example']
    options = {'batch_size': example['batch_size_total'], 'official_world_size': example['world_size']}
    for name in ('corrected', 'official'):
        protocol = LinearProtocol(lr_factor=name, **options)
        rate = protocol.heads()[example['head']][0] * protocol.rate_factor()
        assert rate == pytest.approx(example[{'corrected': 'lr_correct', 'official': 'lr_official'}[name]], rel=1e-12)


def test_schedule(case: dict[str, Any]) -> None:
    factors = case['cosine_factor_at_epoch']
    protocol = LinearProtocol()
    assert max(map(int, some(factors, 'epochs'))) < protocol.epochs
    for epoch, expected in factors.items():
        assert_close(protocol.cosine(int(epoch)), expected, rtol=1e-9, name=f'epoch {epoch}')
