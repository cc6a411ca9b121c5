"""What can be grafted on what: every pair of objectives on every kind of backbone is grafted and trained for a step."""

from itertools import permutations
from pathlib import Path

import graft_pairs
import pytest
import torch
from helpers import build

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.errors import CheckpointError, ConfigError

PAGE = Path(__file__).parents[2] / 'configs' / 'layer_grafted' / 'README.md'
#: objectives that need patches which can be dropped
ONLY_ON_A_VIT = ('MAE', 'TEC')


@pytest.fixture(scope='module')
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[str, dict[str, torch.Tensor]]]:
    """(kind of backbone, objective) -> checkpoint of a model after a step, and its encoder's tensors."""
    folder, found = tmp_path_factory.mktemp('sources'), {}
    for kind, method, _ in graft_pairs.pairs():
        if (kind, method) not in found:
            model = graft_pairs.model_of(method, kind, seed=1)
            graft_pairs.step(method, model.train())
            path = graft_pairs.save(model, folder / f'{len(found)}.pth')
            found[kind, method] = path, {n: t.clone() for n, t in model.backbone.state_dict().items()}
    return found


@pytest.mark.parametrize(('kind', 'lower', 'upper'), graft_pairs.pairs())
def test_lower_layers_come_from_the_source_and_a_step_trains_them(kind, lower, upper, sources):
    path, expected = sources[kind, lower]
    blocks = depth_of(graft_pairs.model_of(upper, kind, seed=2).backbone).num_blocks
    layers = (0, blocks // 2)
    model = graft_pairs.model_of(upper, kind, seed=2, graft=[{'checkpoint': path, 'layers': layers}])
    fresh = graft_pairs.model_of(upper, kind, seed=2).backbone.state_dict()
    optional = tuple(getattr(model.backbone, 'graft_optional', ()))
    grafted = 0
    for name, value in model.backbone.state_dict().items():
        if model.depth.layer_id(name) <= layers[1] and not (name.startswith(optional) and name not in expected):
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0, msg=name)
            grafted += 1
        else:
            torch.testing.assert_close(value, fresh[name], rtol=0, atol=0, msg=name)
    assert grafted > 2
    if hasattr(model, 'momentum_encoder'):
        copies = model.momentum_encoder.backbone.state_dict()
        for name, value in model.backbone.state_dict().items():
            torch.testing.assert_close(copies[name], value, rtol=0, atol=0, msg=f'copy of {name}')
    assert bool(graft_pairs.step(upper, model.train()).isfinite())
    lowest = [p for n, p in model.backbone.named_parameters() if model.depth.layer_id(n) == 1]
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in lowest)


def test_the_table_of_the_readme_names_these_pairs():
    assert graft_pairs.table() in PAGE.read_text(encoding='utf-8')


@pytest.mark.parametrize('method', [name for name in graft_pairs.MASKED if name in ONLY_ON_A_VIT])
@pytest.mark.parametrize('kind', [kind for kind in graft_pairs.BACKBONES if kind != 'ViT'])
def test_objectives_that_drop_patches_refuse_other_backbones(method, kind):
    config = {**graft_pairs.METHODS[method]('ViT'), 'backbone': graft_pairs.BACKBONES[kind][0]}
    with pytest.raises(ConfigError, match=f'{method}.*(needs a SelfSupViT|must be a TECViT)'):
        build(config)


@pytest.mark.parametrize(('kind', 'other'), list(permutations(graft_pairs.BACKBONES, 2)))
def test_sources_of_another_kind_are_refused(kind, other, sources):
    with pytest.raises((CheckpointError, ConfigError)):
        graft_pairs.model_of('MoCo v3', kind, seed=2, graft=[{'checkpoint': sources[other, 'SimMIM'][0]}])
