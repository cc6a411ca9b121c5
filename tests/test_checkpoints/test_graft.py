"""Grafts: ranges, refusals, what is loaded, resized and reported."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_close, build, moco_config, vit_config

from mmselfsup_graft.checkpoints import (
    VIT_TIMM,
    GraftSource,
    graft_weights,
    parse_graft,
    plan_graft,
    resize_position_table,
    resize_relative_table,
    vit_depth,
)
from mmselfsup_graft.errors import CheckpointError, ConfigError

DEPTH = 3
State = dict[str, torch.Tensor]


@pytest.fixture(scope='module')
def vit() -> Any:
    """The encoder to fill."""
    return build(vit_config(depth=DEPTH))


def _write(path: Path, state: State, wrap: str = 'model') -> str:
    torch.save({wrap: {VIT_TIMM.from_canonical(k): v for k, v in state.items()}}, path)
    return str(path)


def _filled(vit: Any, value: float) -> State:
    return {name: torch.full_like(tensor, value) for name, tensor in vit.state_dict().items()}


def _graft(vit: Any, *entries: dict, **kwargs: Any) -> Any:
    return graft_weights(parse_graft(entries), vit.state_dict(), vit.depth, **kwargs)


def test_two_sources_share_the_encoder(vit: Any, tmp_path: Path) -> None:
    low = _write(tmp_path / 'low.pth', _filled(vit, 5.0))
    high = _write(tmp_path / 'high.pth', _filled(vit, 7.0))
    weights, report = _graft(vit, {'checkpoint': high, 'layers': (2, 3)}, {'checkpoint': low, 'layers': (0, 2)})
    assert set(weights) == set(vit.state_dict())
    for name, value in weights.items():
        wanted = 5.0 if vit.depth.layer_id(name) <= 2 else 7.0
        assert bool((value == wanted).all()), name
    assert not report.fresh
    assert set(report.loaded.values()) == {low, high}


def test_layers_that_no_source_names_stay_fresh(vit: Any, tmp_path: Path) -> None:
    path = _write(tmp_path / 'a.pth', _filled(vit, 5.0))
    weights, report = _graft(vit, {'checkpoint': path, 'layers': (1, 2)})
    assert {vit.depth.layer_id(n) for n in weights} == {2}
    assert {vit.depth.layer_id(n) for n in report.fresh} == {0, 1, 3, 4}
    assert set(weights) | set(report.fresh) == set(vit.state_dict())
    assert len(report.unused[path]) == len(report.fresh)


@pytest.mark.parametrize(
    ('layers', 'ids'),
    [
        (None, {0, 1, 2, 3, 4}),
        ((0, 3), {0, 1, 2, 3, 4}),
        ((0, 1), {0, 1}),
        ((1, 2), {2}),
        ((2, 3), {3, 4}),
    ],
)
def test_range_brings_stem_and_norm_with_the_ends(layers: tuple[int, int] | None, ids: set[int]) -> None:
    assert set(GraftSource('a.pth', layers).layer_ids(DEPTH)) == ids


@pytest.mark.parametrize('layers', [(0, 4), (-1, 2), (2, 2), (3, 1), (3, 4)])
def test_range_outside_the_depth_or_empty(layers: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'layers={layers} of a.pth does not fit a backbone of 3 blocks')):
        plan_graft(parse_graft([{'checkpoint': 'a.pth', 'layers': layers}]), vit_depth(DEPTH))


@pytest.mark.parametrize('second', [(1, 3), None])
def test_overlapping_sources(second: tuple[int, int] | None) -> None:
    sources = parse_graft([{'checkpoint': 'a.pth', 'layers': (0, 2)}, {'checkpoint': 'b.pth', 'layers': second}])
    with pytest.raises(ConfigError, match=r'overlap: b\.pth .* and a\.pth .* both provide layer id'):
        plan_graft(sources, vit_depth(DEPTH))


@pytest.mark.parametrize('layers', [(1,), (0, 1, 2), (0, 1.5), ('0', '3'), (0, None)])
def test_malformed_range(layers: tuple) -> None:
    with pytest.raises(ConfigError, match=r'a\.pth: layers=.* is not a \(start, stop\) pair'):
        parse_graft([{'checkpoint': 'a.pth', 'layers': layers}])


@pytest.mark.parametrize('layers', [3, 'all'])
def test_range_that_is_no_pair_at_all(layers: Any) -> None:
    with pytest.raises(ConfigError, match='pair'):
        parse_graft([{'checkpoint': 'a.pth', 'layers': layers}])


def test_unknown_key_and_missing_checkpoint() -> None:
    with pytest.raises(ConfigError, match="unknown key 'blocks'; keys are checkpoint, layers"):
        parse_graft([{'checkpoint': 'a.pth', 'blocks': (0, 1)}])
    with pytest.raises(ConfigError, match='no checkpoint given'):
        parse_graft([{'layers': (0, 1)}])


def test_lists_from_config_files_are_accepted() -> None:
    assert parse_graft([{'checkpoint': 'a.pth', 'layers': [0, 2]}]) == [GraftSource('a.pth', (0, 2))]


def test_missing_tensors(vit: Any, tmp_path: Path) -> None:
    state = _filled(vit, 5.0)
    dropped = [n for n in state if n.startswith('layers.1.')]
    path = _write(tmp_path / 'a.pth', {n: v for n, v in state.items() if n not in dropped})
    with pytest.raises(CheckpointError) as caught:
        _graft(vit, {'checkpoint': path})
    message = str(caught.value)
    assert f'{path} does not fit this backbone: {dropped[0]} is missing' in message
    assert f'and {len(dropped) - 3} more' in message
    weights, _ = _graft(vit, {'checkpoint': path, 'layers': (2, 3)})  # what is not asked for may be missing
    assert len(weights) == sum(vit.depth.layer_id(n) > 2 for n in state)


def test_checkpoint_of_another_width(vit: Any, tmp_path: Path) -> None:
    other = build(vit_config(width=24, depth=DEPTH))
    path = _write(tmp_path / 'a.pth', other.state_dict())
    with pytest.raises(CheckpointError, match=r'cls_token has shape \(1, 1, 24\), expected \(1, 1, 16\)'):
        _graft(vit, {'checkpoint': path}, grid=(4, 4))


def test_checkpoint_of_another_family(vit: Any, tmp_path: Path) -> None:
    resnet = build({'type': 'mmpretrain.ResNet', 'depth': 18})
    torch.save(resnet.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='check the architecture'):
        _graft(vit, {'checkpoint': str(tmp_path / 'a.pth')})


def test_position_table_of_another_grid(vit: Any, tmp_path: Path) -> None:
    other = build(vit_config(depth=DEPTH, img_size=24))
    other.init_weights()
    path = _write(tmp_path / 'a.pth', other.state_dict())
    weights, report = _graft(vit, {'checkpoint': path}, grid=vit.patch_resolution)
    assert report.resized == ['pos_embed']
    assert torch.equal(weights['pos_embed'], resize_position_table(other.pos_embed.data, (4, 4)))
    with pytest.raises(CheckpointError, match=r'pos_embed has shape \(1, 37, 16\), expected \(1, 17, 16\)'):
        _graft(vit, {'checkpoint': path})


def test_optional_tensors_and_batch_counters_may_be_missing(tmp_path: Path) -> None:
    resnet = build({'type': 'mmpretrain.ResNet', 'depth': 18})
    state = {n: torch.full_like(v, 3) for n, v in resnet.state_dict().items() if 'num_batches_tracked' not in n}
    torch.save(state, tmp_path / 'a.pth')
    target = {**resnet.state_dict(), 'mask_token': torch.zeros(4)}
    from mmselfsup_graft.checkpoints import depth_of

    source = parse_graft([{'checkpoint': str(tmp_path / 'a.pth')}])
    weights, report = graft_weights(source, target, depth_of(resnet), optional=('mask_token',))
    assert set(report.fresh) == set(target) - set(state)
    assert set(weights) == set(state)
    with pytest.raises(CheckpointError, match='mask_token is missing'):
        graft_weights(source, target, depth_of(resnet))


def test_report_text(vit: Any, tmp_path: Path) -> None:
    state = _filled(vit, 5.0)
    path = _write(
        tmp_path / 'a.pth', {**state, 'decoder_blocks.0.weight': torch.zeros(1), 'decoder_pred.bias': torch.zeros(1)}
    )
    _, report = _graft(vit, {'checkpoint': path, 'layers': (0, 2)})
    kept = sum(vit.depth.layer_id(n) <= 2 for n in state)
    text = report.text()
    lines = text.splitlines()
    assert lines[0] == 'graft report'
    assert f'{kept} tensors from {path} (format mae)' in lines[1]
    assert f'{len(state) - kept + 2} of its tensors are not part of this encoder' in lines[2]
    assert 'decoder_blocks.0 (1)' in lines[2]
    assert 'layers.2 (12)' in lines[2]
    assert lines[-1].strip() == f'{len(state) - kept} tensors stay fresh: layers.2 (12), ln1.weight (1), ln1.bias (1)'


def test_same_file_twice_reports_its_leftovers_once(vit: Any, tmp_path: Path) -> None:
    path = _write(tmp_path / 'a.pth', _filled(vit, 5.0))
    weights, report = _graft(vit, {'checkpoint': path, 'layers': (0, 1)}, {'checkpoint': path, 'layers': (2, 3)})
    unused = report.unused[path]
    assert sorted(unused) == sorted(n for n in vit.state_dict() if vit.depth.layer_id(n) == 2)
    assert set(weights) == set(vit.state_dict()) - set(unused)


def test_momentum_branch(tmp_path: Path) -> None:
    model = build(moco_config())
    state = {n: torch.full_like(v, 9 if n.startswith('momentum') else 4) for n, v in model.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    for branch, wanted in (('base', 4), ('momentum', 9)):
        entry = {'checkpoint': str(tmp_path / 'a.pth'), 'branch': branch}
        weights, _ = graft_weights(parse_graft([entry]), model.backbone.state_dict(), model.depth)
        assert all(bool((v == wanted).all()) for v in weights.values())


# ---------------------------------------------------------------- relative positions
def _beit(img_size: int = 64, **kwargs: Any) -> Any:
    arch = dict(embed_dims=16, num_layers=DEPTH, num_heads=2, feedforward_channels=32)
    model = build(dict(type='SelfSupBEiT', arch=arch, img_size=img_size, patch_size=16, **kwargs))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def test_relative_tables_follow_the_grid_and_their_index_is_never_taken(tmp_path: Path) -> None:
    source, target = _beit(), _beit(96, out_type='avg_featmap', final_norm=False)
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in source.state_dict().items()}}, tmp_path / 'a.pth')
    entries = parse_graft([{'checkpoint': str(tmp_path / 'a.pth')}])
    weights, report = graft_weights(entries, target.state_dict(), target.depth, (6, 6), target.graft_optional)
    before = source.state_dict()
    for block in range(DEPTH):
        name = f'layers.{block}.attn.relative_position_bias_table'
        assert_close(weights[name], resize_relative_table(before[name], (6, 6), extra=3), rtol=1e-6)
        assert weights[name].shape == (11 * 11 + 3, 2)
        assert torch.equal(weights[name][-3:], before[name][-3:])
    assert_close(weights['pos_embed'], resize_position_table(before['pos_embed'], (6, 6)), rtol=1e-6)
    assert sorted(report.fresh) == ['ln2.bias', 'ln2.weight']
    assert {name for name in target.state_dict() if name not in weights} == {
        *report.fresh,
        *(f'layers.{block}.attn.relative_position_index' for block in range(DEPTH)),
    }
    assert list(report.unused.values()) == [['ln1.weight', 'ln1.bias']]
    target.load_state_dict(weights, strict=False)
    assert target(torch.randn(1, 3, 96, 96))[-1].isfinite().all()


def test_a_shared_relative_table_goes_to_every_block(tmp_path: Path) -> None:
    shared, separate = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True), _beit()
    source = _beit(**shared)
    torch.save({'state_dict': {f'backbone.{n}': v for n, v in source.state_dict().items()}}, tmp_path / 'a.pth')
    entries = parse_graft([{'checkpoint': str(tmp_path / 'a.pth')}])
    weights, report = graft_weights(entries, separate.state_dict(), separate.depth, (4, 4))
    table = source.state_dict()['rel_pos_bias.relative_position_bias_table']
    for block in range(DEPTH):
        assert torch.equal(weights[f'layers.{block}.attn.relative_position_bias_table'], table)
    assert not report.fresh
    again, _ = graft_weights(entries, source.state_dict(), source.depth, (4, 4))
    assert torch.equal(again['rel_pos_bias.relative_position_bias_table'], table)
