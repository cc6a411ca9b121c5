"""LARS steps on matrices (decayed, scaled) and vectors (neither)."""

from helpers import assert_close, golden, tensor

from mmselfsup_graft.engine import LARS


def test_steps() -> None:
    case = golden('lars.npz')
    names = [key.removeprefix('grad_') for key in case if key.startswith('grad_')]
    parameters = {name: tensor(case[f'{name}0']).requires_grad_() for name in names}
    assert {p.ndim for p in parameters.values()} == {1, 2}
    options = {name: float(case[name]) for name in ('lr', 'weight_decay', 'momentum', 'trust_coefficient')}
    optimizer = LARS(list(parameters.values()), **options)
    for step in range(len(case[f'grad_{names[0]}'])):
        for name, parameter in parameters.items():
            parameter.grad = tensor(case[f'grad_{name}'][step])
        optimizer.step()
        for name, parameter in parameters.items():
            assert_close(parameter, case[f'{name}_after'][step], rtol=1e-12, name=f'{name} after step {step}')
