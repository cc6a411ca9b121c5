"""PortableSyncBN with one process is ordinary batch norm; several processes: see tests/test_distributed."""

import pytest
import torch
from helpers import assert_close
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import PortableSyncBN


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
