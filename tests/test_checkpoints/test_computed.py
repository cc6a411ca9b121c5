"""Values that a conversion computes: against the definition, and there and back."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import PatchMerging
from torch import nn

from mmselfsup_graft.checkpoints.formats.computed import (
    IDENTITY,
    Entries,
    Entry,
    Step,
    expand_shared_table,
    fuse_qv_bias,
    join_qkv,
    merge_class_token,
    split_qkv,
    split_qv_bias,
)
from mmselfsup_graft.checkpoints.formats.computed_stages import (
    number_final_norm,
    swin_merge_from_mm,
    swin_merge_to_mm,
    unnumber_final_norm,
)
from mmselfsup_graft.errors import CheckpointError


def entries(**state: torch.Tensor) -> Entries:
    """One entry per tensor; ``__`` in a name stands for a dot."""
    names = {name.replace('__', '.'): value for name, value in state.items()}
    return [Entry(name, value, ((f'file.{name}', IDENTITY),)) for name, value in names.items()]


def test_query_key_value_there_and_back() -> None:
    weight, other = torch.randn(12, 4), torch.randn(4)
    given = entries(layers__3__attn__qkv__weight=weight, layers__3__ln1__bias=other)
    split = split_qkv(given)
    assert [e.name for e in split] == [
        *(f'layers.3.attn.{part}.weight' for part in ('query', 'key', 'value')),
        'layers.3.ln1.bias',
    ]
    assert torch.equal(split[1].tensor, weight[4:8])
    assert split[1].origins == (('file.layers.3.attn.qkv.weight', 'split_qkv:1'),)
    assert split[3].tensor is other
    (joined, rest) = join_qkv(split)
    assert (joined.name, rest.name) == ('layers.3.attn.qkv.weight', 'layers.3.ln1.bias')
    assert torch.equal(joined.tensor, weight)


def test_a_missing_key_is_named() -> None:
    given = entries(layers__0__attn__query__bias=torch.zeros(2), layers__0__attn__value__bias=torch.zeros(2))
    with pytest.raises(CheckpointError, match=r'layers\.0\.attn\.key\.bias is missing'):
        join_qkv(given)


def test_query_and_value_bias_with_zeros_between() -> None:
    q, v = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    (fused,) = fuse_qv_bias(entries(layers__0__attn__q_bias=q, layers__0__attn__v_bias=v))
    assert fused.name == 'layers.0.attn.qkv.bias'
    assert fused.tensor.tolist() == [1, 2, 0, 0, 3, 4]
    assert [source for source, _ in fused.origins] == ['file.layers.0.attn.q_bias', 'file.layers.0.attn.v_bias']


def test_fused_bias_of_a_vit_with_relative_positions() -> None:
    fused, table = torch.arange(6.0), torch.zeros(3, 1)
    given = entries(layers__0__attn__qkv__bias=fused, layers__0__attn__relative_position_bias_table=table)
    found = {each.name: each for each in split_qv_bias(given)}
    assert set(found) == {f'layers.0.attn.{name}' for name in ('q_bias', 'v_bias', 'relative_position_bias_table')}
    assert found['layers.0.attn.q_bias'].tensor.tolist() == [0, 1]
    assert found['layers.0.attn.v_bias'].tensor.tolist() == [4, 5]
    assert found['layers.0.attn.v_bias'].origins == (('file.layers.0.attn.qkv.bias', 'split_qv_bias:2'),)
    plain = entries(layers__0__attn__qkv__bias=fused)
    assert split_qv_bias(plain) == plain


def test_shared_table_is_copied_to_every_block() -> None:
    table = torch.randn(12, 2)
    given = entries(
        rel_pos_bias__relative_position_bias_table=table, layers__0__ln1__bias=table, layers__7__ln1__bias=table
    )
    names = {e.name: e for e in expand_shared_table(given)}
    assert set(names) == {
        'layers.0.ln1.bias',
        'layers.7.ln1.bias',
        'layers.0.attn.relative_position_bias_table',
        'layers.7.attn.relative_position_bias_table',
    }
    copies = [names[f'layers.{i}.attn.relative_position_bias_table'].tensor for i in (0, 7)]
    assert all(torch.equal(copy, table) for copy in copies)
    assert copies[0].data_ptr() != copies[1].data_ptr(), 'blocks must not train one another'


def test_merged_class_token() -> None:
    token, w1, b1, w2, b2 = (torch.randn(*shape) for shape in ((1, 1, 4), (8, 4), (8,), (4, 8), (4,)))
    given = entries(
        cls_token_mlp__fc1__weight=w1,
        cls_token=token,
        cls_token_mlp__fc1__bias=b1,
        cls_token_mlp__fc2__weight=w2,
        cls_token_mlp__fc2__bias=b2,
    )
    (merged,) = merge_class_token(given)
    torch.testing.assert_close(merged.tensor, F.linear(F.gelu(F.linear(token, w1, b1)), w2, b2), rtol=1e-6, atol=1e-6)
    half = [e.changed('half', e.tensor.half()) for e in given]
    assert merge_class_token(half)[0].tensor.dtype == torch.float16
    with pytest.raises(CheckpointError, match=r'cls_token_mlp\.fc2\.bias is missing'):
        merge_class_token(given[:-1])
    alone = entries(cls_token=token)
    assert merge_class_token(alone) == alone


class OfficialMerging(nn.Module):
    """Swin's patch merging: the channels of the four neighbors one after the other, column by column."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        neighbors = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(neighbors, dim=-1)))


