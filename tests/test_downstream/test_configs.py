"""Every detection and segmentation config: what it says, and that it trains from its method's file at tiny sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from tiny_downstream import CONFIGS, DETECTION, SEGMENTATION, SIZE, method_of, shrunk_downstream, write_pretrained

from mmselfsup_graft.checkpoints import resize_position_table, resize_relative_table
from mmselfsup_graft.engine import GraftRunner
from mmselfsup_graft.engine.train import load_config, set_pretrained
from mmselfsup_graft.registry import MODELS

FOUR = [
    f'mask-rcnn_r50-{method}-pre_fpn_{schedule}_coco' for method in ('mocov2', 'swav') for schedule in ('1x', 'ms-2x')
]


def name_of(path: Path) -> str:
    return path.stem


every_config = pytest.mark.parametrize('path', DETECTION + SEGMENTATION, ids=name_of)


def test_what_must_be_there():
    detection = {path.stem for path in DETECTION}
    assert detection >= set(FOUR)
    assert detection >= {
        f'mask-rcnn_r50-{m}-pre_fpn-syncbn_ms-{s}_coco' for m in ('mocov2', 'swav') for s in ('1x', '2x')
    }
    assert detection >= {
        f'mask-rcnn_vit-base-p16-{m}-pre_fpn_ms-1x_coco' for m in ('mae', 'layer-grafted', 'tec', 'a2mim')
    }
    assert detection >= {f'mask-rcnn_r50-a2mim-pre_{kind}-syncbn_ms-1x_coco' for kind in ('fpn', 'c4')}
    segmentation = {path.stem.partition('_8xb2')[0].partition('_4xb4')[0] for path in SEGMENTATION}
    assert segmentation >= {f'upernet_vit-base-p16-{m}-pre' for m in ('mae', 'layer-grafted', 'tec', 'a2mim')}
    assert 'fcn_r50-d8-a2mim-pre' in segmentation


# ---------------------------------------------------------------- training
class Start(Hook):
    """Keeps the weights with which training starts."""

    def before_train(self, runner) -> None:
        self.state = {name: value.clone() for name, value in runner.model.state_dict().items()}


def arrived(state: dict[str, torch.Tensor], prefix: str, source: dict[str, torch.Tensor]) -> set[str]:
    """Names of the part whose values are those of the source."""
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name for name, value in inside.items() if name in source and torch.equal(value, source[name])}


@every_config
def test_weights_arrive_and_train(path, data, tmp_path):
    cfg = shrunk_downstream(path, data, tmp_path)
    backbone = cfg.model.backbone.to_dict()
    source = write_pretrained(backbone, method_of(path), tmp_path / 'pretrained.pth')
    set_pretrained(cfg, str(tmp_path / 'pretrained.pth'))
    runner, start = GraftRunner.from_cfg(cfg), Start()
    runner.register_hook(start)
    runner.train()

    names = set(runner.model.backbone.state_dict())
    resized = {name for name in names if name.endswith(('pos_embed', 'relative_position_bias_table'))}
    made_anew = {name for name in names if name.endswith('relative_position_index')}
    assert arrived(start.state, 'backbone.', source) == names - resized - made_anew
    grid = (SIZE // backbone.get('patch_size', 1),) * 2
    for name in resized:
        own, mine = start.state[f'backbone.{name}'], source[name]
        resize = resize_position_table if name == 'pos_embed' else resize_relative_table
        assert torch.equal(own, resize(mine, grid, 1 if name == 'pos_embed' else 3))
        assert own.shape != mine.shape
    if 'c4' in path.stem:
        stage = {name for name in source if name.startswith('layer4.')}
        assert arrived(start.state, 'roi_head.shared_head.', source) == stage

    parameters = dict(runner.model.named_parameters())
    moved = {name for name, value in parameters.items() if not torch.equal(value, start.state[name])}
    still = {name for name, value in parameters.items() if value.requires_grad} - moved
    # what no gradient reaches with few proposals: the second step may see no positive one
    assert not {name for name in still if name.startswith('backbone.') and 'cls_token' not in name}
    frozen = {name for name, value in parameters.items() if not value.requires_grad}
    assert frozen == (
        {f'backbone.{name}' for name in ('conv1.weight', 'bn1.weight', 'bn1.bias')} if path.stem in FOUR else set()
    )
    assert all(value.isfinite().all() for value in parameters.values())
    checkpoint = torch.load(next((tmp_path / 'run').glob('*_[0-9].pth')), weights_only=True)
    assert checkpoint['state_dict'].keys() == runner.model.state_dict().keys()


# ---------------------------------------------------------------- the four of MMDetection
def flat(value: Any, path: str = '') -> dict[str, Any]:
    """Leaves of nested dicts by dotted name; who a dict belongs to (``_scope_``) is left out."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            if key != '_scope_':
                found |= flat(inner, f'{path}.{key}' if path else key)
        return found
    return {path: value}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key != '_scope_'}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


# mmdet's and mmseg's own tools find mmcv's operators by it
OPERATORS = {
    'custom_imports.imports': ['mmselfsup_graft', 'mmselfsup_graft.libraries.weight_files'],
    'custom_imports.allow_failed_imports': False,
}


