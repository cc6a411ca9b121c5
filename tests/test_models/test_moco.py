"""MoCo v1 and v2: the queue, groups, what mmpretrain does alike and otherwise, options and errors."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from algorithm_cases import make_model, make_views, stir
from config_cache import load_config
from helpers import assert_close, build, mlp_config, run_ranks
from mmengine.optim import build_optim_wrapper
from reference.moco import config, resnet
from torch import nn

from mmselfsup_graft.analysis import measure_conflict
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.hooks.check_data import check_queues
from mmselfsup_graft.engine.hooks.random_state import seed_iteration
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models import grafting, key_queue, shuffling
from mmselfsup_graft.models.joint_views import last_view
from mmselfsup_graft.models.key_queue import KeyQueue
from mmselfsup_graft.utils.shared_random import shared_generator

BN_GROUPS = shuffling.GROUPS
CONFIGS = Path(__file__).parents[2] / 'configs' / 'moco'


# ---------------------------------------------------------------- queue
def _rows(start: int, count: int) -> torch.Tensor:
    return torch.arange(start, start + count, dtype=torch.float32)[:, None].repeat(1, 2)


def test_the_oldest_keys_are_overwritten_in_a_circle() -> None:
    queue = KeyQueue(2, 6)
    expected = queue.queue[0].tolist()
    for step in range(5):
        queue.push(_rows(4 * step, 4))
        for number in range(4 * step, 4 * step + 4):
            expected[number % 6] = float(number)
        assert queue.queue[0].tolist() == queue.queue[1].tolist() == expected or step == 0
        assert queue.queue_ptr.tolist() == [4 * (step + 1) % 6] == [queue.position]


def test_the_position_comes_back_with_a_state() -> None:
    queue, other = KeyQueue(2, 6), KeyQueue(2, 6)
    queue.push(_rows(0, 4))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other, deepcopy(queue)):
        each.push(_rows(4, 4))
        assert each.position == 2
    assert torch.equal(queue.queue, other.queue)


def test_new_queues_are_unit_columns() -> None:
    queue = KeyQueue(5, 300)
    first = queue.queue.clone()
    queue.init_weights()
    for columns in (first, queue.queue):
        assert_close(columns.norm(dim=0), torch.ones(300), rtol=1e-6)
        assert columns.mean().abs() < 0.05
    assert not torch.equal(first, queue.queue)


def _queue_of_a_rank(rank: int) -> torch.Tensor:
    torch.manual_seed(rank)
    model = build(resnet())
    model.init_weights()
    return model.key_queue.queue


def test_all_ranks_start_with_one_queue() -> None:
    first, second = run_ranks(_queue_of_a_rank, 2)
    assert torch.equal(first, second)


@pytest.mark.parametrize('size', [0, -4, 1.5, True])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(ConfigError, match='set queue_size'):
        build(config(queue_size=size))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Warnings."""
    texts: list[str] = []
    for module in (key_queue, shuffling):
        monkeypatch.setattr(module, 'print_log', lambda text, **_: texts.append(text))
    return texts


class _Loader:
    def __init__(self, images: int, batch_size: int, drop_last: bool) -> None:
        self.sampler, self.batch_size, self.drop_last = range(images), batch_size, drop_last


def test_batches_are_compared_with_the_queue_at_the_start(said: list[str]) -> None:
    model = build(config(queue_size=64))
    check: Any = partial(check_queues, model, world_size=2)
    check(_Loader(100, 16, True))
    check(_Loader(96, 16, False))
    with pytest.raises(ConfigError, match=r'not a multiple of the 48 images .* queue_size=48$'):
        check(_Loader(100, 24, True))
    with pytest.raises(ConfigError, match=r'would have 8 images instead of 32.*drop_last=True'):
        check(_Loader(100, 16, False))
    assert not said
    check(_Loader(32, 16, True))
    assert 'an epoch has 64 images' in said.pop()


# ---------------------------------------------------------------- groups
def _images(count: int, size: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(2)]


