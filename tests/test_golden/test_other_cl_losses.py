"""VICReg and NT-Xent: value and gradients of one process."""

import pytest
from golden_sets import golden
from helpers import assert_close, tensor

from mmselfsup_graft.models.losses import nt_xent, vicreg


@pytest.mark.parametrize('name', ['vicreg', 'nt_xent'])
def test_value_and_gradients(name: str) -> None:
    case = golden('other_cl_losses.npz')
    first, second = tensor(case['a']).requires_grad_(), tensor(case['b']).requires_grad_()
    loss = vicreg(first, second) if name == 'vicreg' else nt_xent(first, second, float(case['temperature']))
    loss.backward()
    assert_close(loss, case[name], name=name)
    assert_close(first.grad, case[f'{name}_grad_a'], name='gradient of a')
    assert_close(second.grad, case[f'{name}_grad_b'], name='gradient of b')
