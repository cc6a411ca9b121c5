"""SwAV's recipes against golden numbers: LARC, schedules, evaluations, checkpoints, views."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from config_cache import load_config
from golden_sets import golden_file, is_shipped, some
from golden_swav import METHOD, files, read
from helpers import assert_close, build, tensor
from torch import nn

from mmselfsup_graft.checkpoints import SWAV_MODEL, read_checkpoint, read_encoder
from mmselfsup_graft.datasets import MultiCrop
from mmselfsup_graft.datasets.augment import PILGaussianBlur, RandomApply
from mmselfsup_graft.datasets.fast.compile_pipeline import operations_of
from mmselfsup_graft.datasets.transforms import build_pipeline
from mmselfsup_graft.engine import LARS, LayerWiseLRConstructor, WarmupCosineLR
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.heads import prototype_head
from mmselfsup_graft.registry import MODELS, OPTIMIZERS, PARAM_SCHEDULERS

CONFIGS = Path(__file__).parents[2] / 'configs'
PRETRAINING = sorted((CONFIGS / 'swav').glob('swav*_in1k.py'))
LINEAR = CONFIGS / 'benchmarks/linear/linear-swav_resnet50_8xb32-coslr-100e_in1k.py'


# ---------------------------------------------------------------- optimizer and schedules
@pytest.mark.parametrize('name', files('swav_larc'))
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_larc(name: str, dtype: torch.dtype) -> None:
    arrays, settings = read(name)
    names = [each.removesuffix('_after') for each in some([key for key in arrays if key.endswith('_after')])]
    parameters = {each: tensor(arrays[f'{each}0'], dtype).requires_grad_() for each in names}
    options = {key: settings[key] for key in ('momentum', 'weight_decay', 'trust_coefficient', 'eps')}
    optimizer = LARS(list(parameters.values()), adapt_1d=True, separate_norms=True, **options)
    for step, lr in enumerate(some(arrays['lr'], 'steps')):
        optimizer.param_groups[0]['lr'] = float(lr)
        for each, parameter in parameters.items():
            given = arrays.get(f'grad_{each}')
            parameter.grad = None if given is None else tensor(given[step], dtype)
        optimizer.step()
        for each, parameter in parameters.items():
            rtol = 1e-10 if dtype == torch.float64 else 1e-5
            assert_close(parameter, arrays[f'{each}_after'][step], rtol=rtol, name=f'{each} after step {step}')


def schedules() -> dict[str, Any]:
    (name,) = files('swav_schedule')
    return golden_file(name, METHOD)


def test_learning_rates() -> None:
    for name, case in some(schedules()['schedules'], 'schedules').items():
        warmup, end = (case[key] * case['iterations_per_epoch'] for key in ('warmup_epochs', 'epochs'))
        low, start = case['final_lr'] / case['base_lr'], case['start_warmup'] / case['base_lr']
        for iteration, wanted in zip(some(case['iteration'], 'iterations'), case['lr'], strict=True):
            ours = case['base_lr'] * warmup_cosine_factor(iteration, warmup, end, low, start)
            assert_close(ours, wanted, rtol=1e-12, atol=1e-15, name=f'{name}: iteration {iteration}')


def test_learning_rates_set_by_the_scheduler() -> None:
    case = min(schedules()['schedules'].values(), key=lambda each: each['total_iterations'])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=case['base_lr'])
    schedule = WarmupCosineLR.build_iter_from_epoch(
        optimizer,
        warmup=case['warmup_epochs'],
        end=case['epochs'],
        epoch_length=case['iterations_per_epoch'],
        start_ratio=case['start_warmup'] / case['base_lr'],
        min_ratio=case['final_lr'] / case['base_lr'],
    )
    wanted = dict(zip(case['iteration'], case['lr']))
    for iteration in range(case['total_iterations']):
        if iteration in wanted:
            assert_close(optimizer.param_groups[0]['lr'], wanted[iteration], rtol=1e-12, atol=1e-15, name=iteration)
        optimizer.step()
        schedule.step()


def test_configs_have_the_recorded_rates() -> None:
    """Every config that shares length, peak and warm-up with a recorded schedule has its start and end.

    Another set may have no schedule of ours; in the shipped one every schedule of a published length is a config's.
    """
    compared = set()
    for path in PRETRAINING:
        cfg = load_config(path)
        (schedule,) = cfg.param_scheduler
        peak = cfg.optim_wrapper.optimizer.lr
        assert schedule.get('start_ratio') == (0.0625 if schedule.warmup else None)
        for name, case in schedules()['schedules'].items():
            recorded = (case['epochs'], case['warmup_epochs'], case['base_lr'])
            if (cfg.train_cfg.max_epochs, schedule.warmup, peak) == recorded:
                compared.add(name)
                assert schedule.min_ratio * peak == pytest.approx(case['final_lr'], rel=1e-12)
                if schedule.warmup:
                    assert schedule.start_ratio * peak == pytest.approx(case['start_warmup'], rel=1e-12)
    assert compared or not is_shipped(METHOD)


def test_usable_length_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    for case in some(schedules()['queue_length'], 'queues'):
        monkeypatch.setattr(prototype_head, 'get_world_size', lambda world=case['world_size']: world)
        head = build(dict(type='PrototypeHead', in_channels=2, num_prototypes=2, queue_length=case['requested']))
        if case['enabled']:
            assert head.usable_length(case['batch_per_rank']) == case['queue_length']
            assert case['per_rank'] * case['world_size'] == case['queue_length']
        elif case['requested']:
            with pytest.raises(ConfigError, match=f'a queue of {case["requested"]} holds no whole batch'):
                head.usable_length(case['batch_per_rank'])
        else:
            assert not hasattr(head, 'queue')


# ---------------------------------------------------------------- evaluations
@pytest.mark.parametrize('name', files('swav_linear'))
def test_linear_evaluation(name: str) -> None:
    arrays, settings = read(name)
    cfg = load_config(LINEAR)
    neck, width = MODELS.build(cfg.model.neck), settings['feature_width']
    head = MODELS.build({**cfg.model.head, 'in_channels': width, 'num_classes': settings['classes']}).double()
    with torch.no_grad():
        head.fc.weight.copy_(tensor(arrays['weight']))
        head.fc.bias.copy_(tensor(arrays['bias']))
    assert cfg.optim_wrapper.optimizer.to_dict() == {
        key: value for key, value in settings['optimizer'].items() if key != 'nesterov'
    }
    optimizer = OPTIMIZERS.build({**cfg.optim_wrapper.optimizer, 'params': head.parameters()})
    (schedule,) = cfg.param_scheduler
    schedule = PARAM_SCHEDULERS.build({**schedule, 'optimizer': optimizer, 'end': settings['epochs']})
    step = 0
    for epoch in range(settings['epochs']):
        for _ in range(settings['iterations_per_epoch']):
            assert_close(optimizer.param_groups[0]['lr'], arrays['lr'][step], rtol=1e-12)
            scores = head(neck((tensor(arrays['features'][step]),)))
            loss = nn.functional.cross_entropy(scores, tensor(arrays['labels'][step]))
            assert_close(loss, arrays['loss'][step], rtol=1e-9, name=f'loss of step {step}')
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        assert_close(head.fc.bias, arrays['bias_after'][epoch], rtol=1e-8, name=f'bias after epoch {epoch}')
        schedule.step()
    assert_close(head.fc.weight, arrays['weight_after'], rtol=1e-8, name='weight')


def test_rates_of_the_linear_evaluation() -> None:
    recorded, cfg = schedules()['linear'], load_config(LINEAR)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recorded['base_lr'])
    schedule = PARAM_SCHEDULERS.build({**cfg.param_scheduler[0], 'optimizer': optimizer, 'end': recorded['epochs']})
    for epoch, wanted in enumerate(some(recorded['lr_per_epoch'], 'rates')):
        assert_close(optimizer.param_groups[0]['lr'], wanted, rtol=1e-12, atol=1e-16, name=f'epoch {epoch}')
        optimizer.step()
        schedule.step()
    assert cfg.train_cfg.max_epochs == recorded['epochs'] or cfg.optim_wrapper.optimizer.lr != recorded['base_lr']


def test_semi_supervised_groups_and_rates() -> None:
    recorded = schedules()['semi_supervised']
    (path,) = CONFIGS.glob(f'benchmarks/finetune/finetune-swav_*_in1k-{recorded["labels_percent"]}pct.py')
    cfg = load_config(path)
    assert cfg.train_cfg.max_epochs == recorded['epochs']
    assert cfg.auto_scale_lr.base_batch_size == recorded['batch']
    model = MODELS.build(cfg.model)
    wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in ('constructor', 'paramwise_cfg')}
    groups = LayerWiseLRConstructor(wrapper, cfg.optim_wrapper.paramwise_cfg).param_groups(model)
    ours = {name: group for group in groups for name in group['param_names']}
    assert len(ours) == sum(len(group['names']) for group in recorded['groups'])
    rates = []
    for group in some(recorded['groups'], 'groups'):
        for name in group['names']:
            found = ours[name.replace('projection_head', 'head.fc') if 'head' in name else f'backbone.{name}']
            assert found['lr'] == pytest.approx(group['lr'], rel=1e-12), name
            assert found.get('weight_decay', wrapper['optimizer']['weight_decay']) == group['weight_decay']
        assert wrapper['optimizer']['momentum'] == group['momentum']
        rates.append(found['lr'])
    optimizer = torch.optim.SGD([dict(params=[torch.zeros(1, requires_grad=True)], lr=rate) for rate in rates])
    schedule = PARAM_SCHEDULERS.build({**cfg.param_scheduler[0], 'optimizer': optimizer})
    for epoch, wanted in enumerate(some(recorded['lr_per_epoch'], 'rates')):
        assert_close([each['lr'] for each in optimizer.param_groups], wanted, rtol=1e-12, name=f'epoch {epoch}')
        optimizer.step()
        schedule.step()


def test_the_head_starts_as_torch_does_for_few_labels_and_small_for_linear() -> None:
    few_labels = next(CONFIGS.glob('benchmarks/finetune/finetune-swav_*'))
    for path, deviation, biased in ((LINEAR, 0.01, False), (few_labels, 1 / math.sqrt(3 * 2048), True)):
        head = MODELS.build({**load_config(path).model.head, 'in_channels': 2048})
        head.init_weights()
        assert float(head.fc.weight.std()) == pytest.approx(deviation, rel=0.02)
        assert bool(head.fc.bias.any()) == biased


# ---------------------------------------------------------------- checkpoints
def pretraining_config(recorded: dict[str, Any]) -> Any:
    """Our model of a recorded size."""
    cfg = load_config(CONFIGS / 'swav/swav_resnet50_64xb64-amp-coslr-200e_in1k.py').model
    cfg = cfg.to_dict()
    cfg['backbone']['depth'] = int(recorded['arch'].removeprefix('resnet'))
    cfg['neck'].update(hid_channels=recorded['hidden_mlp'], out_channels=recorded['dim'])
    cfg['head']['num_prototypes'] = recorded['num_prototypes']
    return cfg


@pytest.mark.parametrize('name', files('swav_checkpoint'))
def test_names_and_shapes_of_checkpoints(name: str) -> None:
    recorded = golden_file(name, METHOD)
    model = MODELS.build(pretraining_config(recorded))
    ours = {n: v for n, v in model.state_dict().items() if n not in ('head.counters', 'head.queue')}
    keys = {key: (tuple(shape), dtype) for key, shape, dtype in some(recorded['training']['keys'])}
    there = {f'module.{SWAV_MODEL.from_canonical(n)}': v for n, v in ours.items()}
    assert {n: (tuple(v.shape), str(v.dtype).removeprefix('torch.')) for n, v in there.items()} == keys
    assert {SWAV_MODEL.to_canonical(key.removeprefix('module.')) for key in keys} == set(ours)
    trained = [f'module.{SWAV_MODEL.from_canonical(n)}' for n, p in model.named_parameters() if p.requires_grad]
    optimizer = recorded['training']['optimizer']
    assert sorted(trained) == sorted(optimizer['params_in_order'])
    assert len(trained) == optimizer['num_params']


@pytest.mark.parametrize('name', files('swav_checkpoint'))
@pytest.mark.parametrize('kind', ['training', 'published'])
def test_official_files_give_their_encoder(name: str, kind: str, tmp_path: Path) -> None:
    """Also a training file, whose learning rate is a number of numpy's."""
    recorded = golden_file(name, METHOD)
    keys = {key: shape for key, shape, _ in recorded['training']['keys']}
    # the names are the real ones, the tensors are small
    state = {key: torch.full([min(side, 2) for side in shape], 0.5) for key, shape in keys.items()}
    content: dict[str, Any] = dict(state)
    if kind == 'training':
        group = {**recorded['training']['optimizer']['group'], 'lr': np.float64(0.1), 'params': [0]}
        content = {'epoch': 3, 'state_dict': state, 'optimizer': {'state': {}, 'param_groups': [group]}}
    torch.save(content, tmp_path / 'official.pth.tar')
    encoder = read_encoder(tmp_path / 'official.pth.tar')
    assert encoder.format == 'swav'
    dropped = {key.removeprefix('module.') for key in keys if 'projection_head' in key or 'prototypes' in key}
    assert set(encoder.state) == {key.removeprefix('module.') for key in keys} - dropped
    if kind == 'training':
        assert read_checkpoint(tmp_path / 'official.pth.tar')['optimizer']['param_groups'][0]['lr'] == 0.1


