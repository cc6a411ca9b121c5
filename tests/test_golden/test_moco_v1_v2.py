"""MoCo v1 and v2 against the published code: a step, runs, shuffled batch norm, the queue, schedules, checkpoints."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import reference
import torch
import torch.distributed as dist
from golden_sets import golden, golden_file, golden_names, some, starting
from helpers import assert_close, build, run_ranks, tensor
from mmpretrain.models import ResNet
from torch import nn

from mmselfsup_graft.checkpoints import MOCO_MODEL, to_encoder
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import LinearProtocol
from mmselfsup_graft.evaluation.protocols.linear_heads import LinearHeads
from mmselfsup_graft.models.key_queue import KeyQueue
from mmselfsup_graft.models.shuffling import project_groups
from mmselfsup_graft.registry import PARAM_SCHEDULERS

METHOD = 'moco_swav'
AFTER_A_RUN = 1e-7
Arrays = dict[str, Any]


def files(kind: str) -> list[str]:
    return golden_names(kind, METHOD)


def read(name: str) -> tuple[Arrays, dict[str, Any]]:
    """Arrays of a golden file and its settings."""
    arrays = golden_file(name, METHOD)
    return arrays, json.loads(str(arrays['config']))


# ---------------------------------------------------------------- models
def encoder_config(arch: Mapping[str, Any]) -> dict[str, Any]:
    widths = dict.fromkeys(('stem_channels', 'base_channels'), arch['base_channels'])
    return {'type': 'mmpretrain.ResNet', 'depth': arch['depth'], 'zero_init_residual': False, **widths}


def neck_config(shapes: Mapping[str, Any], prefix: str = 'encoder_q.') -> dict[str, Any]:
    """The projector of v2, or of v1; ``shapes`` are those of the official tensors."""
    if f'{prefix}fc.2.weight' in shapes:
        out, hidden = shapes[f'{prefix}fc.2.weight']
        return {'type': 'mmpretrain.MoCoV2Neck', 'hid_channels': hidden, 'out_channels': out}
    out = shapes[f'{prefix}fc.weight'][0]
    return {'type': 'mmpretrain.LinearNeck', 'out_channels': out, 'gap_dim': 2, 'norm_cfg': None}


def model_config(arrays: Arrays, settings: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    state = starting(arrays, 'sd.')
    return {
        'type': 'MoCo',
        'backbone': encoder_config(settings['arch']),
        'neck': neck_config({name: value.shape for name, value in state.items()}),
        'base_momentum': settings['momentum_key_encoder'],
        'temperature': settings['temperature'],
        'queue_size': settings['queue_len'],
        'bn_groups': 1,
        **options,
    }


def loaded(arrays: Arrays, settings: Mapping[str, Any], dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    """The model in train mode with the recorded tensors; where the key encoder is left out, it is a copy."""
    model = build(model_config(arrays, settings, **options)).to(dtype)
    state = {name: tensor(value, dtype) for name, value in some(starting(arrays, 'sd.')).items()}
    copies = {name.replace('encoder_q.', 'encoder_k.', 1): value for name, value in state.items()}
    state = {MOCO_MODEL.to_canonical(name): value for name, value in {**copies, **state}.items()}
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith('num_batches_tracked') for name in result.missing_keys)
    return model.train()


@pytest.fixture(params=[False, True], ids=['package', 'reference'])
def slow(request: pytest.FixtureRequest) -> bool:
    """Whether the losses are those of the slow form in ``tests/reference``."""
    return request.param


def losses_of(model: Any, views: list[torch.Tensor], slow: bool, **given: Any) -> dict[str, torch.Tensor]:
    return reference.losses(model, views, **given) if slow else model.loss(views, **given)


def norms_and_sums(tensors: Mapping[str, torch.Tensor], names: Any, arrays: Arrays, prefix: str, rtol: float) -> None:
    """Compare the norms of tensors, and the sums where there are any; ``names`` are official, without the encoder."""
    for index, name in enumerate(some(list(map(str, names)), 'names')):
        value = tensors[name]
        assert_close(value.norm(), arrays[f'{prefix}_norm'][index], rtol, atol=1e-13, name=f'norm of {name}')
        if f'{prefix}_sum' in arrays:
            size = float(value.abs().sum())  # a sum may cancel
            assert_close(value.sum(), arrays[f'{prefix}_sum'][index], 0, rtol * size, name=f'sum of {name}')


def official(model: nn.Module, encoder: str) -> dict[str, torch.Tensor]:
    """Parameters of an encoder with the published names, without those of the encoder."""
    named = {MOCO_MODEL.from_canonical(name): value for name, value in model.named_parameters()}
    return starting(named, f'{encoder}.')


def compare_state(model: nn.Module, expected: Mapping[str, Any], rtol: float) -> None:
    state = model.state_dict()
    for name, value in some(expected).items():
        assert_close(state[MOCO_MODEL.to_canonical(name)], value, rtol, atol=1e-13, name=name)


# ---------------------------------------------------------------- one step
@pytest.mark.parametrize('name', files('moco_step'))
def test_one_step(name: str, slow: bool) -> None:
    arrays, settings = read(name)
    model = loaded(arrays, settings)
    assert model.key_queue.position == settings['queue_ptr']
    found = losses_of(model, [tensor(arrays['im_q']), tensor(arrays['im_k'])], slow)
    assert_close(found['loss'], arrays['loss'], name='loss')
    assert_close(found['accuracy'], arrays['acc1'].item(), 1e-6, name='accuracy')  # recorded in float32
    found['loss'].backward()
    gradients = {key: value.grad for key, value in official(model, 'encoder_q').items()}
    for key, value in some(starting(arrays, 'grad.')).items():
        assert_close(gradients[key], value, atol=1e-13, name=f'gradient of {key}')
    assert set(gradients) == set(map(str, arrays['grad_names']))
    norms_and_sums(gradients, arrays['grad_names'], arrays, 'grad', 1e-8)
    norms_and_sums(official(model, 'encoder_k'), arrays['ema_names'], arrays, 'ema', 1e-8)
    compare_state(model, starting(arrays, 'after.'), 1e-8)
    compare_state(model, {'queue': arrays['queue_after'], 'queue_ptr': arrays['queue_ptr_after']}, 1e-8)


@torch.no_grad()
@pytest.mark.parametrize('name', files('moco_step'))
def test_queries_keys_and_logits(name: str) -> None:
    arrays, settings = read(name)
    model = loaded(arrays, settings)
    q = project_groups(model.backbone, model.neck, tensor(arrays['im_q']), 1)
    k = model.keys_of_all(tensor(arrays['im_k']), 1)
    raw = tensor(arrays['q_raw'])
    assert_close(q, raw / raw.norm(dim=1, keepdim=True), name='direction of q')
    assert_close(q, arrays['q'], name='q')
    assert_close(k, arrays['k'], name='k')
    similar = torch.cat([(q * k).sum(1, keepdim=True), q @ model.key_queue.queue], 1) / model.temperature
    assert_close(similar, arrays['logits'], name='logits')


@pytest.mark.parametrize('name', files('moco_step'))
def test_loss_in_single_precision(name: str) -> None:
    arrays, settings = read(name)
    views = [tensor(arrays[key], torch.float32) for key in ('im_q', 'im_k')]
    loss = loaded(arrays, settings, torch.float32).loss(views)['loss']
    assert loss.dtype == torch.float32
    assert_close(loss, arrays['loss_float32'], 1e-4, name='loss')


# ---------------------------------------------------------------- runs
def rates(base: float, epochs: int, milestones: list[int] | None, gamma: float | None) -> list[float]:
    """Learning rate of every epoch by the schedules of the configs."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    config: dict[str, Any] = {'type': 'WarmupCosineLR', 'warmup': 0, 'end': epochs, 'by_epoch': True}
    if milestones:
        config = {'type': 'MultiStepLR', 'milestones': milestones, 'gamma': gamma, 'by_epoch': True}
    schedule, found = PARAM_SCHEDULERS.build(config, default_args={'optimizer': optimizer}), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    return found


