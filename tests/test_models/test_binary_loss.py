"""The loss and the optimizer of ResNet Strikes Back, as our fine-tuning configs name them."""

from pathlib import Path

import pytest
import torch
from helpers import assert_close, build
from mmengine.config import Config
from mmpretrain.structures import DataSample

from mmselfsup_graft.engine import LayerWiseLRConstructor

BASES = Path(__file__).parents[2] / 'configs' / '_base_'


def test_binary_loss_is_summed_over_classes_and_averaged_over_images() -> None:
    """With the soft labels of mixup; written out element by element."""
    head = Config.fromfile(BASES / 'models' / 'finetune_rsb_resnet50.py').model.head.to_dict()
    head.update(num_classes=3, in_channels=4, init_cfg=None)
    head = build(head).double()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    targets = torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]], dtype=torch.float64)
    samples = [DataSample().set_gt_score(target) for target in targets]
    found = head.loss((features,), samples)['loss']
    scores, expected = head.fc(features), 0.0
    for image in range(2):
        for each in range(3):
            p = 1 / (1 + torch.exp(-scores[image, each]))
            y = targets[image, each]
            expected = expected - (y * torch.log(p) + (1 - y) * torch.log(1 - p)) / 2
    assert_close(found, expected, rtol=1e-6)  # labels are rounded to float32


def test_lamb_step() -> None:
    """First step: the gradient's sign pattern, decayed, scaled by the norms of weight and update."""
    optimizer = Config.fromfile(BASES / 'schedules' / 'finetune_rsb-a2_300e.py').optim_wrapper
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential()
    model.backbone.layer1 = torch.nn.Sequential(torch.nn.Linear(3, 2).double())
    wrapper = {'optimizer': optimizer.optimizer.to_dict()}
    wrapper = LayerWiseLRConstructor(wrapper, optimizer.paramwise_cfg.to_dict())(model)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    gradients = {'weight': torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.2, -0.1]]), 'bias': torch.tensor([0.1, -0.1])}
    for name, value in gradients.items():
        getattr(model.backbone.layer1[0], name).grad = value.double()
    wrapper.optimizer.step()
    for name, before in start.items():
        gradient = gradients[name.rpartition('.')[2]].double()  # their joined norm is below 1: nothing is clipped
        update = gradient / (gradient.abs() + 1e-6)  # bias-corrected moments of a first step
        if before.ndim > 1:
            update = update + 0.02 * before
            update = update * before.norm() / update.norm()
        moved = model.get_parameter(name) - before
        assert_close(moved, -5e-3 * update, rtol=1e-6, name=name)
    assert sorted(group['weight_decay'] for group in wrapper.optimizer.param_groups) == [0.0, pytest.approx(0.02)]