def test_evaluation_drops_what_the_published_scripts_drop() -> None:
    recorded = schedules()['loading_of_a_pretrained_r50']
    for case in some(recorded, 'scripts').values():
        for name in case['unexpected']:
            assert SWAV_MODEL.to_canonical(name).startswith(('neck.', 'head.')), name


# ---------------------------------------------------------------- views
def described(transform: Any) -> list[dict[str, Any]]:
    """A transform in the words of the golden set."""
    inner = getattr(transform, 't', transform)
    if isinstance(inner, RandomApply):
        return [{'op': 'apply', 'probability': inner.p, 'ops': [d for t in inner.transforms for d in described(t)]}]
    if isinstance(inner, PILGaussianBlur):
        blur = {'op': 'gaussian_blur_pil', 'radius': [inner.low, inner.high]}
        return [{'op': 'apply', 'probability': inner.p, 'ops': [blur]}]
    kind = type(inner).__name__
    if kind == 'RandomResizedCrop':
        shape = {'size': list(inner.size), 'area': list(inner.scale), 'ratio': list(inner.ratio)}
        return [{'op': 'random_resized_crop', **shape, 'interpolation': inner.interpolation.value}]
    if kind == 'ColorJitter':
        ranges = {key: list(getattr(inner, key)) for key in ('brightness', 'contrast', 'saturation', 'hue')}
        return [{'op': 'color_jitter', **ranges, 'order': 'random'}]
    if kind == 'Resize':
        return [{'op': 'resize_short_side', 'size': inner.size, 'interpolation': inner.interpolation.value}]
    if kind == 'CenterCrop':
        return [{'op': 'center_crop', 'size': list(inner.size)}]
    return [
        {
            'op': {'RandomHorizontalFlip': 'horizontal_flip', 'RandomGrayscale': 'grayscale'}[kind],
            'probability': inner.p,
        }
    ]


