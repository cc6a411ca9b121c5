"""A model whose weights are shared out over two processes trains as one process does on the joined batch.

All cases run in one pair of gloo processes, in double precision: losses, gradient norm, weights and optimizer state
after three steps of AdamW with clipping and a learning rate per layer.
"""

import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers import (
    assert_close,
    build,
    mae_config,
    mlp_config,
    moco_config,
    multi_task_config,
    run_ranks,
    tec_config,
    vit_config,
)
from mmengine.logging import MessageHub
from reference.moco import config as moco_with_queue
from reference.swav import config as swav_config
from torch import nn

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.engine.execution.recompute import checkpoint_activations
from mmselfsup_graft.engine.execution.sharding import (
    FullySharded,
    gathered,
    is_sharded,
    shared_moments,
    shared_weights,
    whole_states,
)
from mmselfsup_graft.errors import ConfigError

WORLD, BATCH, STEPS = 2, 8, 3
Result = dict[str, Any]


class AsIs(nn.Module):
    """A preprocessor that leaves double precision alone."""

    def forward(self, data: Any, training: bool = False) -> Any:
        return data


# ---------------------------------------------------------------- run on every rank, and once in one process
def share(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's rows of a joined batch; the whole batch in one process."""
    if not dist.is_initialized():
        return tensor
    return tensor.chunk(dist.get_world_size())[dist.get_rank()].clone()


def started(config: dict[str, Any]) -> Any:
    """The model of a config with the same double-precision weights wherever it is built."""
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        if config['type'] == 'TEC':
            base = build(mae_config(vit_config()))
            base.init_weights()
            save_atomically({'state_dict': base.state_dict()}, f'{folder}/base.pth')
            config = {**config, 'base_checkpoint': f'{folder}/base.pth'}
        model = build(config)
        model.init_weights()
    model.data_preprocessor = AsIs()
    return model.double().train()


def optimizer(model: nn.Module, accumulate: int = 1) -> Any:
    """AdamW with clipping, one group per layer."""
    MessageHub.get_instance('sharded')
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
        clip_grad=dict(max_norm=0.5),
        accumulative_counts=accumulate,
    )
    return LayerWiseLRConstructor(config, dict(layer_wise_decay_ratio=0.7))(model)


def batch_of(model: Any, step: int) -> Any:
    """This rank's share of the images of a step, and of the noise that decides on masks."""
    generator = torch.Generator().manual_seed(10 + step)
    views = {'MAE': 1, 'TEC': 1, 'MultiTask': 3}.get(type(model).__name__.removeprefix('FSDP'), 2)
    images = [share(torch.randn(BATCH, 3, 16, 16, generator=generator, dtype=torch.float64)) for _ in range(views)]
    noise = share(torch.rand(BATCH, 16, generator=generator))
    masked = model.objectives['mim'] if views == 3 else model if views == 1 else None
    if masked is not None:
        masked.loss = partial(type(masked).loss, masked, noise=noise)
    return {'inputs': images[0] if views == 1 else images}


def train(model: Any, wrapper: Any, steps: range) -> list[torch.Tensor]:
    """Losses of some steps."""
    inner = model.module if hasattr(model, 'module') else model
    return [model.train_step(batch_of(inner, step), wrapper)['loss'].detach() for step in steps]


def case(config: dict[str, Any], checkpointing: bool = False, **options: Any) -> Result:
    """Three steps, sharded where there are ranks; then the state, gathered to the first one."""
    inner = started(config)
    if checkpointing:
        checkpoint_activations(inner)
    model = FullySharded(inner, **options) if dist.is_initialized() else inner
    wrapper = optimizer(inner)
    losses = train(model, wrapper, range(STEPS))
    shares = sum(p.to_local().numel() for p in inner.parameters()) if is_sharded(inner) else 0
    return {
        'losses': torch.stack(losses),
        'norm': torch.tensor(MessageHub.get_current_instance().get_scalar('train/grad_norm').current()),
        'rates': torch.tensor([group['lr'] for group in wrapper.param_groups]),
        'sizes': [sum(p.numel() for p in group['params']) for group in wrapper.param_groups],
        'state': gathered(dict(inner.state_dict())),
        'moments': gathered(wrapper.optimizer.state_dict())['state'],
        'share': shares / sum(p.numel() for p in inner.parameters()),
    }


def moco(**options: Any) -> dict[str, Any]:
    """MoCo v3 whose momentum encoder moves by a tenth."""
    return moco_config(vit_config(), base_momentum=0.9, **options)


def simclr() -> dict[str, Any]:
    """Contrast without a momentum encoder."""
    head = dict(type='NTXentHead', temperature=0.3)
    return dict(type='JointEmbedding', backbone=vit_config(), neck=mlp_config(16, 32, 8, 2), head=head)


CASES: dict[str, Callable[[], Result]] = {
    'mae': lambda: case(mae_config(vit_config(), decoder_depth=2)),
    'mae, recomputed': lambda: case(mae_config(vit_config(), decoder_depth=2), checkpointing=True),
    'mae, weights kept': lambda: case(mae_config(vit_config(), decoder_depth=2), reshard_after_forward=False),
    'mae with frozen layers': lambda: case(mae_config(vit_config(), frozen_layers=2)),
    'moco': lambda: case(moco()),
    'moco, recomputed': lambda: case(moco(), checkpointing=True),
    'moco with a fixed patch embedding': lambda: case(moco_config(vit_config(stop_grad_patch_embed=True))),
    'moco with frozen layers': lambda: case(moco(frozen_layers=1)),
    'moco with a queue': lambda: case(moco_with_queue(vit_config(), queue_size=48)),
    'tec': lambda: case(tec_config(vit_config())),
    'multi-task': lambda: case(multi_task_config(vit_config())),
    'joint embedding': lambda: case(simclr()),
    'copies of the weights on each': lambda: case(mae_config(vit_config(), decoder_depth=2), group_size=1),
    'one group of both': lambda: case(mae_config(vit_config(), decoder_depth=2), group_size=2),
}


