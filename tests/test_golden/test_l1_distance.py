"""L1 distance of the encoder to its grafted weights: value, gradient and coverage by layer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_sets import golden, some
from helpers import assert_close, canonical_moco_state, moco_from_golden

from mmselfsup_graft.checkpoints import MOCOV3_MODEL

FILE = 'l1_weight_distance.json'


def _ours(name: str) -> str:
    """Our name of a tensor of the official base encoder."""
    return MOCOV3_MODEL.to_canonical(f'base_encoder.{name}')


def _model(to_block: int, weight: float = 1.0) -> Any:
    """Reference: the base encoder; current weights: those of the momentum encoder, placed in the base encoder."""
    model = moco_from_golden(
        graft=[{'checkpoint': 'not read here'}], l1_distance={'weight': weight, 'to_block': to_block}
    )
    model.after_graft()
    moved = canonical_moco_state(golden('moco_state_momentum.npz'))
    prefix = 'momentum_encoder.'
    report = model.load_state_dict({k.removeprefix(prefix): v for k, v in moved.items()}, strict=False)
    assert not report.unexpected_keys
    return model


def test_value_for_every_depth() -> None:
    expected = golden(FILE)['value_by_to_block']
    for to_block, value in some(expected, 'depths').items():
        assert_close(_model(int(to_block)).l1_to_graft(), value, name=f'distance to layer {to_block}')


def test_gradient_and_coverage() -> None:
    expected = golden(FILE)['grad_abs_sum_at']
    model = _model(expected['to_block'])
    model.l1_to_graft().backward()
    parameters = dict(model.named_parameters())
    for name, size in some(expected['grads']).items():
        gradient = parameters[_ours(name)].grad
        if size is None:
            assert gradient is None, f'{name} is not covered or frozen'
        else:
            assert_close(gradient.abs().sum(), size, name=name)
    assert all(p.grad is None for n, p in parameters.items() if n.startswith(('head.', 'momentum_encoder.')))


def test_covered_names() -> None:
    for to_block, names in some(golden(FILE)['covered'], 'depths').items():
        model = _model(int(to_block))
        trainable = {n for n, p in model.named_parameters() if p.requires_grad}
        # fixed tensors add nothing to the sum and are left out of our reference
        assert set(model._l1_reference) == {_ours(n) for n in names} & trainable
        assert {_ours(n) for n in names} - trainable == {'backbone.pos_embed'}


def test_reference_is_the_graft_and_the_term_is_weighted(tmp_path: Path) -> None:
    checkpoint = tmp_path / 'moco.pth'
    state = golden('moco_state_base.npz')
    torch.save({'state_dict': {f'module.{k}': torch.from_numpy(v.copy()) for k, v in state.items()}}, checkpoint)
    expected = golden(FILE)
    to_block = expected['grad_abs_sum_at']['to_block']
    model = moco_from_golden(
        graft=[{'checkpoint': str(checkpoint)}], l1_distance={'weight': 0.25, 'to_block': to_block}
    )
    model.backbone.requires_grad_(True)  # only the covered, trainable tensors of the graft become the reference
    model.init_weights()
    assert model.l1_to_graft().item() == 0.0
    moved = canonical_moco_state(golden('moco_state_momentum.npz'))
    inner = 'momentum_encoder.backbone.'
    model.backbone.load_state_dict({k.removeprefix(inner): v for k, v in moved.items() if k.startswith(inner)})
    assert_close(model.add_l1({})['loss_l1_distance'], 0.25 * expected['value_by_to_block'][str(to_block)])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_computed_outside_autocast(dtype: torch.dtype) -> None:
    expected = golden(FILE)
    to_block = expected['grad_abs_sum_at']['to_block']
    model = _model(to_block)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert_close(model.l1_to_graft(), expected['value_by_to_block'][str(to_block)])
