"""Every config: passes the strict check, is named by the rule, and really trains one step at tiny sizes on the CPU."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import sklearn.datasets
import torch
from config_cache import load_config
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny_configs import (
    BATCH,
    cifar,
    fashion,
    fresh_source,
    image_size,
    is_resnet,
    pictures,
    scored_size,
    shrunk,
    shrunk_frozen,
)

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.datasets.shards.make_shards import make_shards
from mmselfsup_graft.engine import GraftRunner, LayerWiseLRConstructor
from mmselfsup_graft.evaluation.results import score_and_record
from mmselfsup_graft.evaluation.scoring import read_evaluation
from mmselfsup_graft.recipes.recipe import load_recipe
from mmselfsup_graft.registry import MODELS, PROTOCOLS

CONFIGS = Path(__file__).parents[1] / 'configs'
RECIPES = sorted(CONFIGS.glob('recipes/*.py'))
# small ones, with a table; those for ImageNet have stages that score: tests/test_recipes/test_imagenet.py
SMALL = [path for path in RECIPES if not path.stem.endswith('in1k')]
CASCADES = [path for path in SMALL if path.stem.startswith('layer-grafted') and 'study' not in path.stem]
_WITH_MODEL = {
    path: cfg
    for path in sorted(CONFIGS.rglob('*.py'))
    # those for detection and segmentation need mmdet and mmseg: tests/test_downstream
    if not {'_base_', 'mmdetection', 'mmsegmentation'} & set(path.parts)
    and path not in RECIPES
    and 'model' in (cfg := Config.fromfile(str(path)))
}
FROZEN = [path for path, cfg in _WITH_MODEL.items() if 'train_dataloader' not in cfg]  # an encoder to score
COMPLETE = [path for path in _WITH_MODEL if path not in FROZEN]


def name_of(path: Path) -> str:
    return str(path.relative_to(CONFIGS).with_suffix(''))


every_config = pytest.mark.parametrize('path', COMPLETE, ids=name_of)
every_frozen = pytest.mark.parametrize('path', FROZEN, ids=name_of)


def test_configs_are_found():
    assert {path.parent.name for path in COMPLETE} >= {
        *('a2mim', 'mae', 'moco', 'mocov3', 'layer_grafted', 'simmim', 'multi_task', 'swav', 'tec', 'finetune')
    }
    assert len(COMPLETE) >= 15
    assert RECIPES
    assert {path.parent.name for path in FROZEN} == {'linear', 'few_shot', 'knn'}
    assert all(path.parent.parent.name == 'benchmarks' for path in FROZEN)


# ---------------------------------------------------------------- what a config must say
@every_config
def test_strict_check_and_what_every_config_has(path):
    cfg = load_config(path)
    assert cfg.default_scope == 'mmselfsup_graft'
    assert cfg.auto_scale_lr.enable is False
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert cfg.auto_scale_lr.get('accumulated', 1) == cfg.optim_wrapper.get('accumulative_counts', 1)
    assert cfg.randomness.seed == 0
    assert cfg.default_hooks.checkpoint.type == 'SafeCheckpointHook'
    last = cfg.param_scheduler[-1]
    assert 'end' not in last, 'it would not follow --cfg-options train_cfg.max_epochs=N'


NAME = re.compile(
    r'(?P<algorithm>[a-z0-9-]+)_(?P<backbone>[a-z0-9-]+)_(?P<gpus>\d+)xb(?P<batch>\d+)(?P<amp>-amp)?-(?P<schedule>[a-z]+lr)'
    r'-(?P<epochs>\d+)e_(?P<data>[a-z0-9-]+?)(-(?P<px>\d+)px)?'
)


@every_config
def test_name_says_what_the_config_does(path):
    name = NAME.fullmatch(path.stem)
    assert name, path.stem
    cfg = load_config(path)
    backbone = cfg.model.backbone
    assert name['algorithm'].startswith(path.parent.name.replace('_', '-'))  # variants add to the name
    assert name['algorithm'].endswith('-first-fc') == (cfg.model.get('head', {}).get('type') == 'FirstFCHead')
    if is_resnet(backbone):
        depth, width = re.fullmatch(r'resnet(\d+)(?:-w(\d+))?', name['backbone']).groups()
        assert (backbone.depth, backbone.get('base_channels', 64)) == (int(depth), int(width or 64))
    elif 'Timm' in backbone.type:
        assert name['backbone'] == f'timm-{backbone.name.replace("_", "-")}'
    elif family := re.fullmatch(r'(convnext|swin)-(\w+)', name['backbone']):
        assert family[1] in backbone.type.lower()
        assert backbone.arch == family[2] or family[2] == 'mini'
    else:
        assert backbone.patch_size == int(re.search(r'-p(\d+)$', name['backbone'])[1])
        if isinstance(backbone.arch, str):
            assert backbone.arch.endswith(re.match(r'(?:vit-)?([\w-]+)-p', name['backbone'])[1])
    assert image_size(cfg) == int(name['px'] or 224)
    assert cfg.train_dataloader.batch_size == int(name['batch'])
    assert cfg.auto_scale_lr.base_batch_size == int(name['batch']) * int(name['gpus'])
    assert (cfg.optim_wrapper.type == 'AutocastOptimWrapper') == bool(name['amp'])
    kinds = {'coslr': [['WarmupCosineLR']], 'steplr': [['LinearLR', 'MultiStepLR'], ['MultiStepLR']]}
    assert [each.type for each in cfg.param_scheduler] in kinds[name['schedule']]
    assert cfg.train_cfg.max_epochs == int(name['epochs'])
    if name['schedule'] == 'coslr':
        assert schedule_end(cfg) == int(name['epochs'])
    else:
        assert cfg.param_scheduler[-1].milestones[-1] < int(name['epochs'])
    kinds = {'in1k': 'ImageNet', 'digits': 'Digits', 'fashion-mnist': 'FashionMNIST'}
    kinds |= {'folder': 'ImageFolder', 'photos': 'SamplePhotos'}
    kinds |= {
        'in1k-norm05': 'ImageNet',
        'in1k-10pct': 'ImageList',
        'in1k-1pct': 'ImageList',
        'fashion-mnist-1pct': 'FashionMNIST',
    }
    kinds |= {'cifar100': 'CIFAR', 'in100': 'ImageNet', 'in1k-shards': 'TarShards'}
    assert cfg.train_dataloader.dataset.type == kinds[name['data']]


@pytest.mark.parametrize('path', COMPLETE + FROZEN, ids=name_of)
def test_evaluation_reads_the_size_that_the_encoder_takes(path):
    cfg = load_config(path)
    if cfg.model.get('type') == 'GraftedClassifier':
        sizes = {t['size'] for t in cfg.val_dataloader.dataset.pipeline if t.type.endswith('CenterCrop')} or {28}
        pixels = NAME.fullmatch(path.stem)['px']
        # RSB A3 trains at 160 px and is tested at 224
        assert sizes == {cfg.model.backbone.get('img_size', 224 if 'rsb' in path.stem else int(pixels or 224))}
        assert cfg.test_dataloader == cfg.val_dataloader
        return
    if 'evaluation' not in cfg:
        assert cfg.train_dataloader.dataset.type == 'SamplePhotos'  # nothing to classify there
        return
    for side in {'train', 'test', 'augmented'} & set(cfg.evaluation):
        dataset = cfg.evaluation[side]
        sizes = {t['size'] for t in dataset.pipeline if t.type.endswith(('CenterCrop', 'RandomResizedCrop'))}
        wanted = image_size(cfg) if 'train_dataloader' in cfg else scored_size(cfg)
        assert (sizes or {dataset.get('img_size', 28)}) == {wanted}
        loading = dataset.pipeline[0]
        assert loading.channels == cfg.model.backbone.get('in_channels', 3)


# ---------------------------------------------------------------- one real training step
@pytest.fixture(scope='module')
def data(tmp_path_factory) -> dict[str, str]:
    """``data_root`` of each type of data set that reads one."""
    root = tmp_path_factory.mktemp('data')
    for split in ('train', 'val'):
        pictures(root / 'imagenet' / split)
    listed = [f'train/n0000000{number % 2}/{number}.JPEG {number % 2}' for number in range(2 * BATCH)]
    (root / 'list.txt').write_text('\n'.join(listed) + '\n')
    (root / 'imagenet' / '1percent.txt').write_text('\n'.join(listed) + '\n')
    pictures(root / 'folder')
    fashion(root / 'fashion')
    cifar(root / 'cifar')
    make_shards(root / 'imagenet', root / 'shards', split='train')
    return {
        name: str(root / place)
        for name, place in {
            'ImageNet': 'imagenet',
            'ImageList': 'imagenet',
            'ImageFolder': 'folder',
            'FashionMNIST': 'fashion',
            'CIFAR': 'cifar',
            'TarShards': 'shards',
        }.items()
    }


class Start(Hook):
    """Keeps the weights with which training starts."""

    def before_train(self, runner) -> None:
        self.state = {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(Config, 'pretty_text', property(lambda cfg: repr(cfg.to_dict())))
    monkeypatch.setattr(sklearn.datasets, 'load_digits', cache(sklearn.datasets.load_digits))


def parts(state: dict[str, torch.Tensor], prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in state.items() if name.startswith(prefix))


def never_initialized(model: torch.nn.Module) -> list[str]:
    """Encoders, necks and heads that mmengine's initialization did not reach; momentum encoders are copied."""
    kinds = ('backbone', 'neck', 'head')
    parts = [(name, part) for name, part in model.named_modules() if name.rpartition('.')[2] in kinds]
    return [name for name, part in parts if 'momentum_encoder' not in name and not getattr(part, 'is_init', True)]


