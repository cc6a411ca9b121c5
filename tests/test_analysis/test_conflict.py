"""Gradient conflict: against hand-made losses, and without a trace in the model."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_close, build, mae_config, moco_config, multi_task_config
from torch import nn

from mmselfsup_graft.analysis import ConflictProfile, conflict_of_losses, layer_groups, measure_conflict
from mmselfsup_graft.errors import ConfigError, DataError


def _model():
    torch.manual_seed(0)
    model = build(multi_task_config())
    model.init_weights()
    return model.double().train()


def _views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(3)]


def test_cosines_of_known_gradients() -> None:
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    losses = {'x': 3 * a[0] + 4 * a[1] + b[0], 'y': -a[1] * 2, 'z': a[0] * 5}
    rows = conflict_of_losses(losses, {'a': [a], 'b': [b], 'all': [a, b]}, iteration=7)
    found = {(row.first, row.second, row.group): row for row in rows}
    assert len(rows) == 9
    assert {row.iteration for row in rows} == {7}
    assert found['x', 'y', 'a'].cosine == pytest.approx(-0.8)
    assert (found['x', 'y', 'a'].norm_first, found['x', 'y', 'a'].norm_second) == (5.0, 2.0)
    assert found['x', 'z', 'a'].cosine == pytest.approx(0.6)
    assert found['y', 'z', 'a'].cosine == 0.0
    assert found['x', 'z', 'all'].cosine == pytest.approx(15 / (5 * math.sqrt(26)))
    assert math.isnan(found['x', 'y', 'b'].cosine)  # y does not know b


def test_groups_follow_the_depth() -> None:
    model = _model()
    groups = layer_groups(model.backbone)
    assert list(groups) == ['embed', 'blocks.0', 'blocks.1', 'blocks.2', 'norm', 'all']
    counts = {name: len(members) for name, members in groups.items()}
    assert counts['all'] == sum(p.requires_grad for p in model.backbone.parameters())
    assert counts['all'] == sum(counts.values()) - counts['all']
    resnet = build(dict(type='mmpretrain.ResNet', depth=18))
    assert list(layer_groups(resnet)) == ['embed', *(f'blocks.{i}' for i in range(8)), 'all']


def test_a_measurement_equals_two_backward_passes_and_leaves_no_trace() -> None:
    model, views = _model(), _views()
    for parameter in model.backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(4)
    rows = measure_conflict(model, views, 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(bool((p.grad == 1).all()) for p in model.backbone.parameters())
    assert model.training
    assert model.objectives['cl'].update_due

    gradients = {}
    for name in ('mim', 'cl'):
        twin = _model()
        twin.objectives['cl'].update_due = False
        torch.manual_seed(4)
        twin.objective_losses(views)[name].backward()
        gradients[name] = dict(twin.backbone.named_parameters())
    for row in rows:
        names = [n for n, p in model.backbone.named_parameters() if p.requires_grad and _in_group(model, n, row.group)]
        a, b = (torch.cat([gradients[o][n].grad.flatten() for n in names]) for o in (row.first, row.second))
        assert_close(row.cosine, torch.cosine_similarity(a, b, dim=0), rtol=0, atol=1e-10, name=row.group)
        assert_close(row.norm_first, a.norm(), rtol=1e-9, name=row.group)


def _in_group(model, name: str, group: str) -> bool:
    names = ['embed', 'blocks.0', 'blocks.1', 'blocks.2', 'norm']
    return group in ('all', names[model.depth.layer_id(name)])


@pytest.mark.parametrize('config', [mae_config(), moco_config()], ids=['mae', 'moco'])
def test_one_objective_has_no_conflict(config) -> None:
    with pytest.raises(ConfigError, match='several objectives'):
        measure_conflict(build(config), _views())


def test_profiles_survive_a_file(tmp_path: Path) -> None:
    profile = ConflictProfile()
    for iteration in range(4):
        torch.manual_seed(iteration)
        profile.rows += measure_conflict(_model(), _views(), iteration)
    profile.write_csv(tmp_path / 'conflict.csv')
    again = ConflictProfile.read_csv(tmp_path / 'conflict.csv')
    assert again == profile
    assert again.pairs() == [('mim', 'cl')]
    blocks = again.over_blocks(('mim', 'cl'))
    assert blocks.shape == (4, 3)
    np.testing.assert_array_equal(blocks[:, 1], again.cosines(('mim', 'cl'), 'blocks.1'))
    assert [path.name for path in tmp_path.iterdir()] == ['conflict.csv']


@pytest.mark.parametrize('text', ['', 'a,b\n1,2\n', 'iteration,first\n', '\0', 'x' * 200_000])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / 'other.csv'
    path.write_text(text)
    with pytest.raises(DataError, match='not a conflict profile'):
        ConflictProfile.read_csv(path)
    with pytest.raises(DataError, match='not a conflict profile'):
        ConflictProfile.read_csv(tmp_path / 'missing.csv')
    os.mkfifo(tmp_path / 'pipe.csv')
    with pytest.raises(DataError, match='not a conflict profile'):
        ConflictProfile.read_csv(tmp_path / 'pipe.csv')


def test_frozen_blocks_keep_the_numbers_of_the_others() -> None:
    torch.manual_seed(0)
    model = build(multi_task_config(frozen_layers=2))
    model.init_weights()
    profile = ConflictProfile(measure_conflict(model.double().train(), _views()))
    assert profile.groups() == ['blocks.2', 'norm', 'all']
    blocks = profile.over_blocks(('mim', 'cl'))
    assert np.isnan(blocks[:, :2]).all()
    assert not np.isnan(blocks[:, 2]).any()


def test_a_mask_token_is_no_part_of_the_comparison() -> None:
    resnet = build(dict(type='MaskedResNetCIFAR', depth=18, in_channels=1))
    token = resnet.mask_token
    assert all(p is not token for group in layer_groups(resnet).values() for p in group)