@pytest.mark.parametrize('name', FOUR)
def test_the_four_differ_from_stock_in_nothing_else(name):
    cfg = flat(load_config(CONFIGS / 'mmdetection' / f'{name}.py').to_dict())
    stock = flat(Config.fromfile(_stock('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')).to_dict())
    changed = {
        key: plain(cfg.get(key)) for key in cfg.keys() | stock.keys() if plain(cfg.get(key)) != plain(stock.get(key))
    }
    file = './mocov2_r50_800ep_pretrain.pth' if 'mocov2' in name else './swav_800ep_pretrain.pth.tar'
    expected: dict[str, Any] = {
        'model.backbone.frozen_stages': 0,
        'model.backbone.norm_cfg.type': 'SyncBN',
        'model.backbone.norm_eval': False,
        'model.backbone.init_cfg.checkpoint': file,
        **OPERATORS,
    }
    if 'ms-2x' in name:
        pipeline = plain(stock['train_pipeline'])
        pipeline[2] = {'type': 'RandomResize', 'scale': [[1333, 640], [1333, 800]], 'keep_ratio': True}
        schedule = plain(stock['param_scheduler'])
        schedule[1] |= {'end': 24, 'milestones': [16, 22]}
        expected |= {'train_cfg.max_epochs': 24, 'param_scheduler': schedule}
        expected |= {'train_pipeline': pipeline, 'train_dataloader.dataset.pipeline': pipeline}
    assert changed == expected
    assert cfg['model.backbone.norm_cfg.requires_grad'] is True
    assert cfg['model.backbone.init_cfg.type'] == 'Pretrained'


def _stock(name: str) -> str:
    import mmdet

    return str(Path(mmdet.__file__).parent / '.mim' / 'configs' / name)


def test_mmdetections_own_files_say_the_same():
    """The wheel has the four files: same settings, key by key."""
    for name in FOUR:
        ours = flat(load_config(CONFIGS / 'mmdetection' / f'{name}.py').to_dict())
        theirs = flat(Config.fromfile(_stock(f'selfsup_pretrain/{name}.py')).to_dict())
        expected = {key: plain(value) for key, value in theirs.items()} | OPERATORS
        assert {key: plain(value) for key, value in ours.items()} == expected


# ---------------------------------------------------------------- learning rates
@pytest.mark.parametrize(
    ('name', 'decay'),
    [
        ('mmdetection/mask-rcnn_vit-base-p16-layer-grafted-pre_fpn_ms-1x_coco.py', 0.75),
        ('mmsegmentation/upernet_vit-base-p16-mae-pre_8xb2-160k_ade20k-512x512.py', 0.65),
        ('mmsegmentation/upernet_vit-base-p16-a2mim-pre_8xb2-160k_ade20k-512x512.py', 0.65),
    ],
)
def test_layer_decay_inside_detectors_and_segmentors(name, decay, data, tmp_path):
    cfg = shrunk_downstream(CONFIGS / name, data, tmp_path)
    model = MODELS.build({**cfg.model, '_scope_': cfg.default_scope})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper.to_dict())
    group_of = {id(parameter): group for group in wrapper.param_groups for parameter in group['params']}
    seen = set()
    for name, parameter in model.named_parameters():
        part, _, inner = name.partition('.')
        if part != 'backbone':
            layer = 13  # learns at the full rate
        elif inner.startswith('layers.'):
            layer = int(inner.split('.')[1]) + 1
        else:
            layer = 0  # embeddings
        seen.add(layer)
        group = group_of[id(parameter)]
        assert group['lr'] == pytest.approx(1e-4 * decay ** (13 - layer)), name
        kept = parameter.ndim == 1 or inner.endswith(('pos_embed', 'cls_token', 'relative_position_bias_table'))
        assert group['weight_decay'] == (0.0 if kept else 0.05), name
    assert seen == set(range(14))


# ---------------------------------------------------------------- the published settings of the others
def test_the_stronger_family_synchronizes_every_norm_and_freezes_nothing():
    for path in DETECTION:
        if 'syncbn' not in path.stem:
            continue
        model = load_config(path).model
        assert model.backbone.frozen_stages == -1
        assert model.backbone.norm_eval is False
        head = model.roi_head
        parts = [model.backbone]
        parts += [head.shared_head] if 'c4' in path.stem else [model.neck, head.bbox_head, head.mask_head]
        assert {part.norm_cfg.type for part in parts} == {'SyncBN'}
        resize = load_config(path).train_dataloader.dataset.pipeline[2]
        assert [edge for _, edge in resize.scales] == [640, 672, 704, 736, 768, 800]


def test_the_second_half_of_a2mims_schedule():
    for kind in ('fpn', 'c4'):
        cfg = load_config(CONFIGS / 'mmdetection' / f'mask-rcnn_r50-a2mim-pre_{kind}-syncbn_ms-2x_coco.py')
        warm_up, steps = cfg.param_scheduler
        assert (cfg.train_cfg.max_epochs, warm_up.end, steps.end, steps.milestones) == (24, 1000, 24, [16, 23])


@pytest.mark.parametrize('path', [path for path in SEGMENTATION if 'upernet' in path.stem], ids=name_of)
def test_upernet_is_maes_recipe(path):
    cfg = load_config(path)
    backbone, optimizer = cfg.model.backbone, cfg.optim_wrapper.optimizer
    assert (backbone.out_indices, backbone.drop_path_rate, backbone.final_norm) == ([3, 5, 7, 11], 0.1, False)
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    warm_up, poly = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end, poly.power, poly.end) == (1e-6, 1500, 1.0, 160000)
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.train_dataloader.dataset.pipeline[3].cat_max_ratio == 0.75
