"""JointEmbedding: its loss is that of the two projections; SimCLR and VICReg by the head."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, build, mae_config, mlp_config, vit_config

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import JointEmbedding
from mmselfsup_graft.models.losses import nt_xent, vicreg

HEADS = {
    'simclr': (dict(type='NTXentHead', temperature=0.3), lambda a, b: nt_xent(a, b, 0.3)),
    'vicreg': (dict(type='VICRegHead', weights=[5.0, 3.0, 2.0]), lambda a, b: vicreg(a, b, (5.0, 3.0, 2.0))),
}


def _model(head: dict[str, Any], **options: Any) -> JointEmbedding:
    torch.manual_seed(0)
    config = dict(type='JointEmbedding', backbone=vit_config(), neck=mlp_config(16, 32, 8, 2), head=head, **options)
    model = build(config)
    model.init_weights()
    return model.train()


def _views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(6, 3, 16, 16, generator=generator) for _ in range(2)]


@pytest.mark.parametrize('name', HEADS)
def test_loss_is_that_of_the_two_projections(name: str) -> None:
    head, function = HEADS[name]
    model, views = _model(head).double(), [view.double() for view in _views()]
    projections = [model.neck((model.backbone(view)[-1],))[0] for view in views]
    loss = model.loss(views)['loss']
    assert_close(loss, function(*projections), rtol=1e-12)
    loss.backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None and p.grad.isfinite().all()} == trained


def test_a_resnet_sees_one_view_at_a_time() -> None:
    torch.manual_seed(0)
    neck = mlp_config(512, 16, 8, 2, with_avg_pool=True)
    config = dict(type='JointEmbedding', backbone=dict(type='mmpretrain.ResNet', depth=18), neck=neck)
    model = build({**config, 'head': HEADS['simclr'][0]}).train()
    views = [torch.randn(4, 3, 32, 32), 3 + torch.randn(4, 3, 32, 32)]
    projections = [model.neck((model.backbone(view)[-1],))[0] for view in views]
    assert_close(model.loss(views)['loss'], nt_xent(*projections, 0.3), rtol=1e-5)


def test_graft_and_distance(tmp_path: Path) -> None:
    source = build(mae_config(vit_config()))
    source.init_weights()
    save_atomically({'state_dict': source.state_dict()}, tmp_path / 'mae.pth')
    graft = dict(graft=[dict(checkpoint=str(tmp_path / 'mae.pth'))], l1_distance=dict(weight=1.0, to_block=4))
    model = _model(HEADS['simclr'][0], **graft)
    assert all(torch.equal(v, model.backbone.state_dict()[n]) for n, v in source.backbone.state_dict().items())
    assert model.loss(_views())['loss_l1_distance'] == 0
    with torch.no_grad():
        model.neck.fc0.weight.view(-1)[0] += 0.5  # the projector counts as the encoder's upper end
    assert_close(model.loss(_views())['loss_l1_distance'], 0.5, rtol=1e-6)


@pytest.mark.parametrize('inputs', [_views()[0], _views()[:1], _views() + _views()])
def test_anything_but_two_views_is_refused(inputs: Any) -> None:
    with pytest.raises(ConfigError, match='two views'):
        _model(HEADS['simclr'][0]).loss(inputs)


def test_a_single_image_is_refused() -> None:
    with pytest.raises(ConfigError, match='batch of 2 or more'):
        _model(HEADS['simclr'][0]).loss([view[:1] for view in _views()])


def test_bad_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match='temperature > 0'):
        _model(dict(type='NTXentHead', temperature=0.0))
    with pytest.raises(ConfigError, match='three weights'):
        _model(dict(type='VICRegHead', weights=[1.0]))