@every_config
def test_one_training_step(path, data, tmp_path, quick):
    cfg, grafted = shrunk(path, data, tmp_path)
    if cfg.model.type == 'GraftedClassifier' and cfg.train_dataloader.dataset.type in ('ImageNet', 'ImageList'):
        # the pictures are of two of the classes
        cfg.train_dataloader.dataset.metainfo = dict(classes=[f'n{n:08}' for n in range(cfg.model.head.num_classes)])
    runner, start = GraftRunner.from_cfg(cfg), Start()
    runner.register_hook(start)
    runner.train()
    assert runner.iter == 1
    assert never_initialized(runner.model) == []

    trainable = {name for name, value in runner.model.named_parameters() if value.requires_grad}
    parameters = dict(runner.model.named_parameters())
    moved = {name for name, value in parameters.items() if not torch.equal(value, start.state[name])}
    assert moved == trainable
    assert ('backbone.mask_token' in trainable) == (cfg.model.type in ('SimMIM', 'A2MIM', 'MaskedTEC'))
    expected = {f'backbone.{name}' for name, _ in runner.model.backbone.named_parameters()}
    if not re.search('BEiT|Timm', cfg.model.backbone.type) and not cfg.model.backbone.get('learn_positions'):
        expected -= {name for name in expected if 'pos_embed' in name}
    if cfg.model.backbone.get('stop_grad_patch_embed'):
        expected = {name for name in expected if 'patch_embed' not in name}
    layer_id, frozen = runner.model.depth.layer_id, cfg.model.get('frozen_layers', 0)
    if frozen:
        expected = {name for name in expected if layer_id(name.removeprefix('backbone.')) > frozen}
    assert {name for name in trainable if name.startswith('backbone.')} == expected
    assert all(value.isfinite().all() for value in parameters.values())

    if grafted is not None:
        for prefix in ('backbone.', 'momentum_encoder.backbone.')[
            : 2 if hasattr(runner.model, 'momentum_encoder') else 1
        ]:
            found = dict(parts(start.state, prefix))
            assert found.keys() >= grafted.keys()
            whole = len(cfg.model.graft) == 2 or not cfg.model.graft[0].get('layers')
            assert (found.keys() == grafted.keys()) == whole
            assert all(torch.equal(found[name], value) for name, value in grafted.items())

    rows = [json.loads(line) for line in (tmp_path / 'run' / 'history.jsonl').read_text().splitlines()]
    assert [row['iter'] for row in rows] == [0]
    binary = (cfg.model.get('head', {}).get('loss') or {}).get('use_sigmoid', False)  # a sum over a thousand classes
    assert 0 < abs(rows[0]['loss']) < (1000 if binary else 100)  # a negative cosine is below 0
    if cfg.model.get('l1_distance'):
        assert rows[0]['loss_l1_distance'] == 0  # measured at the grafted weights

    checkpoint = torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=True)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(checkpoint['state_dict'][name], value), name
    again = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    again.load_state_dict(checkpoint['state_dict'])


