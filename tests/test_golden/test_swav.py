"""SwAV against golden numbers: codes, loss, queue, ranks, one step of a network, a whole training run."""

from typing import Any

import pytest
import torch
from golden_sets import some, starting
from golden_swav import (
    crops_of,
    crops_of_features,
    features_model,
    files,
    joined_queue,
    loaded,
    our_name,
    read,
    state_of,
)
from helpers import assert_close, run_ranks, tensor
from mmpretrain.models.losses.swav_loss import distributed_sinkhorn

from mmselfsup_graft.engine import LARS, OptimizerStepHook, WarmupCosineLR
from mmselfsup_graft.models.losses import sinkhorn


# ---------------------------------------------------------------- codes
@pytest.mark.parametrize('name', files('swav_sinkhorn'))
def test_codes(name: str) -> None:
    arrays, settings = read(name)
    scores, options = tensor(arrays['scores']), (settings['epsilon'], settings['iterations'])
    assert_close(sinkhorn(scores, *options), arrays['Q'], rtol=1e-10)
    single = sinkhorn(scores.float(), *options)
    assert single.dtype == torch.float32
    assert_close(single, arrays['Q'], rtol=1e-4, name='float32, where the published code may be NaN')


# ---------------------------------------------------------------- loss and queue, features given
@pytest.mark.parametrize('name', files('swav_loss'))
def test_loss_of_given_features(name: str) -> None:
    arrays, settings = read(name)
    model, crops = features_model(arrays, settings), crops_of_features(arrays['z'], settings)
    assert_close(torch.cat(list(model.project(crops))), arrays['embedding'], rtol=1e-12, name='embedding')
    loss = model.loss(crops)['loss']
    weight = model.head.prototypes.weight
    assert_close(weight, arrays['prototypes_normalised'], rtol=1e-12, name='prototypes')
    assert_close(model.head(model.project(crops)).flatten(0, 1), arrays['scores'], rtol=1e-12, name='scores')
    assert_close(model.seen, arrays['Q'], rtol=1e-10, name='Q')
    assert_close(loss, arrays['loss'], rtol=1e-10, name='loss')
    loss.backward()
    assert_close(torch.cat([crop.grad for crop in crops]), arrays['grad_z'], rtol=1e-9, name='gradient of z')
    assert_close(weight.grad, arrays['grad_prototypes'], rtol=1e-9, name='gradient of the prototypes')
    if settings['queue_length']:
        assert_close(model.head.queue, arrays['queue_after'], rtol=1e-12, name='queue')


@pytest.mark.parametrize('name', files('swav_loss'))
def test_loss_in_float32(name: str) -> None:
    arrays, settings = read(name)
    model = features_model(arrays, settings).float()
    loss = model.loss([crop.detach().float() for crop in crops_of_features(arrays['z'], settings)])['loss']
    assert_close(loss, arrays['loss'], rtol=1e-4)


@pytest.mark.parametrize('name', files('swav_queue'))
def test_queue_fills_and_is_used_once_it_is_full(name: str) -> None:
    arrays, settings = read(name)
    model, used = features_model(arrays, settings), []
    length = model.head.usable_length(settings['batch'])  # published queues have no more
    for step, z in enumerate(some(arrays['z'], 'steps')):
        used.append(model.head.queued >= length)
        loss = model.loss(crops_of_features(z, settings))['loss']
        assert_close(loss, arrays['loss'][step], rtol=1e-10, name=f'loss of step {step}')
        assert_close(model.seen, arrays['Q'][step], rtol=1e-10, name=f'Q of step {step}')
        queue = model.head.queue[:, :length]
        assert_close(queue, arrays['queue_after'][step], rtol=1e-12, name=f'queue after step {step}')
    assert used == arrays['queue_used'].tolist()


