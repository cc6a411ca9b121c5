"""Layer of every parameter, checked by walking the built modules, which know nothing of names."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from helpers import build, vit_config
from torch import nn

from mmselfsup_graft.checkpoints import Depth, convnext_depth, depth_from_names, depth_of, resnet_depth, vit_depth
from mmselfsup_graft.errors import ConfigError


def _expected(
    model: nn.Module, stem: Iterable[Any], blocks: Iterable[Iterable[nn.Module]]
) -> Iterator[tuple[str, int | None]]:
    """(name, layer) of all parameters: 0 for those below ``stem``, i + 1 for block i, None for the rest."""
    owner: dict[int, int] = {}
    for layer, members in enumerate([list(stem), *blocks]):
        for member in members:
            for parameter in member.parameters() if isinstance(member, nn.Module) else [member]:
                owner[id(parameter)] = layer
    for name, parameter in model.named_parameters():
        yield name, owner.get(id(parameter))


def _check(model: nn.Module, depth: Depth, stem: Iterable[Any], blocks: list[Any]) -> None:
    assert depth.num_blocks == len(blocks)
    seen = set()
    for name, layer in _expected(model, stem, blocks):
        wanted = len(blocks) + 1 if layer is None else layer
        assert depth.layer_id(name) == wanted, name
        seen.add(wanted)
    assert seen >= set(range(len(blocks) + 1)), 'every layer must hold a parameter'
    assert depth_from_names(n for n, _ in model.named_parameters()) == depth


def test_vit() -> None:
    vit = build(vit_config(width=8, depth=11))  # two-digit block numbers
    _check(vit, depth_of(vit), [vit.cls_token, vit.pos_embed, vit.patch_embed], [[layer] for layer in vit.layers])
    assert depth_of(vit) == vit_depth(11)


@pytest.mark.parametrize(('layers', 'num_blocks', 'extra'), [(18, 8, {}), (50, 16, {}), (18, 8, {'deep_stem': True})])
def test_resnet(layers: int, num_blocks: int, extra: dict[str, Any]) -> None:
    model = build({'type': 'mmpretrain.ResNet', 'depth': layers, 'base_channels': 64, **extra})
    stem = [model.stem] if extra else [model.conv1, model.norm1]
    blocks = [[block] for name in model.res_layers for block in getattr(model, name)]
    assert len(blocks) == num_blocks
    _check(model, depth_of(model), stem, blocks)
    shortcuts = [n for n, _ in model.named_parameters() if 'downsample' in n]
    assert shortcuts
    assert all(
        depth_of(model).layer_id(n) == depth_of(model).layer_id(n.partition('.downsample')[0]) for n in shortcuts
    )


def test_convnext() -> None:
    model = build({'type': 'mmpretrain.ConvNeXt', 'arch': 'tiny', 'gap_before_final_norm': False})
    assert len(model.stages) == 4
    blocks: list[list[nn.Module]] = []
    for index, stage in enumerate(model.stages):
        for position, block in enumerate(stage):
            first_after_shrinking = index > 0 and position == 0
            blocks.append([model.downsample_layers[index], block] if first_after_shrinking else [block])
    assert len(blocks) == 18
    _check(model, depth_of(model), [model.downsample_layers[0]], blocks)


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('layers.1.ln1.weight', 2),
        ('layers.10.ln1.weight', 11),
        ('ln1.weight', 13),
        ('patch_embed.projection.bias', 0),
        ('patch_embedding_of_another_kind', 13),
        ('cls_token', 0),
        ('', 13),
    ],
)
def test_prefixes_are_whole_components(name: str, layer: int) -> None:
    assert vit_depth(12).layer_id(name) == layer


def test_norms_inside_and_behind_the_blocks() -> None:
    resnet, convnext = resnet_depth([2, 2]), convnext_depth([3, 3])
    assert [resnet.layer_id(n) for n in ('bn1.weight', 'layer1.1.bn1.weight', 'layer2.0.bn2.bias', 'fc.weight')] == [
        *(0, 2, 3, 5)
    ]
    names = ['downsample_layers.0.1.weight', 'downsample_layers.1.0.weight', 'stages.1.0.norm.weight', 'norm1.weight']
    assert [convnext.layer_id(n) for n in names] == [0, 4, 4, 7]


def test_swin() -> None:
    names = [f'stages.{s}.blocks.{b}.ffn.layers.1.bias' for s, b in ((0, 0), (0, 1), (1, 0))]
    depth = depth_from_names([*names, 'stages.0.downsample.norm.bias', 'patch_embed.norm.weight', 'norm3.bias'])
    assert depth.num_blocks == 3
    others = ('patch_embed.norm.weight', 'stages.0.downsample.norm.bias', 'norm3.bias')
    assert [depth.layer_id(name) for name in (*names, *others)] == [1, 2, 3, 0, 3, 4]


@pytest.mark.parametrize('stray', ['stage2.0.branches.0.weight', 'transition1.0.weight', 'pos_embed2'])
def test_names_that_belong_to_no_layer_are_refused(stray: str) -> None:
    with pytest.raises(ConfigError, match=f'{re.escape(stray)} belongs to no known layer'):
        depth_from_names(['conv1.weight', 'layer1.0.conv1.weight', 'fc.bias', stray])


def test_unknown_family_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape('`depth` property')):
        depth_from_names(['features.0.weight', 'classifier.bias'])


def test_absurd_block_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'layers\.99999999\.a belongs to no known layer'):
        depth_from_names(['layers.0.a', 'layers.99999999.a'])


def test_own_depth_property_wins() -> None:
    class Two(nn.Module):
        depth = Depth(('low',), (('high',),))

        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.Linear(1, 1), nn.Linear(1, 1)

    assert [depth_of(Two()).layer_id(n) for n in ('low.weight', 'high.bias', 'other')] == [0, 1, 2]