def normalized(cfg: Any) -> list[dict[str, Any]]:
    mean, std = ([value / 255 for value in cfg.data_preprocessor[key]] for key in ('mean', 'std'))
    return [{'op': 'to_unit_range'}, {'op': 'normalise', 'mean': mean, 'std': std}]


def assert_same(ours: Any, wanted: Any) -> None:
    """Compare nested descriptions, numbers up to rounding."""
    if isinstance(wanted, dict):
        assert ours.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_same(ours[key], value)
    elif isinstance(wanted, list):
        assert len(ours) == len(wanted)
        for one, other in zip(ours, wanted):
            assert_same(one, other)
    else:
        assert ours == (wanted if isinstance(wanted, str) else pytest.approx(wanted, abs=1e-9))


def augmentations() -> dict[str, Any]:
    (name,) = files('augmentations')
    return golden_file(name, METHOD)


def multi_crops() -> dict[str, Any]:
    return some({k: v for k, v in augmentations()['pipelines'].items() if 'nmb_crops' in v}, 'pipelines')


def groups_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The recorded crops in the words of our configs."""
    columns = [case[key] for key in ('nmb_crops', 'size_crops', 'min_scale_crops', 'max_scale_crops')]
    return [dict(num=n, size=s, area=(a, b), interpolation='bilinear') for n, s, a, b in zip(*columns, strict=True)]


def test_views_of_pretraining() -> None:
    cfg = load_config(CONFIGS / 'swav/swav_resnet50_64xb64-amp-coslr-200e_in1k.py')
    for case in multi_crops().values():
        options = {**cfg.train_pipeline[1], 'crops': groups_of(case)}
        assert options.pop('type') == 'MultiCrop'
        views = MultiCrop(**options).views
        assert len(views) == len(case['views'])
        for ours, wanted in zip(views, case['views']):
            assert_same([d for each in ours.transforms for d in described(each)] + normalized(cfg), wanted)


def test_crops_of_a_config_are_recorded_ones() -> None:
    """Those of the recipe, if the set has crops of its sizes, as the shipped one has."""
    cfg = load_config(CONFIGS / 'swav/swav_resnet50_64xb64-amp-coslr-200e_in1k.py')
    ours = [dict(group, area=tuple(group['area'])) for group in cfg.train_pipeline[1]['crops']]
    same_sizes = [case for case in multi_crops().values() if [group['size'] for group in ours] == case['size_crops']]
    for case in same_sizes:
        assert ours == groups_of(case)
    assert same_sizes or not is_shipped(METHOD)


def test_deviation_of_red_is_that_of_the_release_in_swav_alone() -> None:
    for path in sorted(CONFIGS.rglob('*_in1k*.py')):
        if {'_base_', 'mmdetection', 'mmsegmentation', 'recipes'} & set(path.parts):
            continue
        cfg = load_config(path)
        std = cfg.get('data_preprocessor', cfg.model.get('data_preprocessor')).std
        assert (std[0] == 58.14) == ('swav' in path.stem), path


def test_evaluation_pipelines() -> None:
    case = next(v for k, v in augmentations()['pipelines'].items() if 'train' in v and 0.228 in v['train'][-1]['std'])
    cfg = load_config(LINEAR)
    for split, loader in (('train', cfg.train_dataloader), ('test', cfg.val_dataloader)):
        transforms = build_pipeline(loader.dataset.pipeline[1:-1])
        assert_same([d for each in transforms for d in described(each)] + normalized(cfg), case[split])


@pytest.mark.parametrize('form', ['PIL', 'fast'])
def test_statistics_of_the_crops(form: str) -> None:
    torch.manual_seed(0)
    for name, case in some(augmentations()['crop_statistics'], 'statistics').items():
        group = dict(num=1, size=8, area=case['area'], ratio=case['ratio'])
        crop = MultiCrop([group]).views[0].transforms[0]
        height, width, draws = case['height'], case['width'], 3000
        image = torch.zeros(3, height, width)
        (operation,) = operations_of([crop], 3)
        sides = []
        for _ in range(draws):
            if form == 'PIL':
                sides.append(crop.t.get_params(image, crop.t.scale, crop.t.ratio)[2:])
            else:
                sides.append(operation.draw(height, width).window[2:])
        high, wide = torch.tensor(sides).double().unbind(1)
        found = {'area': high * wide / (height * width), 'log_ratio': (wide / high).log()}
        for key, values in found.items():
            deviation = case[f'{key}_std'] * math.sqrt(1 / draws + 1 / case['draws'])
            assert abs(values.mean() - case[f'{key}_mean']) < 5 * deviation, f'{name}: {key}'