# ---------------------------------------------------------------- ranks
def one_rank(rank: int, name: str) -> dict[str, Any]:
    """Loss, codes, gradients and queue of one process."""
    arrays, settings = read(name)
    model, crops = features_model(arrays, settings), crops_of_features(arrays['z'][rank], settings)
    loss = model.loss(crops)['loss']
    loss.backward()
    theirs = []
    if not settings['queue_length']:
        options = (settings['sinkhorn_iterations'], settings['world_size'], settings['epsilon'])
        scores = model.head(model.project(crops)).detach()
        theirs = [distributed_sinkhorn(scores[crop], *options) for crop in settings['crops_for_assign']]
    gradients = {
        'theirs': theirs,
        'grad_z': torch.cat([crop.grad for crop in crops]),
        'grad': model.head.prototypes.weight.grad,
    }
    return {'loss': loss.detach(), 'Q': model.seen, 'queue': getattr(model.head, 'queue', None), **gradients}


@pytest.mark.parametrize('name', files('swav_ranks'))
def test_ranks(name: str) -> None:
    arrays, settings = read(name)
    found = run_ranks(one_rank, settings['world_size'], name)
    for rank, result in enumerate(found):
        assert_close(result['loss'], arrays['loss'][rank], rtol=1e-10, name=f'loss of rank {rank}')
        assert_close(result['Q'], arrays['Q'][rank], rtol=1e-10, name=f'Q of rank {rank}')
        assert_close(result['grad_z'], arrays['grad_z'][rank], rtol=1e-9, name=f'gradient of rank {rank}')
        alone = tensor(arrays['Q_without_all_reduce'][rank])
        assert (result['Q'] - alone).abs().max() > 1e-3
        if result['theirs']:  # mmpretrain reduces the sums only where one is zero: every process balances alone
            assert_close(torch.stack(result['theirs']), alone, rtol=1e-10)
        if settings['queue_length']:
            after = joined_queue(tensor(arrays['queue_after']), settings['batch'])
            assert_close(result['queue'], after, rtol=1e-12, name=f'queue of rank {rank}')
    mean = {key: sum(result[key] for result in found) / len(found) for key in ('loss', 'grad')}
    assert_close(mean['loss'], arrays['loss_joined_batch'], rtol=1e-10, name='mean of the losses')
    assert_close(mean['grad'], arrays['grad_prototypes_mean'], rtol=1e-9, name='mean gradient of the prototypes')


@pytest.mark.parametrize('name', files('swav_ranks'))
def test_ranks_are_one_process_on_the_joined_batch(name: str) -> None:
    """One process that has the crops of all, and the same queue."""
    arrays, settings = read(name)
    model = features_model(arrays, settings)
    per_rank = [tensor(z).split(settings['batch']) for z in arrays['z']]
    joined = [torch.cat(crops) for crops in zip(*per_rank)]
    assert_close(model.loss(joined)['loss'], arrays['loss_joined_batch'], rtol=1e-10)
    if settings['queue_length']:
        after = joined_queue(tensor(arrays['queue_after']), settings['batch'])
        assert_close(model.head.queue, after, rtol=1e-12)


# ---------------------------------------------------------------- the network
def without_gradient(name: str) -> bool:
    """Whether a batch norm follows, so that the true gradient is zero and what is computed is noise."""
    return our_name(name) == 'neck.fc0.bias'


@pytest.mark.parametrize('name', files('swav_step'))
def test_one_step(name: str) -> None:
    arrays, settings = read(name)
    model, crops = loaded(settings, state_of(arrays)), crops_of(arrays)
    seen: dict[str, torch.Tensor] = {}
    model.head.register_forward_hook(lambda _, given, out: seen.update(z=given[0], scores=out))
    loss = model.loss(crops)['loss']
    assert_close(loss, arrays['loss'], rtol=1e-8, name='loss')
    for key, ours in (('embedding', seen['z']), ('scores', seen['scores'])):
        assert_close(ours.flatten(0, 1), arrays[key], rtol=1e-8, name=key)
    assert_close(model.head.prototypes.weight, arrays['prototypes_normalised'], rtol=1e-12, name='prototypes')
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters()}
    for theirs, value in starting(arrays, 'grad.').items():
        assert_close(gradients[our_name(theirs)], value, rtol=1e-8, name=theirs)
    norms = dict(zip(some(arrays['grad_names'], 'gradients'), arrays['grad_norm']))
    for theirs, value in norms.items():
        if not without_gradient(theirs):
            assert_close(gradients[our_name(theirs)].norm(), value, rtol=1e-8, name=theirs)
    state = model.state_dict()
    for theirs, value in starting(arrays, 'after.').items():
        assert_close(state[our_name(theirs)], value, rtol=1e-8, name=theirs)
    assert model.backbone.bn1.num_batches_tracked == arrays['num_batches_tracked_backbone']
    if hasattr(model.neck, 'bn0'):
        assert model.neck.bn0.num_batches_tracked == arrays['num_batches_tracked_head']