# ---------------------------------------------------------------- encoders to score
@every_frozen
def test_frozen_configs_score_a_checkpoint(path, data, tmp_path):
    load_config(path)  # the strict check
    cfg = shrunk_frozen(path, data)
    backbone = cfg.model.backbone
    if 'ViT' in backbone.type:
        fresh_source(backbone.to_dict(), tmp_path / 'start.pth')
    else:
        state = {f'backbone.{name}': value for name, value in MODELS.build(backbone).state_dict().items()}
        save_atomically({'state_dict': state}, tmp_path / 'start.pth')
    cfg.work_dir = str(tmp_path / 'run')
    rows, _ = score_and_record(cfg, path, tmp_path / 'start.pth')
    expected = {'linear': 'linear', 'few': 'few_shot', 'logistic': 'logistic', 'knn': 'knn'}
    assert [row['protocol'] for row in rows] == [expected[re.match('[a-z]+', path.stem)[0]]]
    result = rows[0]['result']
    accuracies = [result['accuracy']] if 'accuracy' in result else [each['mean'] for each in result.values()]
    assert all(0 <= accuracy <= 100 for accuracy in accuracies)
    assert rows[0]['checkpoint_format'] == ('timm' if 'ViT' in backbone.type else 'openmmlab')
    assert rows[0]['feature'] == ('class_token' if 'ViT' in backbone.type else 'patch_mean')
    halves = {'train': 6, 'test': 2} if 'folder' in path.stem else {'train': 2 * BATCH, 'test': 2 * BATCH}
    assert rows[0]['images'] == halves


