"""Supervised classifier on a grafted encoder, and the head that starts from the projector."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, build, vit_config
from mmpretrain.structures import DataSample
from tiny_finetuning import HIDDEN, write_contrastive

from mmselfsup_graft.checkpoints import read_projector_start, resize_position_table
from mmselfsup_graft.errors import CheckpointError, ConfigError

WIDTH, CLASSES = 16, 5
SMOOTH = {'type': 'mmpretrain.LabelSmoothLoss', 'label_smooth_val': 0.1, 'mode': 'original'}


def linear_head(loss: dict | None = None) -> dict[str, Any]:
    return {
        'type': 'mmpretrain.LinearClsHead',
        'num_classes': CLASSES,
        'in_channels': WIDTH,
        'loss': loss or {'type': 'mmpretrain.CrossEntropyLoss'},
        'init_cfg': {'type': 'TruncNormal', 'layer': 'Linear', 'std': 2e-5},
    }


def first_fc(**options: Any) -> dict[str, Any]:
    return {'type': 'FirstFCHead', 'num_classes': CLASSES, 'in_channels': WIDTH, **options}


def classifier(head: dict | None = None, **options: Any) -> Any:
    backbone = options.pop('backbone', vit_config(width=WIDTH))
    return build({'type': 'GraftedClassifier', 'backbone': backbone, 'head': head or linear_head(), **options})


@pytest.fixture
def source(tmp_path: Path) -> dict[str, str]:
    write_contrastive(vit_config(width=WIDTH), WIDTH, tmp_path / 'moco.pth')
    return {'checkpoint': str(tmp_path / 'moco.pth')}


# ---------------------------------------------------------------- encoder
def test_head_is_initialised_as_in_the_recipe(source) -> None:
    model = classifier(graft=[source])
    model.init_weights()
    weight = model.head.fc.weight
    assert 1e-5 < weight.std() < 3e-5
    assert weight.abs().max() < 2e-4
    assert (model.head.fc.bias == 0).all()


def test_position_table_of_another_grid_is_resized_and_stays_frozen(source) -> None:
    small = classifier(graft=[source])
    small.init_weights()
    large = classifier(graft=[source], backbone=vit_config(width=WIDTH, img_size=24))
    large.init_weights()
    wanted = resize_position_table(small.backbone.pos_embed.data, (6, 6))
    assert torch.equal(large.backbone.pos_embed.data, wanted)
    assert not large.backbone.pos_embed.requires_grad
    assert torch.equal(large.backbone.cls_token, small.backbone.cls_token)


def test_frozen_layers_stay_in_eval_mode(source) -> None:
    model = classifier(graft=[source], frozen_layers=2).train()
    assert not model.backbone.layers[1].training
    assert model.backbone.layers[2].training
    frozen = {name for name, value in model.backbone.named_parameters() if not value.requires_grad}
    assert {'cls_token', 'layers.1.ln1.weight'} <= frozen
    assert 'layers.2.ln1.weight' not in frozen
    with pytest.raises(ConfigError, match=r'frozen_layers=4 is outside 0\.\.3'):
        classifier(frozen_layers=4)


def test_weights_come_by_graft_only() -> None:
    with pytest.raises(ConfigError, match='Pretrained is not used here'):
        classifier(backbone=vit_config(width=WIDTH, init_cfg={'type': 'Pretrained', 'checkpoint': 'x.pth'}))


def test_every_tensor_must_arrive(source) -> None:
    model = classifier(graft=[source], backbone=vit_config(width=WIDTH, depth=4))
    with pytest.raises(CheckpointError, match='it has 3 blocks, expected 4'):
        model.init_weights()


# ---------------------------------------------------------------- loss
def test_mixed_and_smoothed_loss_against_the_equations() -> None:
    """Mixup of images and labels, then smoothing, as timm does it before a soft cross entropy."""
    alpha, smoothing = 0.8, 0.1
    augments = [{'type': 'mmpretrain.Mixup', 'alpha': alpha}]
    preprocessor = {'num_classes': CLASSES, 'mean': [10.0] * 3, 'std': [5.0] * 3}
    model = classifier(linear_head(SMOOTH), train_cfg={'augments': augments}, data_preprocessor=preprocessor)
    images, labels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8), torch.tensor([0, 3, 1, 3])
    samples = [DataSample().set_gt_label(int(label)) for label in labels]

    np.random.seed(5)
    torch.manual_seed(5)
    batch = model.data_preprocessor({'inputs': images, 'data_samples': samples}, training=True)
    loss = model.loss(**batch)['loss']

    np.random.seed(5)
    torch.manual_seed(5)
    np.random.choice(1)  # which of the augmentations
    share, order = np.random.beta(alpha, alpha), torch.randperm(4)
    assert 0.01 < share < 0.99
    normalized, hot = (images.float() - 10) / 5, F.one_hot(labels, CLASSES).float()
    mixed = share * normalized + (1 - share) * normalized[order]
    target = (share * hot + (1 - share) * hot[order]) * (1 - smoothing) + smoothing / CLASSES
    scores = model.head.fc(model.backbone(mixed)[-1])
    assert_close(loss, -(target * scores.log_softmax(1)).sum(1).mean(), rtol=1e-5)


# ---------------------------------------------------------------- from the first layer of the projector
def test_first_layer_comes_from_the_projector(source) -> None:
    model = classifier(first_fc(projector=source), graft=[source])
    bias = model.head.fc.bias.clone()
    model.init_weights()
    start = read_projector_start(source['checkpoint'])
    assert torch.equal(model.head.fc0.weight, start.weight)
    assert model.head.fc0.bias is None
    assert torch.equal(model.head.fc.bias, bias)
    assert 0 < bias.abs().max() <= HIDDEN**-0.5  # torch's default
    assert 1e-5 < model.head.fc.weight.std() < 3e-5
    feature = torch.randn(3, WIDTH)
    expected = feature @ start.weight.T @ model.head.fc.weight.T + bias
    assert_close(model.head((feature,)), expected, rtol=1e-5)


def test_nonlinear_takes_the_batch_norm_along(source) -> None:
    head = build(first_fc(projector=source, nonlinear=True))
    head.init_weights()
    head.eval()
    start = read_projector_start(source['checkpoint'])
    assert start.norm is not None
    feature = torch.randn(3, WIDTH)
    norm = {name: value for name, value in start.norm.items() if name.startswith('running')}
    hidden = F.batch_norm(feature @ start.weight.T, **norm, weight=start.norm['weight'], bias=start.norm['bias'])
    assert_close(head.pre_logits((feature,)), hidden.relu(), rtol=1e-5)


def test_width_may_be_given_instead_of_the_file(source) -> None:
    head = build(first_fc(hidden_channels=7))
    before = head.fc0.weight.clone()
    head.init_weights()
    assert torch.equal(head.fc0.weight, before)
    with pytest.raises(ConfigError, match=r'tools/finetune\.py'):
        build(first_fc())
    head = build(first_fc(hidden_channels=7, projector=source))
    with pytest.raises(CheckpointError, match=rf'{HIDDEN} hidden channels, this head 7'):
        head.init_weights()


def test_projector_of_another_width_is_refused(source) -> None:
    with pytest.raises(CheckpointError, match=rf'takes {WIDTH} channels, this encoder gives 8'):
        build({**first_fc(projector=source), 'in_channels': 8})
    with pytest.raises(ConfigError, match='takes no layers'):
        build(first_fc(projector={**source, 'layers': (0, 2)}))