def test_swin_merging_computes_the_same_in_mmpretrain() -> None:
    torch.manual_seed(0)
    official = OfficialMerging(3)
    nn.init.normal_(official.norm.weight)
    nn.init.normal_(official.norm.bias)
    state = {f'stages.0.downsample.{name}': value for name, value in official.state_dict().items()}
    given = [Entry(name, value, ((name, IDENTITY),)) for name, value in state.items()]
    moved = swin_merge_to_mm(given)
    theirs = PatchMerging(3, 6)
    theirs.load_state_dict({e.name.removeprefix('stages.0.downsample.'): e.tensor for e in moved})
    x = torch.randn(2, 4, 6, 3)
    with torch.no_grad():
        expected = official(x).flatten(1, 2)
        actual, size = theirs(x.flatten(1, 2), (4, 6))
        plain = PatchMerging(3, 6)
        plain.load_state_dict(official.state_dict())
        wrong, _ = plain(x.flatten(1, 2), (4, 6))
    assert tuple(size) == (2, 3)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    assert (wrong - expected).abs().max() > 0.1, 'without the new order it is another function'
    back = swin_merge_from_mm(moved)
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(back, given))


@pytest.mark.parametrize('stages', [2, 3, 4])
def test_the_norm_after_the_last_stage_has_its_number(stages: int) -> None:
    names = [*(f'stages.{i}.blocks.0.norm1.bias' for i in range(stages)), 'norm.weight', 'norm.bias']
    given = [Entry(name, torch.zeros(1), ((name, IDENTITY),)) for name in names]
    there = number_final_norm(given)
    assert [e.name for e in there] == [*names[:-2], f'norm{stages - 1}.weight', f'norm{stages - 1}.bias']
    assert unnumber_final_norm(there) == given


_TOKEN = {
    'cls_token': (1, 1, 4),
    'cls_token_mlp.fc1.weight': (6, 4),
    'cls_token_mlp.fc1.bias': (6,),
    'cls_token_mlp.fc2.weight': (4, 6),
    'cls_token_mlp.fc2.bias': (4,),
}


@pytest.mark.parametrize('name', _TOKEN)
@pytest.mark.parametrize('shape', [(), (3,), (2, 3)])
def test_a_class_token_of_another_shape_than_its_layers(name: str, shape: tuple[int, ...]) -> None:
    shapes = {**_TOKEN, name: shape}
    given = [Entry(name, torch.zeros(size), ((name, IDENTITY),)) for name, size in shapes.items()]
    with pytest.raises(CheckpointError, match='class token cannot be merged: its shape'):
        merge_class_token(given)


@pytest.mark.parametrize(
    ('step', 'shapes', 'words'),
    [
        (split_qkv, {'layers.0.attn.qkv.weight': (7, 2)}, 'must be a multiple of 3'),
        (split_qkv, {'layers.0.attn.qkv.bias': ()}, 'must be a multiple of 3'),
        (
            split_qv_bias,
            {'layers.0.attn.qkv.bias': (4,), 'layers.0.attn.relative_position_bias_table': (9, 1)},
            'must be a multiple of 3',
        ),
        (
            join_qkv,
            {f'layers.0.attn.{n}.weight': (2, size) for n, size in (('query', 2), ('key', 3), ('value', 2))},
            'must have equal shapes',
        ),
        (fuse_qv_bias, {'layers.0.attn.q_bias': (), 'layers.0.attn.v_bias': ()}, 'must have equal shapes'),
        (swin_merge_to_mm, {'stages.0.downsample.norm.weight': (6,)}, 'must be a multiple of 4'),
        (swin_merge_from_mm, {'stages.0.downsample.reduction.weight': ()}, 'must be a multiple of 4'),
    ],
)
def test_malformed_shapes_are_named(step: Step, shapes: dict[str, tuple[int, ...]], words: str) -> None:
    given = [Entry(name, torch.zeros(size), ((name, IDENTITY),)) for name, size in shapes.items()]
    with pytest.raises(CheckpointError, match=words):
        step(given)