def continued() -> Result:
    """Two steps, a new model that takes over the whole state, and the third step."""
    first = started(moco())
    model, wrapper = FullySharded(first), optimizer(first)
    train(model, wrapper, range(2))
    with whole_states(first, wrapper.optimizer):
        saved = [deepcopy({'weights': first.state_dict(), 'moments': wrapper.optimizer.state_dict()})]
    dist.broadcast_object_list(saved)  # as through a file

    kept = deepcopy(saved[0])  # an optimizer continues to count in what it was given

    torch.manual_seed(99)
    second = build(moco()).double().train()
    second.data_preprocessor = AsIs()
    model, wrapper = FullySharded(second), optimizer(second)
    second.load_state_dict(shared_weights(saved[0]['weights'], second))
    wrapper.optimizer.load_state_dict(shared_moments(saved[0]['moments'], wrapper.optimizer))
    train(model, wrapper, range(2, STEPS))
    return {
        'state': gathered(dict(second.state_dict())),
        'moments': gathered(wrapper.optimizer.state_dict())['state'],
        'saved': kept,
    }


def refusals() -> list[str]:
    """What cannot be sharded, by message."""
    messages = []
    for config, options in (
        (mae_config(vit_config()), {'group_size': 3}),
        (mae_config(vit_config()), {'gather_dtype': 'float16'}),
        (mae_config(vit_config(), graft=[dict(checkpoint='x.pth')], l1_distance=dict(weight=1.0, to_block=1)), {}),
        (swav_config(), {}),
    ):
        with pytest.raises(ConfigError) as caught:
            FullySharded(build(config), **options)
        messages.append(str(caught.value))
    return messages


def all_cases(rank: int) -> dict[str, Any]:
    """Everything, on this rank."""
    results: dict[str, Any] = {name: function() for name, function in CASES.items()}
    return {**results, 'continued': continued(), 'refusals': refusals()}


# ---------------------------------------------------------------- tests
@pytest.fixture(scope='module')
def ranks() -> list[dict[str, Any]]:
    """Results of both processes."""
    return run_ranks(all_cases, WORLD)


@pytest.mark.parametrize('name', CASES)
def test_sharded_training_is_that_of_one_process(ranks: list[dict[str, Any]], name: str) -> None:
    joined, shares = CASES[name](), [rank[name] for rank in ranks]
    assert_close(sum(each['losses'] for each in shares) / WORLD, joined['losses'], rtol=1e-9, name='losses')
    assert abs(float(shares[0]['losses'][0] - shares[1]['losses'][0])) > 1e-6, 'the ranks must see different data'
    for each in shares:
        assert_close(each['norm'], joined['norm'], rtol=1e-7, name='norm that is clipped')
        assert_close(each['rates'], joined['rates'], rtol=0, name='learning rates')
        assert each['sizes'] == joined['sizes']
    assert len(joined['rates'].unique()) > 1
    first = shares[0]
    for key, value in joined['state'].items():
        assert_close(first['state'][key], value, rtol=1e-6, atol=1e-9, name=key)
    assert set(first['moments']) == set(joined['moments'])
    for number, moments in joined['moments'].items():
        for key, value in moments.items():
            assert_close(first['moments'][number][key], value, rtol=1e-6, atol=1e-10, name=f'{key} of {number}')


def test_every_process_holds_its_share_alone(ranks: list[dict[str, Any]]) -> None:
    for name in CASES:
        held = [rank[name]['share'] for rank in ranks]
        if name == 'copies of the weights on each':
            assert held == [1.0, 1.0]
        else:
            assert sum(held) == pytest.approx(1.0)
            assert max(held) < 0.6


def test_a_run_goes_on_from_its_whole_state(ranks: list[dict[str, Any]]) -> None:
    went_on, left_alone = ranks[0]['continued'], ranks[0]['moco']
    for key, value in left_alone['state'].items():
        assert torch.equal(went_on['state'][key], value), key
    for number, moments in left_alone['moments'].items():
        for key, value in moments.items():
            assert torch.equal(went_on['moments'][number][key], value), f'{key} of {number}'


def test_the_whole_state_is_that_of_an_ordinary_model(ranks: list[dict[str, Any]]) -> None:
    saved = ranks[0]['continued']['saved']
    model = started(moco())
    model.load_state_dict(saved['weights'], strict=True)
    wrapper = optimizer(model)
    wrapper.optimizer.load_state_dict(saved['moments'])
    train(model, wrapper, range(2, STEPS))
    for key, value in ranks[0]['continued']['state'].items():
        assert_close(value, model.state_dict()[key], rtol=1e-6, atol=1e-9, name=key)


def test_what_cannot_be_sharded_is_refused(ranks: list[dict[str, Any]]) -> None:
    group, dtype, distance, prototypes = ranks[0]['refusals']
    assert 'group_size=3' in group
    assert 'float16' in dtype
    assert 'l1_distance' in distance
    assert 'PrototypeHead changes weights' in prototypes
    assert 'hook' not in prototypes