@every_frozen
def test_frozen_configs_hold_the_official_settings(path):
    cfg = load_config(path)
    protocols = read_evaluation(cfg).protocols
    for name, protocol in protocols.items():
        assert type(protocol) is PROTOCOLS.get(name)
    if 'linear' in protocols:
        sweep = protocols['linear']
        assert len(sweep.heads()) == (70 if path.stem.startswith('linear_') else 1)
        name = re.search(r'_(\d+)xb(\d+)-\w+lr-(\d+)e_', path.stem)
        assert (int(name[1]) * int(name[2]), int(name[3])) == (sweep.batch_size, sweep.epochs)
        assert sweep.augment
        assert sweep.selection == 'test'
    if 'logistic' in protocols:
        assert protocols['logistic'].regularisation == 0.00025
        assert protocols['logistic'].normalise
        assert '1percent' in path.stem
    if 'in1k' in path.stem:
        backbone, name = cfg.model.backbone, path.stem.split('_')[1]
        if is_resnet(backbone):
            assert name == f'resnet{backbone.depth}'
        else:
            assert backbone.arch.removeprefix('mocov3-') == re.search(r'-(\w+?)(-p16)?$', name)[1]
        assert scored_size(cfg) == backbone.get('img_size', 224) == (192 if '192px' in path.stem else 224)


# rate per 256 images, batch, epochs, momentum, interpolation: FINETUNE.md of MAE, CONFIG.md of MoCo v3, code of MoCo
PROBES = {
    'linear-mae_vit-base-p16': (0.1, 16384, 90, 0.9, 'bicubic'),
    'linear-mae_vit-large-p16': (0.1, 16384, 50, 0.9, 'bicubic'),
    'linear-moco_resnet50': (30.0, 256, 100, 0.9, 'bilinear'),
    'linear-mocov3_resnet50': (0.1, 1024, 90, 0.9, 'bilinear'),
    'linear-mocov3_vit-small-p16': (3.0, 1024, 90, 0.9, 'bilinear'),
    'linear-mocov3_vit-base-p16': (3.0, 1024, 90, 0.9, 'bilinear'),
}


def test_probes_with_one_head_are_the_published_ones():
    found = {}
    for path in (CONFIGS / 'benchmarks' / 'linear').glob('linear-*.py'):
        cfg = load_config(path)
        if 'evaluation' not in cfg:  # a frozen classifier, as SwAV's
            continue
        sweep = read_evaluation(cfg).protocols['linear']
        ((rate, decay),) = sweep.heads()
        assert decay == 0
        kinds = {dataset.pipeline[1].interpolation for dataset in (cfg.evaluation.test, cfg.evaluation.augmented)}
        found['_'.join(path.stem.split('_')[:2])] = (rate, sweep.batch_size, sweep.epochs, sweep.momentum, *kinds)
        of_mae = path.stem.startswith('linear-mae')
        assert (sweep.optimizer, sweep.warmup_epochs) == (('lars', 10) if of_mae else ('sgd', 0))
        assert sweep.add_batch_norm == sweep.per_iteration == sweep.drop_last == of_mae
        assert list(sweep.milestones) == ([60, 80] if path.stem.startswith('linear-moco_') else [])
        assert cfg.evaluation.augmented.pipeline[1].get('scale', (0.08, 1.0)) == (0.08, 1.0)
    assert found == PROBES


# ---------------------------------------------------------------- the official recipes
def official(size: str) -> Config:
    (path,) = [p for p in COMPLETE if re.fullmatch(f'layer-grafted_vit-{size}-p16_.*_in1k', p.stem)]
    return load_config(path)


@pytest.fixture(scope='module', params=['base', 'large'])
def lgp(request) -> tuple[str, Config, torch.nn.Module, dict[str, dict]]:
    """Size, config, model without memory, and the optimizer group of every parameter."""
    cfg = official(request.param)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = {key: value for key, value in cfg.optim_wrapper.items() if key not in ('constructor', 'paramwise_cfg')}
    groups = LayerWiseLRConstructor(wrapper, cfg.optim_wrapper.paramwise_cfg).param_groups(model)
    return request.param, cfg, model, {name: group for group in groups for name in group['param_names']}


