"""Learning rate, weight decay and layer of every parameter against the authors' optimizer groups."""

from typing import Any

import pytest
from golden_sets import golden, some
from helpers import assert_close, build, mlp_config, moco_config, vit_config

from mmselfsup_graft.checkpoints import MOCOV3_MODEL
from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.errors import ConfigError

FILE = 'layer_wise_lr.json'


def _case(name: str) -> dict[str, Any]:
    return golden(FILE)[name]


def _cases(refused: bool = False) -> list[str]:
    """Names of the cases with groups, or of those that the authors' code refuses."""
    try:
        found = [name for name, case in golden(FILE).items() if ('params' in case) != refused]
    except pytest.fail.Exception:
        found = []
    return found or ['missing']  # the tests below fail on it


def _values(text: str) -> list[float]:
    return [float(value) for value in text.split(',')]


def _layers_of_mlp(names: list[str], prefix: str) -> int:
    """Linear layers stand at positions 0, 3, 6 ... of the official ``Sequential``."""
    positions = {int(n.removeprefix(prefix).split('.')[1]) for n in names if n.startswith(prefix)}
    return sum(position % 3 == 0 for position in positions)


def _model(case: dict[str, Any]) -> Any:
    names = list(case.get('params', {}))
    backbone = vit_config(width=8, depth=case['depth'], stop_grad_patch_embed=case.get('stop_grad_patch_embed', True))
    config = moco_config(backbone)
    if names:
        config['neck'] = mlp_config(8, 8, 8, _layers_of_mlp(names, 'base_encoder.head'))
        config['head']['predictor'] = mlp_config(8, 8, 8, _layers_of_mlp(names, 'predictor'))
    return build(config)


def _constructor(case: dict[str, Any]) -> LayerWiseLRConstructor:
    """The settings of a case; the learning rate is scaled as auto_scale_lr does."""
    if 'lr_layer_wise' in case:
        options = {'lr_layer_wise': _values(case['lr_layer_wise'])}
    else:
        options = {'layer_wise_decay_ratio': case['layer_wise_decay_ratio']}
    lr = case.get('base_lr', 1.0) * case.get('batch_size', 256) / 256
    optimizer = {'type': 'AdamW', 'lr': lr, 'weight_decay': case.get('weight_decay', 0.0)}
    return LayerWiseLRConstructor({'optimizer': optimizer}, options)


def _groups(case: dict[str, Any], model: Any) -> list[dict]:
    return _constructor(case).param_groups(model)


def _official_id(case: dict[str, Any], layer_id: int) -> int:
    """Our layer id in the authors' numbering.

    We count everything after the last block as ``depth + 1`` always. So does the release with a decay ratio; with a
    list it gives norm and heads the id of the last block, ``depth`` (specification, section 4). The learning rates are
    the same.
    """
    return min(layer_id, case['depth']) if 'lr_layer_wise' in case else layer_id


@pytest.mark.parametrize('name', _cases())
def test_every_parameter(name: str) -> None:
    case = _case(name)
    model = _model(case)
    groups, layers = _groups(case, model), _constructor(case).layer_ids_of(model)
    ours = {parameter: group for group in groups for parameter in group['param_names']}
    assert set(ours) == {MOCOV3_MODEL.to_canonical(parameter) for parameter in case['params']}
    for official, expected in some(case['params']).items():
        parameter = MOCOV3_MODEL.to_canonical(official)
        group = ours[parameter]
        assert _official_id(case, layers[parameter]) == expected['layer_id'], official
        assert layers[parameter] in group['layer_ids'], official
        assert_close(group['lr_scale'], expected['lr_scale'], rtol=1e-12, name=f'scale of {official}')
        assert_close(group['lr'], expected['peak_lr'], rtol=1e-12, name=f'learning rate of {official}')
        assert group['weight_decay'] == expected['weight_decay'], official


@pytest.mark.parametrize('name', _cases())
def test_frozen_parameters_are_in_no_group(name: str) -> None:
    case = _case(name)
    model = _model(case)
    grouped = {parameter for group in _groups(case, model) for parameter in group['param_names']}
    outside = {n for n, _ in model.named_parameters() if n not in grouped and not n.startswith('momentum_encoder.')}
    assert outside == {MOCOV3_MODEL.to_canonical(n) for n in case['frozen']}


@pytest.mark.parametrize('name', _cases())
def test_number_of_groups(name: str) -> None:
    """The release has one group per layer and decay, we one per rate and decay."""
    case = _case(name)
    model = _model(case)
    groups, layers = _groups(case, model), _constructor(case).layer_ids_of(model)
    of = {parameter: group for group in groups for parameter in group['param_names']}
    official = {(_official_id(case, layers[each]), g['weight_decay'], g['lr']) for each, g in of.items()}
    assert len(official) == case['num_groups']
    assert len(groups) == len({(decay, lr) for _, decay, lr in official})
    if 'layer_wise_decay_ratio' in case:
        assert len(groups) == case['num_groups'], 'every layer has its own rate'
    else:
        assert len(groups) <= 2 * len(set(_values(case['lr_layer_wise'])))


@pytest.mark.parametrize('name', _cases(refused=True))
def test_list_that_does_not_divide_the_depth_is_refused(name: str) -> None:
    case = _case(name)
    model = _model(case)
    with pytest.raises(ConfigError, match=rf'{len(_values(case["lr_layer_wise"]))} values.*{case["depth"]} blocks'):
        _groups(case, model)
