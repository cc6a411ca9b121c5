"""Every algorithm gives losses, gradients, averages and running statistics of its slow form in ``tests/reference``."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from algorithm_cases import (
    BATCH,
    CASES,
    make_model,
    make_views,
    resnet_moco,
    results_of_step,
    simclr,
    small_vit,
    stir,
)
from helpers import (
    assert_close,
    build,
    moco_config,
    vit_config,
)
from torch import nn

import mmselfsup_graft.models.algorithms
from mmselfsup_graft.engine.hooks.random_state import seed_iteration
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import SelfSupAlgorithm
from mmselfsup_graft.models.batch_norm import ViewNorm
from mmselfsup_graft.models.blocks import EncoderBlock


def _both(model: Any, views: list[torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Results of a step of the model, and of the slow form on a copy of it that draws the same numbers."""
    twin, inputs, found = deepcopy(model), views[0] if len(views) == 1 else views, []
    for each, losses in ((model, model.loss), (twin, partial(reference.losses, twin))):
        seed_iteration(5, 0, 0)
        found.append(results_of_step(each, losses(inputs)))
    return found[0], found[1]


def _assert_agree(ours: dict[str, torch.Tensor], slow: dict[str, torch.Tensor]) -> None:
    assert set(ours) == set(slow)
    largest = max(float(value.abs().max()) for key, value in slow.items() if key.startswith('gradient'))
    for key, value in slow.items():
        # some true gradients are zero, before a batch norm
        assert_close(ours[key], value, rtol=1e-9, atol=1e-11 * largest, name=key)


@pytest.mark.parametrize('name', CASES)
def test_a_step_is_that_of_the_slow_form(name: str, tmp_path: Path) -> None:
    config, count = CASES[name]
    model = make_model(config(), tmp_path)
    stir(model)
    _assert_agree(*_both(model, make_views(count)))


def test_every_algorithm_has_a_slow_form() -> None:
    kinds = {kind for kind in vars(mmselfsup_graft.models.algorithms).values() if isinstance(kind, type)}
    algorithms = {
        kind.__name__ for kind in kinds if issubclass(kind, SelfSupAlgorithm) and kind is not SelfSupAlgorithm
    }
    assert algorithms == {config()['type'] for config, _ in CASES.values()}


def test_a_later_step_finds_the_averages_of_the_slow_form(tmp_path: Path) -> None:
    model = make_model(moco_config(small_vit(stop_grad_patch_embed=True), base_momentum=0.9), tmp_path)
    for _ in range(2):
        stir(model)
        ours, slow = _both(model, make_views(2))
        _assert_agree(ours, slow)
        model.zero_grad()


def test_drop_path_drops_the_same_samples() -> None:
    """The last block drops whole samples, whichever tokens it computes."""
    torch.manual_seed(1)
    vit = build(small_vit(drop_path_rate=0.5))
    vit.init_weights()
    vit.double().train()
    found = []
    for form in (vit.class_token, lambda x: vit.encode(x)[:, 0]):
        torch.manual_seed(2)
        found.append(form(make_views(1)[0]))
    assert_close(*found, rtol=1e-12)


@pytest.mark.parametrize('name', ['MAE', 'MoCo v3, masked views', 'MoCo v3, both', 'TEC'])
def test_masks_are_refused_for_images_of_another_size(name: str, tmp_path: Path) -> None:
    """Patches of another grid would have other numbers."""
    config, count = CASES[name]
    model = make_model(config(), tmp_path)
    views = make_views(count - 1) + make_views(1, 24)
    with pytest.raises(ConfigError, match='images of 24 x 24 for a model of 16 x 16; crop them to its size'):
        model.loss(views[0] if count == 1 else views)


@pytest.mark.parametrize('rate', ['drop_rate', 'attn_drop_rate', 'drop_path_rate'])
def test_a_block_drops_in_the_same_places(rate: str) -> None:
    """Asked for all tokens, a block draws what it draws in its usual form."""
    torch.manual_seed(1)
    block = EncoderBlock(16, 2, 32, **{rate: 0.5}).double().train()
    tokens, found = torch.randn(4, 5, 16, dtype=torch.float64), []
    for chosen in (slice(0, 5), None):
        torch.manual_seed(2)
        found.append(block(tokens, chosen))
    assert_close(*found, rtol=1e-11, atol=1e-13)
    assert not torch.equal(found[0], block.eval()(tokens))