def test_official_learning_rate_of_every_parameter(lgp):
    size, _, model, group_of = lgp
    depth, batch = {'base': (12, 4096), 'large': (24, 2080)}[size]
    low, high = 1.5e-5 * batch / 256, 1.5e-4 * batch / 256
    assert model.depth.num_blocks == depth
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert group_of.keys() == trained
    for name in trained:
        block = re.match(r'backbone\.layers\.(\d+)\.', name)
        upper = int(block[1]) >= depth * 2 // 3 if block else name != 'backbone.cls_token'
        assert group_of[name]['lr'] == pytest.approx(high if upper else low, rel=1e-12), name
        wanted = 0.1 if model.get_parameter(name).ndim > 1 else 0.0
        assert group_of[name]['weight_decay'] == wanted, name
    fixed = {name for name, _ in model.backbone.named_parameters() if f'backbone.{name}' not in trained}
    assert fixed == {'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    assert not any(value.requires_grad for value in model.momentum_encoder.parameters())


def test_official_run(lgp):
    size, cfg, model, _ = lgp
    assert cfg.auto_scale_lr.base_batch_size == {'base': 4096, 'large': 2080}[size]
    assert cfg.optim_wrapper.optimizer.type == 'AdamW'
    assert tuple(cfg.optim_wrapper.optimizer.betas) == (0.9, 0.999)
    assert cfg.optim_wrapper.optimizer.get('eps', 1e-8) == 1e-8
    assert 'clip_grad' not in cfg.optim_wrapper
    assert cfg.train_cfg.max_epochs == 300
    schedule = cfg.param_scheduler[0]
    assert (schedule.warmup, schedule_end(cfg), schedule.get('min_ratio', 0)) == (40, 300, 0)
    assert schedule.convert_to_iter_based
    assert cfg.train_dataloader.drop_last
    assert cfg.default_hooks.momentum.type == 'MomentumScheduleHook'
    assert cfg.default_hooks.momentum.get('cosine', True)
    assert model.base_momentum == 0.99
    assert model.head.temperature == 0.2
    assert model.view_mask_ratio is None
    assert cfg.model.backbone.get('drop_path_rate', 0) == 0
    source = model.graft[0]
    assert (Path(source.checkpoint).name, source.layers) == (f'mae_pretrain_vit_{size}.pth', None)
    assert (model.l1_weight, model.l1_to_block) == {'base': (0.0, 0), 'large': (1e-5, 12)}[size]
    assert model.frozen_layers == 0


def test_official_sizes(lgp):
    size, _, model, _ = lgp
    width, heads = {'base': (768, 12), 'large': (1024, 16)}[size]
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert shapes['backbone.cls_token'] == (1, 1, width)
    assert shapes['backbone.pos_embed'] == (1, 197, width)
    assert shapes['backbone.layers.0.ffn.layers.0.0.weight'] == (4 * width, width)
    assert {layer.attn.num_heads for layer in model.backbone.layers} == {heads}
    linears = [s for n, s in shapes.items() if n.startswith('neck.') and len(s) == 2]
    assert linears == [(4096, width), (4096, 4096), (256, 4096)]
    linears = [s for n, s in shapes.items() if n.startswith('head.') and len(s) == 2]
    assert linears == [(4096, 256), (256, 4096)]
    # no linear has a bias, no last batch norm an affine part: vectors belong to the inner batch norms
    assert sum(len(s) == 1 for n, s in shapes.items() if n.startswith('neck.')) == 4
    assert sum(len(s) == 1 for n, s in shapes.items() if n.startswith('head.')) == 2


# ---------------------------------------------------------------- recipes
@pytest.mark.parametrize('path', CASCADES, ids=name_of)
def test_cascades_read_and_feed_forward(path):
    recipe = load_recipe(path)
    names = [stage.name for stage in recipe.stages]
    assert len(names) == len(set(names)) >= 3
    for index, stage in enumerate(recipe.stages):
        assert set(stage.needs) <= set(names[:index])
    grafted = [stage for stage in recipe.stages if stage.needs]
    assert [(stage.name, stage.needs) for stage in grafted] == [('lgp', ('mim',))]
    assert grafted[0].cfg.model.graft == [{'checkpoint': 'stage:mim'}]
    assert recipe.stage('mim').cfg.model.type in ('MAE', 'SimMIM')
    assert recipe.stage('lgp').cfg.model.type == 'MoCoV3'
    encoders = [dict(recipe.stage(name).cfg.model.backbone) for name in ('mim', 'lgp')]
    for name in ('arch', 'depth', 'stem_channels', 'base_channels', 'strides', 'in_channels'):
        assert encoders[0].get(name) == encoders[1].get(name)


COMPARED = [path for path in SMALL if path.stem.startswith(('layer-grafted_', 'layer-grafted-study_vit-micro'))]


@pytest.mark.parametrize('path', COMPARED, ids=name_of)
def test_cascades_are_compared_with_the_same_epochs_and_the_same_time(path):
    recipe = load_recipe(path)
    rows = {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report.rows}
    assert {'MIM', 'CL, same epochs', 'CL, same time', 'LGP'} <= set(rows)
    assert rows['LGP'].needs == (rows['MIM'].name,)
    epochs = {name: stage.cfg.train_cfg.max_epochs for name, stage in rows.items()}
    assert epochs['CL, same epochs'] == epochs['LGP']
    cl_step = 3.3  # times as long as one of MIM
    whole = epochs['MIM'] + cl_step * epochs['LGP']
    assert cl_step * epochs['CL, same time'] == pytest.approx(whole, rel=0.1)
    assert epochs.get('MIM, same time', whole) == pytest.approx(whole, rel=0.1)
    check_comparison(recipe, rows)


def test_the_study_compares_at_equal_epochs():
    (path,) = [each for each in RECIPES if each.stem.startswith('layer-grafted-study_vit-mini')]
    recipe = load_recipe(path)
    rows = {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report.rows}
    length = {name: total_epochs(recipe, stage) for name, stage in rows.items()}
    assert {value for name, value in length.items() if 'half' not in name} == {length['MIM']}
    assert all(2 * value == length['MIM'] for name, value in length.items() if 'half' in name)
    check_comparison(recipe, rows)


def schedule_end(cfg) -> int:
    """Last epoch of the learning-rate schedule; without a value mmengine takes the length of the training."""
    return cfg.param_scheduler[0].get('end', cfg.train_cfg.max_epochs)


def check_comparison(recipe, rows) -> None:
    """Schedules end with their stages, and all rows are scored alike."""
    for stage in recipe.stages:
        assert schedule_end(stage.cfg) == stage.cfg.train_cfg.max_epochs
    evaluations = [stage.cfg.evaluation.to_dict() for stage in rows.values()]
    assert all(evaluation == evaluations[0] for evaluation in evaluations)
    assert all(recipe.stage(name).cfg.model.type in ('MAE', 'SimMIM') for name in recipe.report.reconstruct)


# the published table: base file, K, tau, epochs, then decay, warm-up and floor of fine-tuning, its peak and epochs
TEC = {
    'tec-mae_vit-base-300e': ('mae_pretrain_vit_base', 15, 1.8, 300, 0.65, 20, 1e-6, 2e-3, 100),
    'tec-mae_vit-base-800e': ('mae_pretrain_vit_base', 15, 1.8, 800, 0.55, 20, 1e-6, 2e-3, 100),
    'tec-ibot_vit-base-300e': ('ibot_vit_base', 9, 1.0, 300, 0.50, 5, 1e-6, 2e-3, 100),
    'tec-ibot_vit-base-800e': ('ibot_vit_base', 9, 1.0, 800, 0.55, 20, 1e-6, 2e-3, 100),
    'tec-mae_vit-large-300e': ('mae_pretrain_vit_large', 15, 1.4, 300, 0.65, 5, 1e-5, 4e-3, 50),
    'tec-mae300e_vit-base-100e': ('mae_vit_base_300e', 15, 1.8, 100, 0.65, 5, 1e-6, 2e-3, 100),
}


# the same of MoCo v3's ResNet-50 (CONFIG.md)
MOCO = {100: (0.6, 1e-6, 0.99), 300: (0.3, 1e-6, 0.99), 1000: (0.3, 1.5e-6, 0.996)}


@pytest.mark.parametrize('epochs', MOCO)
def test_mocos_recipes_for_resnets_are_the_published_ones(epochs):
    (path,) = (CONFIGS / 'mocov3').glob(f'mocov3_resnet50_*-{epochs}e_in1k.py')
    cfg = load_config(path)
    rate, decay, momentum = MOCO[epochs]
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler[0]
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ('LARS', 0.9, decay)
    assert optimizer.lr == pytest.approx(rate * 4096 / 256)
    assert (schedule.warmup, schedule_end(cfg), schedule.get('min_ratio', 0)) == (10, epochs, 0)
    assert cfg.auto_scale_lr.base_batch_size == 4096
    model = MODELS.build(cfg.model)
    assert (model.base_momentum, model.head.temperature) == (momentum, 1.0)
    assert cfg.default_hooks.momentum.get('cosine', True)
    crops = [cfg.train_dataloader.dataset.pipeline[1][view][0] for view in ('view1', 'view2')]
    assert [crop.scale for crop in crops] == [(0.2, 1.0)] * 2
    shapes = [[tuple(p.shape) for p in part.parameters() if p.ndim == 2] for part in (model.neck, model.head)]
    assert shapes == [[(4096, 2048), (256, 4096)], [(4096, 256), (256, 4096)]]
    # bias-free; the projector ends in a batch norm without affine part, the predictor in none
    assert [sum(p.ndim == 1 for p in part.parameters()) for part in (model.neck, model.head)] == [2, 2]
    buffers = [sum(name.endswith('running_mean') for name, _ in p.named_buffers()) for p in (model.neck, model.head)]
    assert buffers == [2, 1]
    assert all((block.bn3.weight == 0).all() for block in initialized(model.backbone).layer4)


def initialized(backbone: torch.nn.Module) -> torch.nn.Module:
    backbone.init_weights()
    return backbone


# MoCo v1 and v2. version, epochs: temperature, layers of the projector
MOCO_V1_V2 = {('v1', 200): (0.07, 1), ('v2', 200): (0.2, 2), ('v2', 800): (0.2, 2)}


@pytest.mark.parametrize(('version', 'epochs'), MOCO_V1_V2)
def test_mocos_recipes_are_the_published_ones(version, epochs):
    (path,) = (CONFIGS / 'moco').glob(f'moco-{version}_*-{epochs}e_in1k.py')
    cfg, (temperature, layers) = load_config(path), MOCO_V1_V2[version, epochs]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.03, 0.9, 1e-4)
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert (cfg.optim_wrapper.type, cfg.auto_scale_lr.base_batch_size) == ('OptimWrapper', 256)
    model = MODELS.build(cfg.model)
    assert (model.base_momentum, model.temperature, model.bn_groups) == (0.999, temperature, None)
    assert model.key_queue.queue.shape == (128, 65536)
    linears = [layer for layer in model.neck.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.in_features for layer in linears] == [2048] * layers
    assert all(layer.bias is not None for layer in linears)
    norms = {type(norm).__name__ for norm in model.modules() if hasattr(norm, 'running_mean')}
    assert norms == {'ViewNorm2d'}, 'statistics of one process, none in the projector'
    millions = sum(each.numel() for part in (model.backbone, model.neck) for each in part.parameters()) / 1e6
    assert millions == pytest.approx({'v1': 23.77, 'v2': 27.97}[version], abs=0.005)
    assert cfg.default_hooks.momentum == dict(type='MomentumScheduleHook', cosine=False)


