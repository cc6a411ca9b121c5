"""Fine-tuning: parameter groups, what is loaded from a checkpoint, and gradients against the authors' code."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden_sets import golden, some, starting
from helpers import (
    assert_close,
    build,
    canonical_moco_state,
    count_numbered,
    moco_from_golden,
    tensor,
    vit_config,
)
from mmpretrain.structures import DataSample

from mmselfsup_graft.checkpoints import VIT_TIMM, graft_weights
from mmselfsup_graft.engine import LayerWiseLRConstructor

GROUPS, GRADIENT, GRAFTING = 'finetune_param_groups.json', 'classifier_gradient.npz', 'grafting.json'


def ours(official: str) -> str:
    """Our name of a parameter of the official classifier; its head is ``head``, or ``head.0`` and ``head.1``."""
    first, _, rest = official.partition('.')
    if first != 'head':
        return f'backbone.{VIT_TIMM.to_canonical(official)}'
    return {'0': 'head.fc0.', '1': 'head.fc.'}.get(rest[0], 'head.fc.') + rest.rpartition('.')[2]


def classifier(backbone: dict[str, Any], num_classes: int, first_fc: bool, **kwargs: Any) -> Any:
    """Our classifier with a linear head or the one that starts from the projector."""
    width = backbone['arch']['embed_dims']
    head: dict[str, Any] = {
        'type': 'mmpretrain.LinearClsHead',
        'num_classes': num_classes,
        'in_channels': width,
        'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
    }
    if first_fc:
        head['type'] = 'FirstFCHead'
        head.update({'projector': kwargs.pop('projector')} if 'projector' in kwargs else {'hidden_channels': width})
    return build({'type': 'GraftedClassifier', 'backbone': backbone, 'head': head, **kwargs})


# ---------------------------------------------------------------- parameter groups
def _cases(file: str, *keys: str) -> list[str]:
    """Names of the cases of a file, or of a part of it."""
    try:
        content = golden(file)
        for key in keys:
            content = content[key]
    except (pytest.fail.Exception, KeyError):
        content = {}
    return list(content) or ['missing']  # the tests below fail on it


@pytest.fixture(params=_cases(GROUPS))
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A case of the file."""
    return golden(GROUPS)[request.param]


def _model_and_constructor(case: dict[str, Any]) -> tuple[Any, LayerWiseLRConstructor]:
    depth = count_numbered(case['params'], 'blocks')
    model = classifier(vit_config(width=8, depth=depth), 4, 'head.0.weight' in case['params'])
    options = {
        'layer_wise_decay_ratio': case['layer_decay'],
        'head_lr_scale': case['fc_scale'],
        'no_decay_names': ['cls_token', 'pos_embed'],
    }
    optimizer = {'type': 'AdamW', 'lr': 2.0, 'weight_decay': case['weight_decay']}
    return model, LayerWiseLRConstructor({'optimizer': optimizer}, options)


def test_rate_and_decay_of_every_parameter(case: dict[str, Any]) -> None:
    model, constructor = _model_and_constructor(case)
    groups = constructor.param_groups(model)
    found = {name: group for group in groups for name in group['param_names']}
    assert set(found) == {ours(name) for name in case['params']}
    for name, expected in some(case['params']).items():
        group = found[ours(name)]
        assert_close(group['lr_scale'], expected['lr_scale'], rtol=1e-12, name=name)
        assert_close(group['lr'], 2.0 * expected['lr_scale'], rtol=1e-12, name=name)
        assert group['weight_decay'] == expected['weight_decay'], name


def test_frozen_parameters_and_number_of_groups(case: dict[str, Any]) -> None:
    """The release has one group per layer and decay, and the head's; we one per rate and decay."""
    model, constructor = _model_and_constructor(case)
    groups, layers = constructor.param_groups(model), constructor.layer_ids_of(model)
    grouped = {name for group in groups for name in group['param_names']}
    outside = {name for name, _ in model.named_parameters() if name not in grouped}
    assert outside == {ours(name) for name in case['frozen']}
    of = {name: group for group in groups for name in group['param_names']}
    official = {(layers[name], name.startswith('head.'), group['weight_decay']) for name, group in of.items()}
    assert len(official) == case['num_groups']
    assert len(groups) == len({(group['lr'], group['weight_decay']) for group in of.values()})