def _group_sizes(model: Any, count: int) -> set[int]:
    """Values per channel, over the positions of a map, that batch norms of the encoder saw at once."""
    seen: set[int] = set()
    norm = model.backbone.bn1 if hasattr(model.backbone, 'bn1') else model.backbone.norm1
    norm.register_forward_hook(lambda module, given, out: seen.add(len(given[0]) // module.views))
    model.loss(_images(count))
    return seen


def test_one_process_makes_eight_groups(tmp_path: Path, said: list[str]) -> None:
    for count, expected in ((2 * BN_GROUPS, 2), (4 * BN_GROUPS, 4)):
        model = make_model(resnet(queue_size=4 * BN_GROUPS), tmp_path)
        assert _group_sizes(model, count) == {expected}
    assert not said
    for count in (BN_GROUPS, 12):
        model = make_model(resnet(queue_size=24), tmp_path)
        for _ in range(2):
            assert _group_sizes(model, count) == {count}
        assert f'a batch of {count} images on one process is not parted' in said.pop()
        assert not said, 'it is said once'


def test_other_numbers_of_groups(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=3, queue_size=12), tmp_path)
    assert _group_sizes(model, 6) == {2}
    with pytest.raises(ConfigError, match='bn_groups=3 does not divide a batch of 4 images'):
        model.loss(_images(4))


@pytest.mark.parametrize('make', [config, partial(resnet, 'PortableSyncBN'), partial(resnet, frozen_layers=8)])
def test_nothing_is_shuffled_without_statistics_of_a_process(make: Any, tmp_path: Path) -> None:
    model = make_model(make(queue_size=32), tmp_path)
    before = shared_generator().get_state()
    model.loss(_images(2 * BN_GROUPS))
    assert torch.equal(shared_generator().get_state(), before)


def test_shuffling_changes_neighbors_not_order(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=2, queue_size=8), tmp_path)
    images = _images(4)[1]
    model.update_due = False
    same, other = (model.keys_of_all(images, 2, torch.tensor(order)) for order in ([0, 1, 2, 3], [3, 1, 0, 2]))
    again = model.keys_of_all(images, 2, torch.tensor([2, 0, 1, 3]))
    assert not torch.allclose(same, other, atol=1e-3)
    assert_close(again, other, rtol=1e-10)  # the same pairs


def test_a_permutation_follows_from_seed_and_iteration() -> None:
    batch, drawn = torch.zeros(50), {}
    for seed, rank, iteration in [(1, 0, 7), (1, 1, 7), (1, 0, 8), (2, 0, 7), (1, 0, 7)]:
        seed_iteration(seed, rank, iteration)
        order = shuffling.random_order(batch)
        assert sorted(order.tolist()) == list(range(50))
        assert torch.equal(drawn.setdefault((seed, iteration), order), order)
    assert len({tuple(order.tolist()) for order in drawn.values()}) == 3


def test_hooks_see_one_view(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=2), tmp_path)
    seen: list[tuple[int, int]] = []
    model.neck.register_forward_hook(lambda _, given, out: seen.append((len(out[0]), len(last_view(out[0])))))
    model.loss(_images(4))
    assert seen == [(4, 4)]