# ---------------------------------------------------------------- views
def test_views_of_two_sizes_are_computed_one_by_one(tmp_path: Path) -> None:
    model = make_model(moco_config(small_vit(stop_grad_patch_embed=True)), tmp_path)
    stir(model)
    _assert_agree(*_both(model, [make_views(1, 16)[0], make_views(1, 24)[0]]))


def test_norms_are_told_of_views_only_inside_a_step(tmp_path: Path) -> None:
    model = make_model(resnet_moco('BN'), tmp_path)
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    kinds = [type(norm) for norm in norms]
    _both(model, make_views(2))
    assert len(norms) > 40
    assert {norm.views for norm in norms} == {1}
    assert [type(norm) for norm in norms] == kinds, 'classes stay as they were built'
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in model.backbone.modules() if hasattr(norm, 'running_mean'))


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_both_views_pass_at_once_if_all_norms_can_part_them(norm: str, tmp_path: Path) -> None:
    model = make_model(resnet_moco(norm), tmp_path)
    rows: list[int] = []
    for encoder in (model.backbone, model.momentum_encoder.backbone):
        encoder.register_forward_hook(lambda _, given, out: rows.append(len(given[0])))
    if norm == 'SyncBN':  # torch's own takes no tensors of the CPU in training
        model.eval()
    model.loss(make_views(2))
    assert rows == ([2 * BATCH] * 2 if norm == 'BN' else [BATCH] * 4)


def test_multi_task_lets_the_shared_encoder_part_views(tmp_path: Path) -> None:
    parts = resnet_moco('BN')
    backbone = parts.pop('backbone')
    objectives = {name: {'model': parts, 'views': [0, 1]} for name in ('a', 'b')}
    model = make_model({'type': 'MultiTask', 'backbone': backbone, 'objectives': objectives}, tmp_path)
    rows: list[int] = []
    model.backbone.register_forward_hook(lambda _, given, out: rows.append(len(given[0])))
    model.loss(make_views(2))
    assert rows == [2 * BATCH] * 2


def test_networks_are_built_with_norms_that_keep_views_apart() -> None:
    for norm, kind in (('BN', nn.BatchNorm2d), ('BN2d', nn.BatchNorm2d), ('PortableSyncBN', ViewNorm)):
        norms = [each for each in build(resnet_moco(norm)['backbone']).modules() if hasattr(each, 'running_mean')]
        assert len(norms) > 15
        assert all(isinstance(each, ViewNorm) and isinstance(each, kind) for each in norms)


def test_evaluation_mode_is_the_same_in_both_forms(tmp_path: Path) -> None:
    model = make_model(resnet_moco('BN'), tmp_path)
    stir(model)
    model.eval()
    with torch.no_grad():
        assert_close(model.loss(make_views(2))['loss'], reference.losses(model, make_views(2))['loss'], rtol=1e-12)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('norm', ['BN1d', 'PortableSyncBN'])
def test_norms_without_running_statistics_keep_views_apart_in_evaluation_too(norm: str, training: bool) -> None:
    model = build(simclr(norm, track_running_stats=False)).double()
    model.load_state_dict(_filled(model.state_dict()))
    model.train(training)
    assert_close(model.loss(make_views(2))['loss'], reference.losses(model, make_views(2))['loss'], rtol=1e-12)


def _filled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {k: 0.3 * torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in state.items()}


# ---------------------------------------------------------------- fused attention of SimMIM's ViT
@pytest.mark.parametrize('shared', [False, True])
@pytest.mark.parametrize('bias', ['qv_bias', True, False])
def test_fused_attention_with_relative_positions(bias: Any, shared: bool) -> None:
    """What a GPU computes, on the CPU: outputs and gradients are those of mmpretrain's explicit form."""
    options = {'use_rel_pos_bias': not shared, 'use_shared_rel_pos_bias': shared, 'bias': bias}
    arch = vit_config(depth=1)['arch']
    model = build({'type': 'SelfSupBEiT', 'arch': arch, 'img_size': 16, 'patch_size': 4, **options}).double()
    model.init_weights()
    stir(model)
    attention, tokens = model.layers[0].attn, torch.randn(2, 17, 16, dtype=torch.float64)
    given = model.rel_pos_bias() if shared else None
    weights = torch.randn(2, 17, 16, dtype=torch.float64)
    parameters = [*attention.parameters(), *(model.rel_pos_bias.parameters() if shared else [])]
    outputs = [attention.fused(tokens, given), attention(tokens, given)]
    assert_close(*outputs, rtol=1e-12)
    gradients = [torch.autograd.grad((each * weights).sum(), parameters, retain_graph=True) for each in outputs]
    for ours, theirs in zip(*gradients):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-13)
