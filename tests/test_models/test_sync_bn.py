"""PortableSyncBN with one process is ordinary batch norm; several processes: see tests/test_distributed."""

import pytest
import torch
from helpers import assert_close
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import PortableSyncBN
from mmselfsup_graft.models.necks.sync_bn import make_sync_bn_portable


@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('momentum', [0.1, None])
@pytest.mark.parametrize('shape', [(6, 5), (3, 5, 4, 4)])
def test_equals_torch(shape: tuple[int, ...], momentum: float | None, affine: bool) -> None:
    ours = PortableSyncBN(5, momentum=momentum, affine=affine).double()
    torchs = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5, momentum=momentum, affine=affine).double()
    assert [n for n, _ in ours.state_dict().items()] == [n for n, _ in torchs.state_dict().items()]
    if affine:
        with torch.no_grad():
            for layer in (ours, torchs):
                layer.weight.copy_(torch.arange(5) + 1)
                layer.bias.copy_(torch.arange(5) - 2)
    for _ in range(3):
        inputs = [torch.randn(shape, dtype=torch.float64).requires_grad_()]
        inputs.append(inputs[0].detach().clone().requires_grad_())
        weights = torch.randn(shape, dtype=torch.float64)
        outputs = [layer(x) for layer, x in zip((ours, torchs), inputs)]
        assert_close(outputs[0], outputs[1], rtol=1e-14)
        for output in outputs:
            (output * weights).sum().backward()
        assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-12)
    for name, value in torchs.state_dict().items():
        assert_close(ours.state_dict()[name], value, rtol=1e-14, name=name)
    for name, parameter in torchs.named_parameters():
        assert_close(dict(ours.named_parameters())[name].grad, parameter.grad, rtol=1e-12, name=name)
    assert_close(ours.eval()(inputs[0]), torchs.eval()(inputs[1]), rtol=1e-14)


def test_one_sample() -> None:
    layer = PortableSyncBN(3)
    with pytest.raises(ConfigError, match=r'train_dataloader\.batch_size'):
        layer(torch.randn(1, 3))
    assert layer(torch.randn(1, 3, 2, 2)).shape == (1, 3, 2, 2), 'four values per channel are enough'
    assert layer.eval()(torch.randn(1, 3)).shape == (1, 3)


def test_wrong_dimensions() -> None:
    with pytest.raises(ConfigError, match=r'shape \(3,\)'):
        PortableSyncBN(3).eval()(torch.randn(3))


def test_sync_bn_changes_its_class_and_nothing_else():
    torch.manual_seed(0)
    norm = torch.nn.SyncBatchNorm(4, eps=1e-3, momentum=0.3)
    for value in (norm.weight.data, norm.bias.data, norm.running_mean):
        value.normal_()
    norm.running_var.uniform_(0.5, 1.5)
    norm.weight.requires_grad_(False)
    model = torch.nn.Sequential(torch.nn.Sequential(norm), torch.nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model[0].eval()
    assert make_sync_bn_portable(model) == 1
    new = model[0][0]
    assert isinstance(new, PortableSyncBN)
    assert (new.eps, new.momentum, new.training) == (1e-3, 0.3, False)
    assert not new.weight.requires_grad
    assert new.bias.requires_grad
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
