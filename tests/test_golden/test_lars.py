"""LARS steps on matrices (decayed, scaled) and vectors (neither)."""

from golden_sets import golden, some, starting
from helpers import assert_close, tensor

from mmselfsup_graft.engine import LARS


def test_steps() -> None:
    case = golden('lars.npz')
    names = list(some(starting(case, 'grad_')))
    parameters = {name: tensor(case[f'{name}0']).requires_grad_() for name in names}
    assert {p.ndim > 1 for p in parameters.values()} == {True, False}, 'vectors alone are neither decayed nor scaled'
    options = {name: float(case[name]) for name in ('lr', 'weight_decay', 'momentum', 'trust_coefficient')}
    optimizer = LARS(list(parameters.values()), **options)
    for step in range(len(some(case[f'grad_{names[0]}'], 'steps'))):
        for name, parameter in parameters.items():
            parameter.grad = tensor(case[f'grad_{name}'][step])
        optimizer.step()
        for name, parameter in parameters.items():
            assert_close(parameter, case[f'{name}_after'][step], rtol=1e-12, name=f'{name} after step {step}')
