"""SwAV: codes, loss, prototypes and queue, options and errors."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import reference.swav
import torch
import torch.nn.functional as F
from config_cache import load_config
from helpers import assert_close, build, vit_config
from mmpretrain.engine.optimizers import LARS as TheirLARS
from mmpretrain.models.losses.swav_loss import SwAVLoss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mmselfsup_graft.engine import LARS, LayerWiseLRConstructor, OptimizerStepHook
from mmselfsup_graft.engine.hooks.check_data import check_last_batch
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.joint_views import last_view
from mmselfsup_graft.models.losses import prediction_entropy, sinkhorn, swapped_loss
from mmselfsup_graft.registry import MODELS

CONFIGS = Path(__file__).parents[2] / 'configs'


def scores_of(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def crops(*sizes: int, batch: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(batch, 3, size, size, generator=generator, dtype=torch.float64) for size in sizes]


def model_of(config: dict[str, Any] | None = None, **head: Any) -> Any:
    torch.manual_seed(1)
    model = build(config or reference.swav.resnet(**head))
    model.init_weights()
    return model.double().train()


# ---------------------------------------------------------------- codes
def test_rows_of_codes_sum_to_one_and_prototypes_share_the_samples() -> None:
    scores = scores_of(12, 5)
    assert_close(sinkhorn(scores, 0.05, 3).sum(1), torch.ones(12), rtol=1e-12)
    assert_close(sinkhorn(scores, 0.05, 500).sum(0), torch.full((5,), 12 / 5), rtol=1e-6)


def test_codes_follow_permutations_and_ignore_a_constant() -> None:
    scores = scores_of(9, 6)
    codes, samples, prototypes = sinkhorn(scores, 0.05, 3), torch.randperm(9), torch.randperm(6)
    assert_close(sinkhorn(scores[samples], 0.05, 3), codes[samples], rtol=1e-12)
    assert_close(sinkhorn(scores[:, prototypes], 0.05, 3), codes[:, prototypes], rtol=1e-12)
    assert_close(sinkhorn(scores + 7, 0.05, 3), codes, rtol=1e-12)


def test_codes_of_several_crops_are_those_of_each() -> None:
    scores = scores_of(3, 8, 4)
    assert_close(sinkhorn(scores, 0.1, 2), torch.stack([sinkhorn(each, 0.1, 2) for each in scores]), rtol=1e-12)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_codes_are_finite_for_a_tiny_epsilon(dtype: torch.dtype) -> None:
    with torch.autocast('cpu', torch.bfloat16):
        codes = sinkhorn(scores_of(8, 6).to(dtype), 1e-3, 3)
    assert codes.dtype == torch.float32
    assert codes.isfinite().all()
    assert_close(codes.sum(1), torch.ones(8), rtol=1e-5)


def test_codes_have_no_gradient() -> None:
    assert not sinkhorn(scores_of(4, 3).requires_grad_(), 0.05, 3).requires_grad


# ---------------------------------------------------------------- loss
def test_a_crop_is_not_compared_with_its_own_code() -> None:
    scores = scores_of(3, 4, 5).requires_grad_()
    swapped_loss(scores, sinkhorn(scores[1:2], 0.05, 3), [1], 0.1).backward()
    assert [bool(each.any()) for each in scores.grad] == [True, False, True]


def test_two_crops_are_the_swapped_pair() -> None:
    scores = scores_of(2, 4, 5)
    codes = sinkhorn(scores, 0.05, 3)
    first, second = (-(codes[a] * F.log_softmax(scores[1 - a] / 0.1, 1)).sum(1).mean() for a in (0, 1))
    assert_close(swapped_loss(scores, codes, [0, 1], 0.1), (first + second) / 2, rtol=1e-12)


def test_loss_is_that_of_mmpretrain_in_one_process() -> None:
    torch.manual_seed(0)
    theirs = SwAVLoss(6, num_crops=[2, 3], num_prototypes=7, epsilon=0.05, temperature=0.1, sinkhorn_iterations=3)
    z = F.normalize(torch.randn(5 * 4, 6), dim=1)
    head = build(reference.swav.prototypes(in_channels=6)).train()
    head.prototypes.load_state_dict(theirs.prototypes.state_dict())
    head.begin()
    features = z.unflatten(0, (5, 4))
    scores = head(features)
    loss = swapped_loss(scores, head.codes(features, scores), head.assigned, head.temperature)
    assert_close(loss, theirs(z), rtol=1e-5)


# ---------------------------------------------------------------- passes of the encoder
def test_crops_of_two_sizes_are_those_of_the_slow_form() -> None:
    for config in (reference.swav.resnet(), reference.swav.config(vit_config(depth=2))):
        model, views = model_of(config), crops(16, 16, 8, 8, 8)
        twin = deepcopy(model)
        ours, slow = model.loss(views)['loss'], reference.swav.losses(twin, views)['loss']
        assert_close(ours, slow, rtol=1e-10)
        ours.backward()
        slow.backward()
        largest = max(float(p.grad.abs().max()) for p in twin.parameters() if p.grad is not None)
        for (name, p), q in zip(model.named_parameters(), twin.parameters()):
            if q.grad is not None:
                assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-11 * largest, name=name)


@pytest.mark.parametrize(
    ('sizes', 'runs'), [((16, 16, 8, 8, 8), [8, 12]), ((16, 8, 16), [4, 4, 4]), ((16, 16, 16), [12])]
)
def test_consecutive_crops_of_one_size_pass_at_once(sizes: tuple[int, ...], runs: list[int]) -> None:
    model, rows = model_of(), []
    model.backbone.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    seen = []
    for part in (model.backbone, model.neck):
        part.register_forward_hook(lambda _, given, out: seen.append(len(last_view(out[-1]))))
    model.loss(crops(*sizes))
    assert rows == runs
    assert set(seen) == {4}, 'hooks see the last crop of a run'
    assert model.backbone.bn1.num_batches_tracked == len(runs)
    assert model.neck.bn0.num_batches_tracked == 1


def test_runs_are_told_apart_by_height_too() -> None:
    model, rows = model_of(), []
    model.backbone.register_forward_pre_hook(lambda _, given: rows.append(tuple(given[0].shape[2:])))
    views = crops(16, 16)
    model.loss([*views, views[0][:, :, :8]])
    assert rows == [(16, 16), (8, 16)]


def test_evaluation_changes_nothing() -> None:
    model = model_of(queue_length=8).eval()
    before = deepcopy(model.state_dict())
    loss = model.loss(crops(16, 16))['loss']
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert_close(reference.swav.losses(model, crops(16, 16))['loss'], loss, rtol=1e-10)


# ---------------------------------------------------------------- prototypes and queue
class Run:
    """What the hook of a run needs to know of its runner."""

    def __init__(self, model: Any, optimizer: Any, accumulated: int = 1) -> None:
        self.model, self.optim_wrapper = model, self
        self.optimizer, self._accumulative_counts = optimizer, accumulated
        self.iter = self.epoch = 0


def rows_of(model: Any) -> torch.Tensor:
    return model.head.prototypes.weight.detach().clone()


@pytest.mark.parametrize('kind', ['LARS', 'AdamW', 'SGD'])
def test_prototypes_stay_until_they_are_free(kind: str) -> None:
    model, frozen = model_of(frozen_steps=3), 3
    options = dict(lr=0.1, weight_decay=0.1)
    optimizer = LARS(model.parameters(), **options) if kind == 'LARS' else None
    optimizer = optimizer or getattr(torch.optim, kind)(model.parameters(), **options)
    run, hook = Run(model, optimizer), OptimizerStepHook()
    hook.before_train(run)
    units = reference.swav.unit_rows(rows_of(model))
    for step in range(5):
        run.iter = step
        hook.before_train_iter(run, step)
        model.loss(crops(16, 16))['loss'].backward()
        optimizer.step()
        optimizer.zero_grad()
        if step < frozen:
            assert_close(rows_of(model), units, rtol=1e-12)
            assert model.head.prototypes.weight not in optimizer.state
        else:
            assert not torch.allclose(rows_of(model), units, rtol=1e-6)
    assert model.head.steps == 5
    hook.after_train(run)
    optimizer.step()
    assert model.head.steps == 5, 'the optimizer is left alone'


def test_micro_batches_share_a_step_and_fill_the_queue() -> None:
    model = model_of(frozen_steps=1, queue_length=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    run, hook, norms = Run(model, optimizer, accumulated=2), OptimizerStepHook(), []
    hook.before_train(run)
    for iteration in range(6):
        run.iter = iteration
        hook.before_train_iter(run, iteration)
        model.loss(crops(16, 16))['loss'].backward()
        if iteration % 2:
            optimizer.step()
            optimizer.zero_grad()
        norms.append(bool((rows_of(model).norm(dim=1) - 1).abs().max() < 1e-9))
    assert (model.head.steps, model.head.queued) == (3, 16)
    # unit length from the beginning of a step to its end; the frozen first step leaves it
    assert norms == [True, True, True, False, True, False]


def test_hook_is_asked_for_where_it_is_needed() -> None:
    for options in (dict(frozen_steps=1), dict(queue_length=8, epoch_queue_starts=1)):
        with pytest.raises(ConfigError, match='OptimizerStepHook'):
            model_of(**options).loss(crops(16, 16))
    with pytest.raises(ConfigError, match='has no part that counts steps'):
        OptimizerStepHook().before_train(Run(nn.Linear(1, 1), None))


def test_a_queue_starts_at_its_epoch_and_is_used_when_full() -> None:
    model, queued = model_of(queue_length=10, epoch_queue_starts=1), []
    for epoch in (0, 0, 1, 1, 1):
        model.head.begin_iteration(epoch, True)
        model.loss(crops(16, 16))
        queued.append(model.head.queued)
    assert queued == [0, 0, 4, 8, 10]
    assert model.head.usable_length(4) == 8


def test_a_queue_shorter_than_a_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match='a queue of 3 holds no whole batch of 4 images x 1 processes'):
        model_of(queue_length=3).loss(crops(16, 16))


def test_counters_and_queue_are_part_of_the_state() -> None:
    model, other = model_of(queue_length=8), model_of(queue_length=8)
    model.head.steps = 5
    model.loss(crops(16, 16))
    other.load_state_dict(deepcopy(model.state_dict()))
    assert (other.head.steps, other.head.queued) == (5, 4)
    assert torch.equal(other.head.queue, model.head.queue)
    with pytest.raises(RuntimeError, match='queue'):
        model_of(queue_length=9).load_state_dict(model.state_dict())
    assert 'head.queue' not in model_of().state_dict()


def test_prototypes_without_samples_are_said(caplog: pytest.LogCaptureFixture) -> None:
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    model = model_of(num_prototypes=30, queue_length=8)
    model.loss(crops(16, 16))
    model.loss(crops(16, 16))
    logger.removeHandler(caplog.handler)
    assert sum('30 prototypes share 12 samples' in record.getMessage() for record in caplog.records) == 1


# ---------------------------------------------------------------- options and errors
@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(temperature=0.0), 'temperature=0.0'),
        (dict(epsilon=-1.0), 'epsilon=-1.0'),
        (dict(iterations=0), 'iterations=0'),
        (dict(assigned=[]), 'numbers of different crops'),
        (dict(assigned=[0, 0]), 'numbers of different crops'),
        (dict(frozen_steps=-1), 'must not be negative'),
        (dict(temperature=float('nan')), 'temperature=nan'),
        (dict(temperature=float('inf')), 'temperature=inf'),
        (dict(epsilon=float('nan')), 'epsilon=nan'),
        (dict(epsilon=float('inf')), 'epsilon=inf'),
        (dict(num_prototypes=0), 'num_prototypes=0 must be a whole number'),
        (dict(num_prototypes=[5, 6]), 'there is one set'),
        (dict(assigned=1), 'assigned=1 must be a list'),
        (dict(assigned=['0']), 'must be a list of numbers of crops'),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace('.', r'\.')):
        build(reference.swav.prototypes(**options))


def test_too_few_crops_and_images_are_refused() -> None:
    model = model_of(assigned=[0, 2])
    for inputs in (crops(16, 16), crops(16)[0]):
        with pytest.raises(ConfigError, match='needs 3 crops of every image or more'):
            model.loss(inputs)
    with pytest.raises(ConfigError, match='a batch of 2 or more, got 1'):
        model.loss(crops(16, 16, 16, batch=1))


def test_crops_of_other_numbers_of_images_are_refused() -> None:
    with pytest.raises(ConfigError, match='batches of 4, 3 images'):
        model_of().loss([*crops(16), *crops(16, batch=3)])


@pytest.mark.parametrize('head', [None, dict(type='NTXentHead')])
def test_another_head_is_refused(head: dict[str, Any] | None) -> None:
    with pytest.raises(ConfigError, match=r"SwAV needs head=dict\(type='PrototypeHead'"):
        build({**reference.swav.config(), 'head': head})


def test_a_missing_projector_is_refused() -> None:
    with pytest.raises(ConfigError, match='SwAV needs a projector'):
        build({**reference.swav.config(), 'neck': None})


def test_a_last_batch_of_one_is_told_before_training() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(9)), 4)
    with pytest.raises(ConfigError, match='would have 1'):
        check_last_batch(model_of(), loader, 1)


def test_features_have_unit_length_in_float32_under_autocast() -> None:
    model = model_of().float()
    with torch.autocast('cpu', torch.bfloat16):
        z = model.project([crop.float() for crop in crops(16, 16)])
    assert z.dtype == torch.float32
    assert_close(z.norm(dim=2), torch.ones(2, 4), rtol=1e-6)  # bfloat16 is off by 1e-3


# ---------------------------------------------------------------- steps
def test_prototypes_do_not_change_between_micro_batches() -> None:
    """Rows of unit length that are normalized again differ in their last bits."""
    head = build(reference.swav.prototypes(in_channels=128, num_prototypes=500)).train()
    head.begin_iteration(0, True)
    head.begin()
    rows = head.prototypes.weight.detach().clone()
    head.begin_iteration(0, False)
    head.begin()
    assert torch.equal(head.prototypes.weight, rows)
    assert not torch.equal(F.normalize(rows, dim=1), rows)


def test_frozen_prototypes_do_not_count_when_gradients_are_clipped() -> None:
    model, free = model_of(frozen_steps=1), model_of()
    model.head.begin_iteration(0, True)
    for each in (model, free):
        each.loss(crops(16, 16))['loss'].backward()
    weight = model.head.prototypes.weight
    assert not weight.grad.any()  # but it is there, as DDP expects
    assert free.head.prototypes.weight.grad.any()
    for (name, p), q in zip(model.named_parameters(), free.parameters()):
        assert p is weight or torch.equal(p.grad, q.grad), name


def test_measuring_leaves_prototypes_and_queue_alone() -> None:
    model = model_of(queue_length=8)
    model.head.update_due = False
    before = deepcopy(model.head.state_dict())
    loss = model.loss(crops(16, 16))['loss']
    assert all(torch.equal(value, before[name]) for name, value in model.head.state_dict().items())
    model.head.update_due = True
    assert_close(model.loss(crops(16, 16))['loss'], loss, rtol=1e-12)


def test_entropy_shows_which_prototypes_are_used() -> None:
    assert_close(prediction_entropy(torch.zeros(2, 3, 5), 0.1), math.log(5), rtol=1e-6)
    one = torch.eye(5)[:1].expand(6, 5)
    assert float(prediction_entropy(one, 1e-2)) == pytest.approx(0, abs=1e-6)
    assert_close(prediction_entropy(torch.eye(5)[[0, 0, 3, 3]], 1e-2), math.log(2), rtol=1e-6)
    losses = model_of().loss(crops(16, 16))
    assert not losses['entropy'].requires_grad
    assert_close(losses['entropy_max'], math.log(7), rtol=1e-12)


def test_prototypes_are_as_wide_as_the_projections() -> None:
    with pytest.raises(ConfigError, match=r'head\.in_channels=5, but with its other parts it must be 8'):
        build(reference.swav.config(in_channels=5))


def test_transformers_with_relative_positions_refuse_other_sizes() -> None:
    arch = vit_config(depth=1)['arch']
    backbone = dict(type='SelfSupBEiT', arch=arch, img_size=16, patch_size=4, use_rel_pos_bias=True)
    model = model_of(reference.swav.config(backbone))
    model(crops(16, 16), mode='loss')
    with pytest.raises(ConfigError, match='images of 8 x 8 for a backbone of 16 x 16, which takes one size'):
        model(crops(16, 16, 8), mode='loss')


@pytest.mark.parametrize(('width', 'backbone', 'whole'), [(128, 93.9, 128.9), (256, 375.4, 443.9)])
def test_parameters_of_wide_networks(width: int, backbone: float, whole: float) -> None:
    """In millions, as the published code has them."""
    (path,) = (CONFIGS / 'swav').glob(f'swav_resnet50-w{width}_*')
    with torch.random.fork_rng():
        model = MODELS.build(load_config(path).model)
    counts = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.backbone, model)]
    assert counts == pytest.approx([backbone, whole], abs=0.05)


def test_a_tenth_of_the_rate_is_a_tenth_of_the_step_under_larc() -> None:
    """The trust ratio does not undo rates per layer."""
    model = model_of()
    before = deepcopy(model)
    larc = dict(type='LARS', lr=1.0, momentum=0.0, adapt_1d=True, separate_norms=True, eps=1e-8)
    wrapper = LayerWiseLRConstructor(dict(optimizer=larc), dict(lr_layer_wise=[0.1, 0.1, 0.1, 1.0]))(model)
    model.loss(crops(16, 16))['loss'].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    wrapper.optimizer.step()
    seen = set()
    for (name, p), old in zip(model.named_parameters(), before.parameters()):
        layer = model.depth.layer_id(name.removeprefix('backbone.')) if 'backbone' in name else 9
        if p.ndim > 1 and gradients[name].norm() > 1e-9 and 'prototypes' not in name:
            rate = float((p - old).norm() / old.norm()) / 1e-3
            assert rate == pytest.approx(0.1 if layer <= 6 else 1.0, rel=1e-4), name
            seen.add(layer)
    assert len(seen) > 7


# ---------------------------------------------------------------- where mmpretrain computes something else
def test_lars_of_mmpretrain_has_the_rate_inside_its_momentum() -> None:
    """Equal while the rate is constant, not after it changed (arXiv 2006.09882 has it outside, as apex has)."""
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), torch.randn(4, 4, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = dict(lr=0.1, momentum=0.9, weight_decay=1e-6)
    pair = (LARS([ours], adapt_1d=True, separate_norms=True, eps=1e-8, **options), TheirLARS([theirs], **options))
    differences = []
    for rate, gradient in zip((0.1, 0.1, 10.0, 0.01), gradients):
        for optimizer, parameter in zip(pair, (ours, theirs)):
            optimizer.param_groups[0]['lr'] = rate
            parameter.grad = gradient.clone()
            optimizer.step()
        differences.append(float((ours - theirs).detach().norm() / (ours - start).detach().norm()))
    assert max(differences[:2]) < 1e-5
    assert min(differences[2:]) > 1e-2
