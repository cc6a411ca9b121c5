"""The contrastive loss with keys gathered from several processes, run in real processes."""

import re
from typing import Any

import numpy as np
import torch
from golden_sets import golden
from helpers import assert_close, run_ranks, tensor

FILE = 'contrastive_two_ranks.npz'


def local_loss(rank: int, queries: np.ndarray, keys: np.ndarray, temperature: float, world: int) -> dict[str, Any]:
    """What one process computes from its share of the rows."""
    from mmselfsup_graft.models.losses import info_nce

    share = len(queries) // world
    rows = slice(rank * share, (rank + 1) * share)
    mine = tensor(queries[rows]).requires_grad_()
    loss = info_nce(mine, tensor(keys[rows]), temperature)
    loss.backward()
    return {'loss': loss.detach(), 'grad': mine.grad}


def test_loss_of_each_rank_and_joined_gradient() -> None:
    case = golden(FILE)
    world = len([name for name in case if re.fullmatch(r'loss_rank\d+', name)])
    assert world > 1
    temperature = float(case['temperature'])
    found = run_ranks(local_loss, world, case['q'], case['k'], temperature, world)
    for rank, result in enumerate(found):
        assert_close(result['loss'], case[f'loss_rank{rank}'], name=f'loss of rank {rank}')
    joined = local_loss(0, case['q'], case['k'], temperature, 1)
    assert_close(sum(r['loss'] for r in found) / world, joined['loss'], rtol=1e-12, name='mean over ranks')
    assert_close(torch.cat([r['grad'] for r in found]) / world, joined['grad'], rtol=1e-12, name='gradient')
