"""MoCoV3: moving average, views, backbones, freezing, grafted starts and the L1 term."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import assert_close, build, mlp_config, moco_config, vit_config

from mmselfsup_graft.errors import ConfigError


def _views(batch: int = 4, size: int = 16) -> list[torch.Tensor]:
    return [torch.randn(batch, 3, size, size) for _ in range(2)]


def _model(**kwargs: Any) -> Any:
    model = build(moco_config(**kwargs))
    model.init_weights()
    return model.train()


def _shift(model: Any) -> None:
    """Move base and momentum encoder to different places."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith('pos_embed'):
                parameter.add_(0.1 * torch.randn_like(parameter))


def _momentum(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.momentum_encoder.named_parameters()}


def _base(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if n.startswith(('backbone.', 'neck.'))}


# ---------------------------------------------------------------- moving average
def test_first_update_averages_and_does_not_copy() -> None:
    model = _model(base_momentum=0.9).double()
    _shift(model)
    for _ in range(2):
        old, base = _momentum(model), _base(model)
        model.loss([view.double() for view in _views()])
        assert set(old) == set(base)
        for name, value in _momentum(model).items():
            assert_close(value, 0.9 * old[name] + 0.1 * base[name], rtol=1e-12, name=name)


def test_no_update_when_none_is_due_or_in_eval_mode() -> None:
    model = _model()
    _shift(model)
    old = _momentum(model)
    model.update_due = False
    model.loss(_views())
    model.update_due = True
    model.eval()
    model.keys(_views())
    assert all(torch.equal(value, old[name]) for name, value in _momentum(model).items())
    model.train()
    model.keys(_views())
    assert not all(torch.equal(value, old[name]) for name, value in _momentum(model).items())


def test_momentum_attribute_is_what_counts() -> None:
    model = _model(base_momentum=0.5)
    _shift(model)
    old = _momentum(model)
    model.momentum = 1.0
    model.loss(_views())
    assert all(torch.equal(value, old[name]) for name, value in _momentum(model).items())
    model.momentum = 0.0
    model.loss(_views())
    base = _base(model)
    for name, value in _momentum(model).items():
        assert_close(value, base[name], rtol=1e-6, name=name)


def test_momentum_encoder_has_no_gradient_and_keeps_its_own_statistics() -> None:
    model = _model()
    _shift(model)
    model.loss(_views())['loss'].backward()
    assert all(p.grad is None and not p.requires_grad for p in model.momentum_encoder.parameters())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    base, copy = model.neck.bn0, model.momentum_encoder.neck.bn0
    assert base.num_batches_tracked == copy.num_batches_tracked == 2, 'one count per view'
    assert not torch.allclose(base.running_mean, copy.running_mean)


def test_momentum_copy_starts_equal() -> None:
    model = _model()
    assert model.momentum_encoder.training
    assert all(torch.equal(value, _momentum(model)[name]) for name, value in _base(model).items())


# ---------------------------------------------------------------- views
def test_views_of_two_sizes() -> None:
    loss = _model().loss([torch.randn(4, 3, 16, 16), torch.randn(4, 3, 24, 24)])['loss']
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize('inputs', [torch.randn(2, 3, 16, 16), [torch.randn(2, 3, 16, 16)], _views() + _views()])
def test_anything_but_two_views_is_refused(inputs: Any) -> None:
    with pytest.raises(ConfigError, match='two views'):
        _model().loss(inputs)


def test_masked_views_hide_the_same_patches_from_both_encoders() -> None:
    model = _model(view_mask_ratio=0.75)
    seen: list[torch.Tensor] = []
    for encoder in (model.backbone, model.momentum_encoder.backbone):
        encoder.register_forward_pre_hook(lambda _m, arguments: seen.append(arguments[1]))
    model.loss(_views())
    assert [keep.shape for keep in seen] == [(8, 4), (8, 4)]
    assert torch.equal(seen[0], seen[1])


# ---------------------------------------------------------------- other backbones, bad input
def _resnet_config(**kwargs: Any) -> dict[str, Any]:
    config = moco_config(**kwargs)
    config['backbone'] = {'type': 'mmpretrain.ResNet', 'depth': 18}
    config['neck'] = mlp_config(512, 16, 8, 2, with_avg_pool=True)
    return config


def test_resnet_backbone() -> None:
    model = build(_resnet_config(frozen_layers=2))
    model.init_weights()
    model.train()
    assert model.depth.num_blocks == 8
    views = _views(size=64)
    loss = model.loss(views)['loss']
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.backbone.named_parameters():
        assert (parameter.grad is None) == (model.depth.layer_id(name) <= 2), name
    assert not model.backbone.bn1.training
    assert model.backbone.layer1[1].bn1.training is False
    assert model.backbone.layer2[0].bn1.training
    assert model.backbone.layer2[0].bn1.num_batches_tracked == 2