class Run:
    """What the hook of a run needs to know of its runner."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        self.model, self.optim_wrapper = model, self
        self.optimizer, self._accumulative_counts = optimizer, 1
        self.iter = self.epoch = 0


@pytest.mark.parametrize('name', files('swav_train'))
def test_a_whole_run(name: str) -> None:
    arrays, settings = read(name)
    options, per_epoch = settings['optimizer'], settings['iterations_per_epoch']
    counted = {key: settings[key] for key in ('epoch_queue_starts', 'queue_length')}
    model = loaded(settings, state_of(arrays), frozen_steps=settings['freeze_prototypes_niters'], **counted)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    own = {key: options[key] for key in ('momentum', 'weight_decay', 'trust_coefficient', 'eps')}
    optimizer = LARS(parameters.values(), settings['base_lr'], adapt_1d=True, separate_norms=True, **own)
    schedule = WarmupCosineLR(
        optimizer,
        warmup=settings['warmup_epochs'] * per_epoch,
        end=settings['epochs'] * per_epoch,
        start_ratio=settings['start_warmup'] / settings['base_lr'],
        min_ratio=settings['final_lr'] / settings['base_lr'],
    )
    run, hook = Run(model, optimizer), OptimizerStepHook()
    hook.before_train(run)
    weight, head, crops = model.head.prototypes.weight, model.head, crops_of(arrays)
    for step in range(settings['epochs'] * per_epoch):
        run.iter, run.epoch = step, step // per_epoch
        hook.before_train_iter(run, step)
        used = head.queued >= head.usable_length(settings['batch'])
        assert used == arrays['queue_used'][step], step
        loss = model.loss([crop[step] for crop in crops])['loss']
        assert_close(loss, arrays['loss'][step], rtol=1e-7, name=f'loss of step {step}')
        assert_close(weight, arrays['prototypes_in_forward'][step], rtol=1e-7, name=f'prototypes of step {step}')
        assert_close(optimizer.param_groups[0]['lr'], arrays['lr'][step], rtol=1e-12, name=f'rate of step {step}')
        loss.backward()
        optimizer.step()
        assert ('mu' in optimizer.state[weight]) == arrays['prototypes_trained'][: step + 1].any(), step
        assert_close(weight, arrays['prototypes_after_step'][step], rtol=1e-7, name=f'prototypes after {step}')
        optimizer.zero_grad()
        schedule.step()
    hook.after_train(run)
    assert head.usable_length(settings['batch']) == settings['queue_length_used']
    assert_close(head.queue[:, : settings['queue_length_used']], arrays['queue'], rtol=1e-7, name='queue')
    state = model.state_dict()
    for theirs, value in some(starting(arrays, 'after.')).items():
        if not without_gradient(theirs):
            assert_close(state[our_name(theirs)], value, rtol=1e-7, name=theirs)
    for theirs, value in zip(some(arrays['momentum_buffer_names'], 'buffers'), arrays['momentum_buffer_norm']):
        if not without_gradient(theirs):
            norm = optimizer.state[parameters[our_name(theirs)]]['mu'].norm()
            assert_close(norm, value, rtol=1e-7, name=f'momentum of {theirs}')