# ---------------------------------------------------------------- what is loaded
FILL, BESIDE, PROJECTOR = 7.0, 9.0, 3.0


def _write_contrastive(path: Path, backbone: dict[str, Any], hidden: int) -> None:
    """A contrastive checkpoint with one number per origin."""
    everything = golden(GRAFTING)
    prefix = everything['moco_checkpoint_keys_prefix']
    shapes = {VIT_TIMM.from_canonical(k): v.shape for k, v in build(backbone).state_dict().items()}
    state = {f'{prefix}base_encoder.{k}': torch.full(shapes[k], FILL) for k in everything['mae_encoder_keys']}
    state |= {k.replace('base_', 'momentum_'): torch.full_like(v, BESIDE) for k, v in state.items()}
    width = backbone['arch']['embed_dims']
    state[f'{prefix}base_encoder.head.0.weight'] = torch.full((hidden, width), PROJECTOR)
    state[f'{prefix}momentum_encoder.head.0.weight'] = torch.full((hidden, width), BESIDE)
    state[f'{prefix}base_encoder.head.3.weight'] = torch.full((hidden, hidden), BESIDE)
    some(everything['mae_encoder_keys'])
    torch.save({'state_dict': state}, path)


@pytest.mark.parametrize('name', _cases(GRAFTING, 'downstream'))
def test_loaded_and_missing_tensors(name: str, tmp_path: Path) -> None:
    expected = golden(GRAFTING)['downstream'][name]
    backbone = vit_config(width=8, depth=golden(GRAFTING)['depth'])
    path, hidden = tmp_path / 'moco.pth', 12
    _write_contrastive(path, backbone, hidden)
    source = {'checkpoint': str(path)}
    first_fc = any(key.startswith('head.') for key in expected['loaded'])
    model = classifier(backbone, 4, first_fc, graft=[source], **({'projector': source} if first_fc else {}))
    model.init_weights()
    state = model.state_dict()
    listed = {ours(key) for key in expected['loaded'] + expected['missing']}
    if not any(name.startswith('head.') for name in listed):  # the released linear evaluation lists its encoder alone
        state = {name: value for name, value in state.items() if not name.startswith('head.')}
    assert set(state) == listed
    for key in some(expected['loaded']):
        assert (state[ours(key)] == (PROJECTOR if key.startswith('head') else FILL)).all(), key
    for key in expected['missing']:
        assert not any((state[ours(key)] == fill).any() for fill in (FILL, PROJECTOR, BESIDE)), key
    if first_fc:
        assert model.head.fc0.weight.shape == (hidden, 8)
    _, report = graft_weights(model.graft, model.backbone.state_dict(), model.depth)
    assert expected['unexpected'] == [] == report.fresh


# ---------------------------------------------------------------- gradients
def _golden_classifier() -> Any:
    file = golden(GRADIENT)
    backbone = moco_from_golden().backbone
    state = canonical_moco_state(golden('moco_state_base.npz'))
    config = vit_config(
        backbone.embed_dims,
        backbone.num_layers,
        backbone.layers[0].attn.num_heads,
        backbone.img_size[0],
        backbone.patch_embed.projection.kernel_size[0],
        feedforward=backbone.layers[0].ffn.layers[0][0].out_features,
        in_channels=backbone.patch_embed.projection.in_channels,
    )
    model = classifier(config, len(file['head_weight']), first_fc=False).double()
    encoder = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    model.backbone.load_state_dict(encoder, strict=True)
    model.head.fc.load_state_dict({'weight': tensor(file['head_weight']), 'bias': tensor(file['head_bias'])})
    return model


def test_gradient_of_the_cross_entropy() -> None:
    file, images = golden(GRADIENT), golden('gradient_cosine_inputs.npz')['image']
    model = _golden_classifier().eval()
    batches = len(file['labels'])
    for image, labels in zip(images[: len(some(file['labels'], 'batches'))], file['labels']):
        samples = [DataSample().set_gt_label(int(label)) for label in labels]
        (model.loss(tensor(image), samples)['loss'] / batches).backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    assert gradients.keys() == {ours(name) for name in file['names']}
    for name, norm in zip(file['names'], file['grad_norm']):
        assert_close(gradients[ours(name)].norm(), norm, rtol=1e-8, atol=1e-14, name=name)
    for name, value in some(starting(file, 'grad.')).items():
        assert_close(gradients[ours(name)], value, rtol=1e-8, name=name)