# epochs: learning rate per 256 images, weight decay, momentum at the beginning
BYOL = {300: (0.3, 1e-6, 0.99), 1000: (0.2, 1.5e-6, 0.996)}


@pytest.mark.parametrize('epochs', BYOL)
def test_byols_recipes_are_the_published_ones(epochs):
    (path,) = (CONFIGS / 'byol').glob(f'*-{epochs}e_in1k.py')
    cfg = load_config(path)
    rate, decay, momentum = BYOL[epochs]
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler[0]
    assert (optimizer.type, optimizer.momentum, optimizer.weight_decay) == ('LARS', 0.9, decay)
    assert optimizer.lr == pytest.approx(rate * 4096 / 256)
    assert (cfg.model.base_momentum, cfg.auto_scale_lr.base_batch_size) == (momentum, 4096)
    assert (schedule.warmup, schedule_end(cfg), schedule.get('min_ratio', 0)) == (10, epochs, 0)
    sizes = (cfg.model.neck.hid_channels, cfg.model.neck.out_channels, cfg.model.head.hid_channels)
    assert sizes == (4096, 256, 4096)


@pytest.mark.parametrize('name', TEC)
def test_tecs_recipes_are_the_published_ones(name):
    kind, size, epochs = re.fullmatch(r'(.*)_vit-(\w+)-(\d+)e', name).groups()
    base, topk, tau, length, decay, warm_up, floor, peak, tuned = TEC[name]
    (path,) = (CONFIGS / 'tec').glob(f'{kind}_vit-{size}-*-{epochs}e_in1k.py')
    cfg = load_config(path)
    model = cfg.model
    assert Path(model.base_checkpoint).name.startswith(base)
    assert (model.base_model.topk, model.base_model.last_layers, model.head.tau) == (topk, 2, tau)
    assert (model.mask_ratio, model.backbone.arch, model.base_model.arch) == (0.75, size, size)
    assert model.backbone.input_adaptor
    sizes = {'base': (512, 2, 16), 'large': (768, 2, 16)}[size]
    assert (model.neck.decoder_embed_dim, model.neck.decoder_depth, model.neck.decoder_num_heads) == sizes
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler[0]
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (2.4e-3, (0.9, 0.95), 0.05)
    assert (schedule.warmup, schedule_end(cfg), schedule.get('min_ratio', 0), cfg.train_cfg.max_epochs) == (
        40,
        length,
        0,
        length,
    )
    crop = cfg.train_dataloader.dataset.pipeline[1]
    assert (crop.size, crop.scale, crop.interpolation) == (224, (0.2, 1.0), 'bicubic')

    start = f'finetune-{kind}-{epochs}e_vit-{size}-'
    (path,) = (CONFIGS / 'benchmarks' / 'finetune').glob(f'{start}*_in1k.py')
    cfg = load_config(path)
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        layer_wise_decay_ratio=decay,
        no_decay_names=['cls_token', 'pos_embed'],
        full_rate_names=['cls_token', 'cls_token_mlp'],
        head_lr_scale=1.0,
    )
    optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler[0]
    assert (optimizer.lr, optimizer.betas, optimizer.weight_decay) == (peak, (0.9, 0.999), 0.05)
    assert (schedule.warmup, schedule_end(cfg)) == (warm_up, tuned) == (warm_up, cfg.train_cfg.max_epochs)
    assert schedule.min_ratio * peak == pytest.approx(floor)
    assert cfg.auto_scale_lr.base_batch_size == 1024
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.out_type, backbone.final_norm) == ('TECViT', 'avg_featmap', False)
    assert (backbone.arch, backbone.drop_path_rate) == (size, 0.1)
    assert [(each.type, each.alpha) for each in cfg.model.train_cfg.augments] == [
        ('mmpretrain.Mixup', 0.8),
        ('mmpretrain.CutMix', 1.0),
    ]