def factor_of(schedule: str) -> float | None:
    """The factor in ``step x0.1``."""
    found = re.search(r'x(\d*\.\d+)', schedule)
    return float(found[1]) if found else None


@pytest.mark.parametrize('name', files('moco_train'))
def test_runs(name: str, slow: bool) -> None:
    arrays, settings = read(name)
    model, optimizing = loaded(arrays, settings), dict(settings['optimizer'])
    optimizer = getattr(torch.optim, optimizing.pop('type'))(
        [value for value in model.parameters() if value.requires_grad], **optimizing
    )
    planned = rates(optimizing['lr'], settings['epochs'], settings['milestones'], factor_of(settings['schedule']))
    for step in range(settings['num_iterations']):
        rate = planned[settings['first_epoch'] + step // settings['iterations_per_epoch']]
        assert_close(rate, arrays['lr'][step], 1e-12, name=f'rate at {step}')
        optimizer.param_groups[0]['lr'] = rate
        loss = losses_of(model, [tensor(arrays[key][step]) for key in ('im_q', 'im_k')], slow)['loss']
        assert_close(loss, arrays['loss'][step], AFTER_A_RUN, name=f'loss at {step}')
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert model.key_queue.queue_ptr.item() == model.key_queue.position == arrays['queue_ptr'][step]
    compare_state(model, starting(arrays, 'after.'), AFTER_A_RUN)
    norms_and_sums(official(model, 'encoder_k'), arrays['ema_names'], arrays, 'ema', AFTER_A_RUN)
    trained = {f'encoder_q.{key}': value for key, value in official(model, 'encoder_q').items()}
    for index, key in enumerate(some(list(map(str, arrays['momentum_buffer_names'])), 'names')):
        buffer = optimizer.state[trained.get(key, trained.get(f'encoder_q.{key}'))]['momentum_buffer']
        assert_close(buffer.norm(), arrays['momentum_buffer_norm'][index], AFTER_A_RUN, 1e-12, key)
    assert len(optimizer.state) == settings['optimizer_state_entries']


# ---------------------------------------------------------------- shuffled batch norm
def joined(array: Any) -> torch.Tensor:
    """[W N, ...] of [W, N, ...]."""
    return tensor(array).flatten(0, 1)


def check_two_ranks(arrays: Arrays, loss: Any, keys: Any, gradients: Mapping[str, Any], state: Arrays) -> None:
    assert_close(loss, arrays['loss'].mean(), name='loss')
    assert_close(keys, joined(arrays['k']), name='keys')
    for key, value in some(starting(arrays, 'grad_mean.')).items():
        assert_close(gradients[key], value, atol=1e-13, name=key)
    norms_and_sums(gradients, arrays['grad_names'], {'g_norm': arrays['grad_norm_mean']}, 'g', 1e-8)
    assert_close(state['key_queue.queue'], arrays['queue_after'], name='queue')
    assert_close(state['key_queue.queue_ptr'], arrays['queue_ptr_after'], name='pointer')


def statistics_after_groups(arrays: Arrays, ranks: int, momentum: float) -> Arrays:
    """Running statistics after the batches of all ranks, from those that each rank has after its own."""
    after: Arrays = {}
    for rank in range(ranks):
        for key, value in some(starting(arrays, f'after.rank{rank}.')).items():
            start = tensor(arrays[f'sd.{key}'])
            of_batch = (tensor(value) - (1 - momentum) * start) / momentum
            after[key] = (1 - momentum) * after.get(key, start) + momentum * of_batch
    return after


@pytest.mark.parametrize('name', files('moco_two_ranks'))
def test_groups_of_one_process_are_ranks(name: str, slow: bool) -> None:
    arrays, settings = read(name)
    world = settings['world_size']
    model = loaded(arrays, settings, bn_groups=world)
    momentum = model.backbone.norm1.momentum
    loss = losses_of(model, [joined(arrays[k]) for k in ('im_q', 'im_k')], slow, order=tensor(arrays['idx_shuffle']))
    loss['loss'].backward()
    rows = model.key_queue.queue[:, settings['queue_ptr'] :][:, : world * settings['batch']].t()
    gradients = {key: value.grad for key, value in official(model, 'encoder_q').items()}
    check_two_ranks(arrays, loss['loss'], rows, gradients, model.state_dict())
    compare_state(model, statistics_after_groups(arrays, world, momentum), 1e-8)


@pytest.mark.parametrize('name', files('moco_two_ranks'))
def test_without_groups_the_joined_batch_gives_other_values(name: str) -> None:
    arrays, settings = read(name)
    model = loaded(arrays, settings)
    loss = model.loss([joined(arrays[k]) for k in ('im_q', 'im_k')])['loss']
    assert_close(loss, arrays['loss_joined_batch'], name='loss')
    rows = model.key_queue.queue[:, settings['queue_ptr'] :][:, : arrays['k'].shape[0] * arrays['k'].shape[1]].t()
    assert_close(rows, joined(arrays['k_joined_batch']), name='keys')
    assert abs(loss.item() - arrays['loss'].mean()) > 1e-3


def step_of_a_rank(rank: int, arrays: Arrays, settings: dict[str, Any]) -> dict[str, Any]:
    model = loaded(arrays, settings)
    wrapped = nn.parallel.DistributedDataParallel(model)
    views = [tensor(arrays[key][rank]) for key in ('im_q', 'im_k')]
    model.loss = partial(model.loss, order=tensor(arrays['idx_shuffle']))
    found = wrapped(views, mode='loss')
    found['loss'].backward()
    assert dist.get_world_size() == settings['world_size']
    gradients = {key: value.grad for key, value in official(model, 'encoder_q').items()}
    return {'loss': found['loss'].detach(), 'gradients': gradients, 'state': model.state_dict()}


@pytest.mark.parametrize('name', files('moco_two_ranks'))
def test_ranks(name: str) -> None:
    arrays, settings = read(name)
    world, pointer = settings['world_size'], settings['queue_ptr']
    for rank, found in enumerate(run_ranks(step_of_a_rank, world, arrays, settings)):
        state = found['state']
        assert_close(found['loss'], arrays['loss'][rank], name=f'loss of rank {rank}')
        keys = state['key_queue.queue'][:, pointer:][:, : world * settings['batch']].t()
        check_two_ranks(arrays, arrays['loss'].mean(), keys, found['gradients'], state)
        for key, value in some(starting(arrays, f'after.rank{rank}.')).items():
            assert_close(state[MOCO_MODEL.to_canonical(key)], value, 1e-8, 1e-13, f'{key} of rank {rank}')


# ---------------------------------------------------------------- queue
@pytest.mark.parametrize('name', files('moco_queue'))
def test_queue(name: str) -> None:
    arrays, settings = read(name)
    queue = KeyQueue(settings['dim'], settings['queue_len']).double()
    pointer = torch.tensor([settings['queue_ptr']])
    queue.load_state_dict({'queue': tensor(arrays['queue_before']), 'queue_ptr': pointer})
    for step, keys in enumerate(some(arrays['keys'], 'steps')):
        queue.check_batches(settings['world_size'] * settings['batch_per_rank'])
        queue.push(joined(keys))
        assert_close(queue.queue, arrays['queue'][step], 0, name=f'queue at {step}')
        assert queue.queue_ptr.tolist() == [arrays['queue_ptr'][step]] == [queue.position]


def test_which_sizes_are_taken() -> None:
    cases = some(golden('moco_schedules', METHOD)['queue_divisibility'])
    assert {case['accepted'] for case in cases} == {True, False}
    for case in cases:
        queue, batch = KeyQueue(1, case['queue_len']), case['total_batch']
        if case['accepted']:
            queue.check_batches(batch)
            continue
        with pytest.raises(ConfigError, match=rf'{case["queue_len"]} is not a multiple of the {batch} images') as error:
            queue.check_batches(batch)
        proposed = int(re.search(r'queue_size=(\d+)$', str(error.value))[1])  # type: ignore[index]
        KeyQueue(1, proposed).check_batches(batch)
        assert abs(proposed - case['queue_len']) <= max(batch - case['queue_len'], batch / 2)


# ---------------------------------------------------------------- schedules, linear evaluation
def test_learning_rates() -> None:
    for name, case in some(golden('moco_schedules', METHOD)['schedules']).items():
        found = rates(case['base_lr'], case['epochs'], case['milestones'], case['gamma'])
        assert_close(found, case['lr'], 1e-12, name=name)
        if case['kind'] == 'step':
            protocol = LinearProtocol(epochs=case['epochs'], milestones=tuple(case['milestones']))
            found = [case['base_lr'] * protocol.schedule(epoch) for epoch in range(case['epochs'])]
            assert_close(found, case['lr'], 1e-12, name=f'{name}, linear evaluation')


@pytest.mark.parametrize('name', files('moco_linear'))
def test_linear_evaluation(name: str) -> None:
    arrays, settings = read(name)
    encoder = build(encoder_config(settings['arch'])).double()
    state = {key: tensor(value) for key, value in starting(arrays, 'sd.').items()}
    encoder.load_state_dict({k: v for k, v in state.items() if not k.startswith('fc.')}, strict=False)
    encoder.eval()
    options = settings['optimizer']
    protocol = LinearProtocol(
        scales=(options['lr'],),
        factors=(1.0,),
        weight_decays=(options['weight_decay'],),
        epochs=settings['epochs'],
        momentum=options['momentum'],
        milestones=tuple(settings['milestones']),
    )
    ((rate, decay),) = protocol.heads()
    width = arrays['sd.fc.weight'].shape[1]
    heads = LinearHeads([rate], [decay], width, settings['classes'], momentum=protocol.momentum)  # type: ignore[arg-type]
    heads.weight, heads.bias = state['fc.weight'].t()[None].clone(), state['fc.bias'][None, None].clone()
    heads.rates, heads.decays = heads.rates.double(), heads.decays.double()
    for step in range(len(some(arrays['images'], 'steps'))):
        epoch, last = divmod(step, settings['iterations_per_epoch'])
        factor = protocol.schedule(epoch)
        assert_close(rate * factor, arrays['lr'][step], 1e-12, name='rate')
        with torch.no_grad():
            features = encoder(tensor(arrays['images'][step]))[-1].mean((2, 3))
        labels = tensor(arrays['labels'][step])
        loss = nn.functional.cross_entropy(heads.logits(features)[0], labels)
        assert_close(loss, arrays['loss'][step], 1e-7, name=f'loss at {step}')
        heads.step(features, labels, len(labels), factor)
        if last == settings['iterations_per_epoch'] - 1:
            assert_close(heads.weight[0].t(), arrays['fc_weight_after'][epoch], 1e-7, name='weight')
            assert_close(heads.bias[0, 0], arrays['fc_bias_after'][epoch], 1e-7, name='bias')


# ---------------------------------------------------------------- checkpoints
def described(name: str) -> tuple[dict[str, Any], dict[str, tuple[list[int], str]]]:
    """A description of a checkpoint, and shape and type of its tensors by name without ``module.``."""
    case = golden_file(name, METHOD)
    rows = {key.removeprefix('module.'): (shape, kind) for key, shape, kind in some(case['training']['keys'])}
    return case, rows


def model_of(rows: Mapping[str, tuple[list[int], str]]) -> Any:
    """Our model of that size."""
    encoder = starting(rows, 'encoder_q.')
    blocks = [len({k.split('.')[1] for k in encoder if k.startswith(f'layer{stage}.')}) for stage in (1, 2, 3, 4)]
    kind = 'Bottleneck' if 'layer1.0.conv3.weight' in encoder else 'BasicBlock'
    settings = ResNet.arch_settings.items()
    (depth,) = [d for d, (block, n) in settings if list(n) == blocks and block.__name__ == kind]
    shapes = {key: shape for key, (shape, _) in rows.items()}
    config = {
        'type': 'MoCo',
        'backbone': encoder_config({'depth': depth, 'base_channels': shapes['encoder_q.conv1.weight'][0]}),
        'neck': neck_config(shapes),
        'queue_size': shapes['queue'][1],
    }
    return build(config)


@pytest.mark.parametrize('name', files('moco_checkpoint'))
def test_official_checkpoints_are_ours_with_other_names(name: str) -> None:
    _, rows = described(name)
    state = model_of(rows).state_dict()
    ours = {key: (list(value.shape), str(value.dtype).removeprefix('torch.')) for key, value in state.items()}
    assert ours == {MOCO_MODEL.to_canonical(key): row for key, row in rows.items()}
    assert {MOCO_MODEL.from_canonical(key): row for key, row in ours.items()} == rows


@pytest.mark.parametrize('name', files('moco_checkpoint'))
def test_optimizer_of_official_checkpoints(name: str) -> None:
    """One group with both encoders, of which one has momentum: that one is what ours has, in the same order."""
    case, rows = described(name)
    layout = case['training']['optimizer']
    model = model_of(rows)
    ours = [MOCO_MODEL.from_canonical(key) for key, value in model.named_parameters() if value.requires_grad]
    assert ours == [key.removeprefix('module.') for key in some(layout['with_momentum_buffer'])]
    if len(layout['params_in_order']) == layout['num_params']:
        assert [key.removeprefix('module.') for key in layout['params_in_order']][: len(ours)] == ours


@pytest.mark.parametrize('name', files('moco_checkpoint'))
def test_encoder_that_linear_evaluation_keeps(name: str) -> None:
    case, rows = described(name)
    dtypes = {kind: getattr(torch, kind) for _, kind in rows.values()}
    content = {f'module.{k}': torch.zeros((), dtype=dtypes[kind]).expand(shape) for k, (shape, kind) in rows.items()}
    encoder = to_encoder({'epoch': 1, 'arch': 'resnet50', 'state_dict': content}, name)
    assert encoder.format == 'moco'
    assert sorted(encoder.state) == sorted(plain for _, plain in some(case['linear_evaluation']['kept']))