def test_norms_of_other_kinds_get_one_pass_per_group(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=2), tmp_path)
    twin = deepcopy(model)
    for name, norm in list(twin.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            plain = nn.BatchNorm2d(norm.num_features).double()
            plain.load_state_dict(norm.state_dict())
            twin.set_submodule(name, plain)
    order = torch.tensor([2, 0, 3, 1])
    losses = [each.loss(_images(4), order=order)['loss'] for each in (model, twin)]
    assert_close(*losses, rtol=1e-12)


# ---------------------------------------------------------------- steps
def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    model = make_model(resnet(), tmp_path).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.loss(_images(3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.key_queue.position == 0


def test_accumulated_batches_all_enter_the_queue_and_average_once(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=1, queue_size=16), tmp_path)
    stir(model)
    averages = []
    for due in (True, False):
        model.update_due = due
        model.loss(_images(4))
        averages.append(model.momentum_encoder.backbone.conv1.weight.clone())
    assert torch.equal(*averages)
    assert model.key_queue.position == 8


def test_frozen_layers_stay_equal_in_both_encoders(tmp_path: Path) -> None:
    model = make_model(resnet(bn_groups=2, frozen_layers=3), tmp_path)
    stir(model)
    model.loss(_images(4))['loss'].backward()
    ours, theirs = model.backbone.state_dict(), model.momentum_encoder.backbone.state_dict()
    for name, value in ours.items():
        if model.depth.layer_id(name) <= 3:
            assert torch.equal(value, theirs[name]), name
            assert not name.endswith('num_batches_tracked') or value == 0
        elif name.endswith('num_batches_tracked'):
            assert value == theirs[name] == 2


def test_a_graft_starts_both_encoders_with_its_statistics(tmp_path: Path) -> None:
    source = make_model(resnet(), tmp_path)
    stir(source)
    source.loss(_images(4))
    source.float()  # as models are grafted
    save_atomically({'state_dict': source.state_dict()}, tmp_path / 'source.pth')
    model = make_model(resnet(), tmp_path, graft=[{'checkpoint': str(tmp_path / 'source.pth'), 'layers': (0, 4)}])
    expected = source.backbone.state_dict()
    for encoder in (model.backbone, model.momentum_encoder.backbone):
        for name, value in encoder.state_dict().items():
            grafted = torch.equal(value, expected[name])
            assert grafted or model.depth.layer_id(name) > 4, name
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, model.momentum_encoder.backbone.state_dict()[name])


@pytest.mark.parametrize(
    ('masked', 'frozen', 'layers', 'warned'),
    [(True, 3, (0, 4), 1), (False, 3, (0, 4), 0), (True, 0, (0, 4), 0), (True, 3, (4, 8), 0)],
)
def test_frozen_statistics_of_masked_images_are_told(
    masked: bool, frozen: int, layers: tuple[int, int], warned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f'backbone.{k}': v for k, v in build(resnet()['backbone']).state_dict().items()}
    state |= {'backbone.mask_token': torch.zeros(1, 4, 1, 1)} if masked else {}
    save_atomically({'state_dict': state}, tmp_path / 'source.pth')
    texts: list[str] = []
    monkeypatch.setattr(grafting, 'print_log', lambda text, **_: texts.append(text))
    graft = [{'checkpoint': str(tmp_path / 'source.pth'), 'layers': layers}]
    build(resnet(frozen_layers=frozen, graft=graft)).init_weights()
    assert sum('masked images' in text for text in texts) == warned


# ---------------------------------------------------------------- one objective of several
def _two_objectives() -> dict[str, Any]:
    parts = resnet(bn_groups=2)
    backbone = parts.pop('backbone')
    return {
        'type': 'MultiTask',
        'backbone': backbone,
        'objectives': {'a': {'model': parts, 'views': [0, 1], 'weight': 0.5}, 'b': {'model': parts, 'views': [1, 2]}},
    }


def test_accuracies_of_objectives_are_logged_not_summed(tmp_path: Path) -> None:
    model = make_model(_two_objectives(), tmp_path)
    losses = model.loss(make_views(3))
    assert set(losses) == {'loss_a', 'loss_b', 'a_accuracy', 'b_accuracy'}
    total, logged = model.parse_losses(losses)
    assert_close(total, losses['loss_a'] + losses['loss_b'], rtol=1e-12)
    assert set(logged) == {'loss', *losses}


def test_measuring_the_conflict_leaves_the_queues_alone(tmp_path: Path) -> None:
    model = make_model(_two_objectives(), tmp_path)
    model.loss(make_views(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_conflict(model, make_views(3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [each.key_queue.position for each in model.objectives.values()] == [4, 4]
    model.loss(make_views(3))
    assert [each.key_queue.position for each in model.objectives.values()] == [8, 8]


# ---------------------------------------------------------------- mmpretrain
def _theirs(model: Any, momentum: float) -> Any:
    """mmpretrain's MoCo v2 with the weights of ours, its momentum encoder marked as updated before."""
    parts = resnet()
    loss = {'type': 'ContrastiveHead', 'loss': {'type': 'CrossEntropyLoss'}, 'temperature': model.temperature}
    sizes = {'queue_len': model.key_queue.size, 'feat_dim': len(model.key_queue.queue), 'momentum': momentum}
    theirs = build(
        {
            '_scope_': 'mmpretrain',
            'type': 'MoCo',
            'backbone': {**parts['backbone'], 'type': 'ResNet_CIFAR'},
            'neck': {**parts['neck'], 'type': 'MoCoV2Neck', 'in_channels': 32},
            'head': loss,
            **sizes,
        }
    ).double()
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace('momentum_encoder.backbone', 'encoder_k.module.0')
        state[name.replace('momentum_encoder.neck', 'encoder_k.module.1').replace('key_queue.', '')] = value.clone()
    assert theirs.load_state_dict(state, strict=False).missing_keys == ['encoder_k.steps']
    return theirs.train()


@pytest.mark.parametrize('updated', [True, False], ids=['as if updated before', 'first update'])
def test_mmpretrains_step(updated: bool, tmp_path: Path) -> None:
    """Equal but for its copy at the first update and the statistics of its momentum encoder."""
    model = make_model(resnet(bn_groups=1, base_momentum=0.9), tmp_path)
    stir(model)
    theirs = _theirs(model, 1 - model.base_momentum)
    theirs.encoder_k.steps.fill_(updated)
    views = _images(4)
    ours, other = model.loss(views)['loss'], theirs.loss(views, [])['loss']
    norm = 'layer1.0.bn1.running_mean'
    statistics = model.momentum_encoder.state_dict()[f'backbone.{norm}']
    assert_close(model.backbone.state_dict()[norm], theirs.backbone.state_dict()[norm], rtol=1e-12)
    if updated:
        assert_close(other, ours, rtol=1e-12)
        assert_close(theirs.queue, model.key_queue.queue, rtol=1e-12)
        for name, value in theirs.encoder_k.module[0].named_parameters():
            assert_close(model.momentum_encoder.backbone.get_parameter(name), value, rtol=1e-12, name=name)
        model.loss(views)
        theirs.loss(views, [])
        statistics = model.momentum_encoder.state_dict()[f'backbone.{norm}']
        assert not torch.allclose(theirs.encoder_k.module[0].state_dict()[norm], statistics, rtol=1e-3)
    else:
        assert abs(other.item() - ours.item()) > 1e-3


# ---------------------------------------------------------------- options
NO_NUMBERS = [{'temperature': value} for value in (0, float('nan'), float('inf'))]


@pytest.mark.parametrize('options', [*NO_NUMBERS, {'bn_groups': 0}, {'bn_groups': -1}])
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match='must be greater than 0'):
        build(config(**options))


def test_a_projector_without_a_linear_layer() -> None:
    with pytest.raises(ConfigError, match='the neck GlobalAveragePooling has no linear layer'):
        build(config(neck={'type': 'mmpretrain.GlobalAveragePooling'}))


def test_a_missing_projector_is_refused() -> None:
    with pytest.raises(ConfigError, match='MoCo needs a projector'):
        build({**config(), 'neck': None})


def test_a_batch_that_does_not_fit_the_queue(tmp_path: Path) -> None:
    model = make_model(config(queue_size=16), tmp_path)
    with pytest.raises(ConfigError, match=r'queue_size=16 is not a multiple of the 6 images .* queue_size=18$'):
        model.loss(_images(6))


def test_keys_have_the_width_of_the_last_linear_layer() -> None:
    assert build(config(neck=mlp_config(16, 24, 12, 3))).key_queue.queue.shape == (12, 16)


# ---------------------------------------------------------------- optimizer
@pytest.mark.parametrize('path', sorted(CONFIGS.glob('moco-v*_resnet*')), ids=lambda path: path.stem)
def test_the_optimizer_of_a_config_holds_what_is_trained(path: Path) -> None:
    cfg = load_config(path)
    with torch.random.fork_rng():
        model = build({**cfg.model.to_dict(), 'queue_size': 1, 'graft': None})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper.to_dict())
    groups = wrapper.optimizer.param_groups
    held = {id(p): group for group in groups for p in group['params']}
    trained = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert set(held) == set(trained)
    assert not any(name.startswith('momentum_encoder') for name in trained.values())
    rate, decay = (cfg.optim_wrapper.optimizer[key] for key in ('lr', 'weight_decay'))
    assert all(group['momentum'] == 0.9 for group in groups)
    if 'paramwise_cfg' not in cfg.optim_wrapper:
        assert [(group['lr'], group['weight_decay']) for group in groups] == [(rate, decay)]
        return
    for key, name in trained.items():
        slow = name.startswith('backbone') and not name.startswith('backbone.layer4')
        assert held[key]['lr'] == pytest.approx(rate * (0.1 if slow else 1.0)), name
        assert held[key]['weight_decay'] == decay, name