@pytest.mark.parametrize('path', [path for path in SMALL if path.stem.startswith('tec')], ids=name_of)
def test_recipes_of_tec_learn_from_a_stage(path):
    recipe = load_recipe(path)
    tec = [stage for stage in recipe.stages if stage.cfg.model.type == 'TEC']
    assert tec
    for stage in tec:
        assert stage.cfg.model.base_checkpoint == f'stage:{stage.needs[0]}'
        base, backbone = stage.cfg.model.base_model, recipe.stage(stage.needs[0]).cfg.model.backbone
        assert {key: base[key] for key in ('arch', 'img_size', 'patch_size', 'in_channels')} == {
            key: backbone[key] for key in ('arch', 'img_size', 'patch_size', 'in_channels')
        }
    for stage in recipe.stages:
        if 'load_from' in stage.cfg and stage.cfg.load_from:  # the same model trained on
            assert stage.cfg.model == recipe.stage(stage.needs[0]).cfg.model
    if 'study' in path.stem:
        length = {stage.name: total_epochs(recipe, stage) for stage in recipe.stages}
        assert {value for name, value in length.items() if name != 'mim'} == {2 * length['mim']}


def total_epochs(recipe, stage) -> int:
    return stage.cfg.train_cfg.max_epochs + sum(total_epochs(recipe, recipe.stage(name)) for name in stage.needs)