# ---------------------------------------------------------------- MoCo v3 on a ResNet, against torchvision's
def _resnet_moco(momentum: float) -> Any:
    """MoCo v3's ResNet form: projector of two layers on the pooled map, predictor without batch norm at its end."""
    config = _resnet_config(base_momentum=momentum)
    config['backbone']['zero_init_residual'] = False
    config['head']['predictor'] = mlp_config(8, 16, 8, 2, with_last_bn=False)
    model = build(config)
    model.init_weights()
    _shift(model)
    return model.double().train()


def _torchvision_twin(backbone: torch.nn.Module) -> torch.nn.Module:
    twin = torchvision.models.resnet18().double()
    twin.fc = torch.nn.Identity()
    twin.load_state_dict(backbone.state_dict())
    return twin.train()


def _reference_mlp(x: torch.Tensor, mlp: Any, last_bn: bool) -> torch.Tensor:
    """Linear, batch norm with batch statistics, ReLU, linear and perhaps batch norm without affine."""

    def norm(value: torch.Tensor, *affine: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(value, None, None, *affine, training=True)

    hidden = norm(x @ mlp.fc0.weight.T, mlp.bn0.weight, mlp.bn0.bias).relu()
    out = hidden @ mlp.fc1.weight.T
    return norm(out) if last_bn else out


def test_resnet_against_torchvision_view_by_view() -> None:
    """Loss, gradient, moving average and the batch-norm statistics of both encoders, each fed one view at a time."""
    momentum, temperature = 0.9, 0.2
    model = _resnet_moco(momentum)
    views = [view.double() for view in _views(size=32)]
    base, average = _torchvision_twin(model.backbone), _torchvision_twin(model.momentum_encoder.backbone)
    projector, keys_projector = model.neck, deepcopy(model.momentum_encoder.neck)
    with torch.no_grad():
        for old, new in ((average, base), (keys_projector, projector)):
            for value, now in zip(old.parameters(), new.parameters(), strict=True):
                value.copy_(momentum * value + (1 - momentum) * now)
        keys = [F.normalize(_reference_mlp(average(view), keys_projector, True)) for view in views]
    loss = torch.zeros((), dtype=torch.float64)
    for view, key in zip(views, reversed(keys)):
        projection = _reference_mlp(base(view), deepcopy(projector), True)
        query = F.normalize(_reference_mlp(projection, deepcopy(model.head.predictor), False))
        loss = loss + 2 * temperature * F.cross_entropy(query @ key.T / temperature, torch.arange(4))
    loss.backward()

    ours = model.loss(views)['loss']
    ours.backward()
    assert_close(ours, loss, rtol=1e-10)
    assert not hasattr(model.head.predictor, 'bn1')
    expected = dict(base.named_parameters())
    for name, parameter in model.backbone.named_parameters():
        assert_close(parameter.grad, expected[name].grad, rtol=1e-7, name=name)
    for encoder, twin in ((model.backbone, base), (model.momentum_encoder.backbone, average)):
        wanted = twin.state_dict()
        for name, value in encoder.state_dict().items():
            assert_close(value, wanted[name], rtol=1e-10, name=name)
        assert encoder.bn1.num_batches_tracked == 2


def test_masked_views_need_a_vit() -> None:
    with pytest.raises(ConfigError, match='view_mask_ratio needs a ViT backbone, got ResNet'):
        build(_resnet_config(view_mask_ratio=0.75))


@pytest.mark.parametrize(('kind', 'size'), [('vit', 16), ('resnet', 64), ('resnet', 32)])
def test_batch_of_one(kind: str, size: int) -> None:
    model = _model() if kind == 'vit' else build(_resnet_config()).train()
    with pytest.raises(ConfigError, match=r'batch norm need.* batch_size') as caught:
        model.loss(_views(1, size))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('momentum', [-0.1, 1.1])
def test_impossible_momentum(momentum: float) -> None:
    with pytest.raises(ConfigError, match=r'must lie in \[0, 1\]'):
        build(moco_config(base_momentum=momentum))


def test_impossible_temperature() -> None:
    with pytest.raises(ConfigError, match='temperature > 0'):
        build(moco_config(temperature=0.0))


@pytest.mark.parametrize('frozen', [-1, 4])
def test_frozen_layers_outside_the_depth(frozen: int) -> None:
    with pytest.raises(ConfigError, match=rf'frozen_layers={frozen} is outside 0\.\.3'):
        build(moco_config(frozen_layers=frozen))


# ---------------------------------------------------------------- freezing
@pytest.mark.parametrize('frozen', [0, 2, 3])
def test_frozen_layers_stay(frozen: int) -> None:
    model = _model(frozen_layers=frozen, base_momentum=0.9)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        model.train()
        optimizer.zero_grad()
        model.loss(_views())['loss'].backward()
        optimizer.step()
    model.keys(_views())
    for name, parameter in model.backbone.named_parameters():
        below = frozen > 0 and model.depth.layer_id(name) <= frozen
        copy = dict(model.momentum_encoder.backbone.named_parameters())[name]
        fixed = below or name == 'pos_embed'
        assert torch.equal(parameter, start[f'backbone.{name}']) == fixed, name
        assert torch.equal(copy, parameter) == fixed, name
        assert (parameter.grad is None) == fixed, name
    for backbone in (model.backbone, model.momentum_encoder.backbone):
        for name, module in backbone.named_modules():
            if name:
                assert module.training == (frozen == 0 or model.depth.layer_id(name) > frozen), name
    heads = (model.neck, model.head, model.momentum_encoder.neck)
    assert all(m.training for head in heads for m in head.modules())
    assert model.train() is model


# ---------------------------------------------------------------- graft and L1 term
def _grafted(tmp_path: Path, **kwargs: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    path = tmp_path / 'source.pth'
    if not path.exists():
        source = build(vit_config())
        source.init_weights()
        torch.save({'state_dict': {f'backbone.{k}': v for k, v in source.state_dict().items()}}, path)
    weights = torch.load(path, weights_only=True)['state_dict']
    return _model(graft=[{'checkpoint': str(path)}], **kwargs), weights


def test_graft_fills_both_encoders(tmp_path: Path) -> None:
    model, weights = _grafted(tmp_path)
    state = model.state_dict()
    for name, value in weights.items():
        assert torch.equal(state[name], value), name
        assert torch.equal(state[f'momentum_encoder.{name}'], value), name


def test_impossible_graft_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match='does not fit a backbone of 3 blocks'):
        build(moco_config(graft=[{'checkpoint': '/nowhere.pth', 'layers': (0, 12)}]))


L1 = {'weight': 0.5, 'to_block': 2}


def test_l1_term_is_the_weighted_distance(tmp_path: Path) -> None:
    model, weights = _grafted(tmp_path, l1_distance=L1)
    losses = model.loss(_views())
    assert losses['loss_l1_distance'].item() == 0.0
    _shift(model)
    covered = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith('backbone.') and model.depth.layer_id(name.removeprefix('backbone.')) <= 2
    }
    by_hand = sum((parameter - weights[name]).abs().sum() for name, parameter in covered.items())
    assert by_hand > 1
    assert_close(model.loss(_views())['loss_l1_distance'], 0.5 * by_hand, rtol=1e-5)
    losses = model.loss(_views())
    total, _ = model.parse_losses(losses)
    assert_close(total, losses['loss'] + losses['loss_l1_distance'], rtol=1e-6)


