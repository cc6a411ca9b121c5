"""Counted operations against sums by hand."""

from pathlib import Path

import pytest
import torch
from test_tools.tiny_runs import tiny_config, write_config

import mmselfsup_graft as graft
from mmselfsup_graft.analysis.cost.measure import _counter, cost_of
from mmselfsup_graft.analysis.cost.report import short
from mmselfsup_graft.cli.analysis_tools import get_flops
from mmselfsup_graft.errors import ConfigError

ROOT = Path(__file__).parents[2]


def block(tokens, width, asking=None):
    """Operations of a transformer block: qkv, two products of attention, projection, MLP of four times the width."""
    asking = tokens if asking is None else asking
    linear = 2 * width * (asking * width + tokens * 2 * width + asking * width) + 2 * asking * 2 * width * 4 * width
    return linear + 2 * 2 * asking * tokens * width


def test_masked_autoencoder(tmp_path, capsys):
    content = tiny_config('mim', images=8)
    config = write_config(tmp_path / 'tiny.py', content)
    cost = cost_of(graft.load_config(config))
    width, depth, patches, pixels = 16, 3, 16, 4 * 4
    embed = 2 * patches * pixels * width
    # the encoder alone: the last block computes the class token only
    assert cost.encoder == embed + (depth - 1) * block(1 + patches, width) + block(1 + patches, width, 1)
    kept = 4
    encoder = 2 * kept * pixels * width + depth * block(1 + kept, width)
    # its last block, and the head, compute the hidden patches only
    decoder = 2 * (1 + kept) * width * width + block(1 + patches, width, patches - kept)
    assert cost.forward == encoder + decoder + 2 * (patches - kept) * width * pixels
    assert 2.5 * cost.forward < cost.step <= 3 * cost.forward
    assert cost.views == [(16, 16)]
    get_flops.main([str(config)])
    assert f'{short(cost.step)}FLOPs' in capsys.readouterr().out


def test_two_views_and_a_momentum_encoder(tmp_path):
    cost = cost_of(graft.load_config(write_config(tmp_path / 'tiny.py', tiny_config('cl', images=8))))
    assert len(cost.views) == 2
    assert cost.forward > 4 * cost.encoder  # two views through two encoders, and heads
    assert cost.step < 3 * cost.forward  # no gradient of the momentum encoder
    assert cost.parameters['momentum_encoder'] > cost.parameters['backbone']
    assert cost.trained < sum(cost.parameters.values())


def test_gradients_of_grouped_convolutions():
    layer = torch.nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=3, bias=False)
    images = torch.randn(2, 6, 8, 8, requires_grad=True)
    forward = 2 * 2 * 6 * 2 * 9 * 4 * 4  # 2 x images x outputs x inputs of a group x window x places
    with _counter() as counter:
        output = layer(images)
        assert counter.get_total_flops() == forward
        output.sum().backward()
    assert counter.get_total_flops() == 3 * forward


@pytest.mark.parametrize('path', sorted((ROOT / 'configs' / 'swav').glob('*_folder-*.py')), ids=lambda path: path.stem)
def test_configs_whose_parts_are_told_the_epoch_by_a_hook(path):
    cost = cost_of(graft.load_config(path))
    assert len(cost.views) > 2
    assert cost.step > cost.forward > 0


def test_other_configs_are_refused(tmp_path):
    cfg = graft.load_config(write_config(tmp_path / 'tiny.py', tiny_config('mim', images=8)))
    cfg.default_scope = 'mmdet'
    with pytest.raises(ConfigError, match='training configs of this toolbox'):
        cost_of(cfg)


def test_units():
    assert [short(each) for each in (12, 1234, 5.67e9)] == ['12 ', '1.23 k', '5.67 G']