def test_the_study_trains_what_its_rows_say():
    (path,) = [each for each in RECIPES if each.stem.startswith('layer-grafted-study_vit-mini')]
    recipe = load_recipe(path)
    stages = {entry['name']: recipe.stage(entry['stage']) for entry in recipe.report.rows}
    kinds = {name: (stage.cfg.model.type, stage.needs) for name, stage in stages.items()}
    assert kinds == {
        'MIM': ('MAE', ()),
        'CL': ('MoCoV3', ()),
        'multi-task': ('MultiTask', ()),
        'MIM->CL frozen': ('MoCoV3', ('mim',)),
        'LGP': ('MoCoV3', ('mim',)),
        'CL->MIM': ('MAE', ('cl',)),
        'CL, half length': ('MoCoV3', ()),
    }
    assert stages['LGP'].cfg.optim_wrapper.paramwise_cfg.lr_layer_wise == [0.1, 0.1, 1.0]
    assert stages['LGP'].cfg.model.get('frozen_layers', 0) == 0
    assert stages['MIM->CL frozen'].cfg.model.frozen_layers == 4
    assert stages['CL->MIM'].cfg.model.frozen_layers == 4
    assert stages['CL->MIM'].cfg.model.graft == [{'checkpoint': 'stage:cl', 'layers': (0, 4)}]
    for stage in recipe.stages:
        assert (
            MODELS.build(
                stage.cfg.model if not stage.needs else {**stage.cfg.model, 'graft': None}
            ).backbone.num_patches
            == 16
        )