def test_resumed_run_keeps_the_reference(tmp_path: Path) -> None:
    model, _ = _grafted(tmp_path, l1_distance=L1)
    _shift(model)
    expected = model.l1_to_graft()
    assert expected > 1
    resumed, _ = _grafted(tmp_path, l1_distance=L1)
    resumed.load_state_dict(model.state_dict())
    assert torch.equal(resumed.l1_to_graft(), expected)


def test_reference_is_neither_state_nor_parameter(tmp_path: Path) -> None:
    model, _ = _grafted(tmp_path, l1_distance=L1)
    plain = _model()
    assert set(model.state_dict()) == set(plain.state_dict())


def test_l1_mistakes() -> None:
    graft = [{'checkpoint': 'a.pth'}]
    with pytest.raises(ConfigError, match=r'needs graft=\[\.\.\.\]'):
        build(moco_config(l1_distance=L1))
    with pytest.raises(ConfigError, match=r'to_block must lie in 0\.\.4'):
        build(moco_config(graft=graft, l1_distance={'weight': 1.0, 'to_block': 5}))
    with pytest.raises(ConfigError, match='takes exactly weight and to_block, got to_blok, weight'):
        build(moco_config(graft=graft, l1_distance={'weight': 1.0, 'to_blok': 2}))
    model = build(moco_config(graft=graft, l1_distance=L1))
    with pytest.raises(ConfigError, match='no reference weights'):
        model.l1_to_graft()


# ---------------------------------------------------------------- mmengine's interface
def test_train_step_through_mmengine() -> None:
    from mmengine.optim import OptimWrapper

    model = _model(data_preprocessor={'mean': [128.0] * 3, 'std': [64.0] * 3})
    start = model.head.predictor.fc0.weight.detach().clone()
    wrapper = OptimWrapper(torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    images = [torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8) for _ in range(2)]
    logs = model.train_step({'inputs': images, 'data_samples': []}, wrapper)
    assert torch.isfinite(logs['loss'])
    assert not torch.equal(model.head.predictor.fc0.weight, start)


@torch.no_grad()
def test_extract_feat_is_the_class_token() -> None:
    model, images = _model().eval(), _views()[0]
    assert torch.equal(model.extract_feat(images)[-1], model.backbone(images)[-1])
    assert torch.equal(model(images, mode='tensor')[-1], model.backbone(images)[-1])
