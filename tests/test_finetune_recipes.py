"""The fine-tuning recipes of A2MIM and SimMIM are the published ones (specification, section 10)."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from config_cache import load_config
from mmengine.config import Config

from mmselfsup_graft.engine import LayerWiseLRConstructor
from mmselfsup_graft.evaluation.finetuning.settings import FineTuneProtocol
from mmselfsup_graft.registry import MODELS

FOLDER = Path(__file__).parents[1] / 'configs' / 'benchmarks' / 'finetune'


class Row(NamedTuple):
    """One row of the published table.

    Attributes:
        lr, batch: Peak rate and images per step of the optimizer, on all processes.
        floor, warm_up, epochs: Of the cosine.
        layer_decay, drop_path: None for one rate.
        params: Of encoder and head, in millions.
        average: Decay and length of the ramp of the averaged weights, None if not used.
        repeats: Copies of each image.
    """

    lr: float
    batch: int
    warm_up: int
    epochs: int
    layer_decay: float | None
    drop_path: float
    params: float
    average: tuple[float, int] | None = None
    repeats: int = 1
    floor: float = 1e-6


RAMPED, PLAIN = (0.99996, 20), (0.9999, 0)
VIT = {
    'simmim_vit-small-p16-100e_in1k': Row(1e-2, 1024, 20, 100, 0.65, 0.1, 48.8),
    'simmim_vit-base-p16-100e_in1k': Row(1e-2, 1024, 20, 100, 0.65, 0.1, 86.7, RAMPED),
    'simmim_vit-large-p16-100e_in1k': Row(1e-2, 1024, 20, 100, 0.65, 0.1, 304.6, RAMPED, 3),
    'a2mim_vit-small-p16-200e_in1k': Row(1e-2, 1024, 20, 200, 0.65, 0.1, 48.8),
    'a2mim_vit-base-p16-200e_in1k': Row(1e-2, 1024, 20, 200, 0.65, 0.1, 86.7, RAMPED),
    'a2mim_vit-large-p16-150e_in1k': Row(1e-2, 1024, 20, 150, 0.65, 0.1, 304.6, RAMPED, 3),
    'mae_vit-base-p16-100e_in1k': Row(4e-3, 1024, 5, 100, 0.65, 0.1, 86.6),
    'mae_vit-large-p16-100e_in1k': Row(2e-3, 1024, 5, 100, 0.65, 0.1, 304.3, None, 3),
    'simmim-ms_vit-base-p16-100e_in1k': Row(2.5e-3, 1024, 20, 100, 0.65, 0.1, 86.5, floor=5e-7),
    'a2mim_deit-small-p16-100e_in100': Row(8e-3, 1024, 5, 100, 0.65, 0.1, 21.8),
}
CONVOLUTIONAL = {
    'a2mim_convnext-small-300e_in1k': Row(4e-3, 4096, 5, 300, None, 0.4, 50.2, PLAIN),
    'a2mim_convnext-base-300e_in1k': Row(4e-3, 4096, 5, 300, None, 0.5, 88.6, PLAIN),
    'spark_convnext-tiny-400e_in1k': Row(4e-4, 4096, 5, 400, 0.7, 0.1, 28.6, PLAIN),
    'a2mim_resnet50-100e_in100': Row(5e-3, 2048, 20, 100, None, 0.0, 23.7),
}
SIZES = {50: (25.6, 0.05), 101: (44.5, 0.1), 152: (60.2, 0.15), 200: (64.7, 0.2)}
A2 = {
    f'rsb-a2_resnet{depth}-300e_in1k': Row(5e-3, 2048, 5, 300, None, drop, size, PLAIN if depth == 50 else None, 3)
    for depth, (size, drop) in SIZES.items()
}
A3 = {
    **{
        f'rsb-a3_resnet{depth}-100e_in1k-160px': Row(8e-3, 2048, 5, 100, None, 0.0, size)
        for depth, (size, _) in SIZES.items()
    },
    'rsb-a3_convnext-tiny-100e_in1k-160px': Row(8e-3, 2048, 5, 100, None, 0.1, 28.6),
}
TABLE = {**VIT, **CONVOLUTIONAL, **A2, **A3}
PATHS = {
    f'{m[1]}-{m[3]}': (path, int(m[2]))
    for path in FOLDER.glob('*.py')
    if (m := re.fullmatch(r'finetune-(.*)_(\d+)xb\d+-amp-coslr-(.*)', path.stem))
    and not m[1].startswith(('tec', 'first', 'mae-own'))
}


def _config(name: str) -> Config:
    return load_config(PATHS[name][0])


def _pipeline(cfg: Config, side: str) -> dict[str, dict[str, Any]]:
    return {t.type.rpartition('.')[2]: t.to_dict() for t in cfg[f'{side}_dataloader'].dataset.pipeline}


def test_every_recipe_is_in_the_table() -> None:
    assert PATHS.keys() == TABLE.keys()


@pytest.mark.parametrize('name', TABLE)
def test_numbers(name: str) -> None:
    cfg, row = _config(name), TABLE[name]
    found = FineTuneProtocol.from_config(cfg)
    assert (found.lr, found.batch_size * PATHS[name][1]) == (pytest.approx(row.lr), row.batch)
    assert (found.warmup_epochs, found.epochs, found.min_lr) == (row.warm_up, row.epochs, pytest.approx(row.floor))
    assert (found.layer_decay, found.drop_path, found.repeats) == (row.layer_decay, row.drop_path, row.repeats)
    average = found.average and (found.average['decay'], found.average['ramp_epochs'])
    assert average == row.average
    assert not row.average or found.average['ramp_start'] == 0.9
    assert found.clip == (5.0 if name in VIT else None)
    rsb = name in A2 or name in A3
    decay = 0.02 if rsb else 0.01 if name.startswith('spark') else 0.05
    optimizer = ('Lamb', decay) if rsb else ('AdamW', decay)
    assert (found.optimizer, found.weight_decay) == optimizer
    assert (found.loss, found.label_smoothing) == (('binary', 0.0) if rsb else ('cross_entropy', 0.1))
    assert [each['alpha'] for each in found.mixing] == [0.1 if rsb else 0.8, 1.0]
    assert 'probs' not in cfg.model.train_cfg  # equal odds
    schedule = cfg.param_scheduler[0]
    assert 'end' not in schedule, 'the length of the run'
    step_fix = name in VIT and not name.startswith('simmim-ms') and not name.endswith('in100')
    assert schedule.get('cosine_in_warmup', False) == step_fix
    assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'


@pytest.mark.parametrize('name', TABLE)
def test_data(name: str) -> None:
    cfg = _config(name)
    train, test = _pipeline(cfg, 'train'), _pipeline(cfg, 'test')
    rsb = name in A2 or name in A3
    crop, augment = train['torchvision/RandomResizedCrop'], train['RandAugment']
    assert (crop['size'], crop['interpolation']) == (160 if name in A3 else 224, 'bicubic')
    assert (augment['policies'], augment['num_policies'], augment['magnitude_std']) == ('timm_increasing', 2, 0.5)
    assert augment['magnitude_level'] == (7 if name in A2 else 6 if name in A3 else 9)
    assert ('RandomErasing' in train) != rsb
    if not rsb:
        assert (train['RandomErasing']['erase_prob'], train['RandomErasing']['mode']) == (0.25, 'rand')
    assert test['torchvision/Resize']['size'] == (236 if rsb else 256)
    assert test['torchvision/CenterCrop']['size'] == 224
    classes, place = (100, 'data/imagenet100') if name.endswith('in100') else (1000, 'data/imagenet')
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == classes
    assert {cfg[f'{side}_dataloader'].dataset.data_root for side in ('train', 'val', 'test')} == {place}


@pytest.mark.parametrize('name', [name for name in TABLE if 'large' not in name and 'resnet200' not in name])
def test_model_and_groups(name: str) -> None:
    """Sizes, and who is decayed: no vector, no position, no relative-bias table; the head learns at the full rate."""
    cfg, row = _config(name), TABLE[name]
    model = MODELS.build(cfg.model)
    parameters = dict(model.named_parameters())
    assert sum(value.numel() for value in parameters.values()) / 1e6 == pytest.approx(row.params, abs=0.06)
    paramwise = cfg.optim_wrapper.paramwise_cfg.to_dict()
    groups = LayerWiseLRConstructor({'optimizer': cfg.optim_wrapper.optimizer.to_dict()}, paramwise).param_groups(model)
    of = {name: group for group in groups for name in group['param_names']}
    assert of.keys() == parameters.keys()
    table = 'relative_position_bias_table'
    for each, value in parameters.items():
        never = value.ndim <= 1 or each.endswith(('cls_token', 'pos_embed'))
        never |= each.endswith(table) and not name.startswith('simmim-ms')
        assert of[each]['weight_decay'] == (0.0 if never else cfg.optim_wrapper.optimizer.weight_decay), each
    assert of['head.fc.weight']['lr_scale'] == 1.0
    rates = {round(group['lr_scale'], 12) for group in groups}
    if row.layer_decay is None:
        assert rates == {1.0}
    elif name in VIT:
        depth = model.depth.num_blocks
        assert rates == {round(row.layer_decay**n, 12) for n in range(depth + 2)}
    else:
        assert rates == {round(0.7**n, 12) for n in range(8)}  # six groups, stem and head


def test_vits_read_the_mean_of_the_patches_through_a_norm() -> None:
    for name in VIT:
        backbone = _config(name).model.backbone
        assert (backbone.type, backbone.out_type, backbone.final_norm) == ('SelfSupBEiT', 'avg_featmap', False)
        plain = name.startswith('mae')
        assert backbone.get('use_rel_pos_bias', True) != plain
        assert backbone.layer_scale_init_value == (0.0 if plain else 0.1)
        assert backbone.get('use_abs_pos_emb', True) == (not name.startswith('simmim-ms'))


# the recipe of MAE's authors, FINETUNE.md
MAE = {
    'base-p16_8xb128-amp-coslr-100e': Row(2e-3, 1024, 5, 100, 0.65, 0.1, 86.6),
    'large-p16_8xb128-amp-coslr-50e': Row(4e-3, 1024, 5, 50, 0.75, 0.2, 304.3),
}


@pytest.mark.parametrize('name', MAE)
def test_mae_is_tuned_by_its_authors_recipe(name: str) -> None:
    (path,) = FOLDER.glob(f'finetune-mae-own_vit-{name}_in1k.py')
    cfg, row = load_config(path), MAE[name]
    found = FineTuneProtocol.from_config(cfg)
    assert (found.lr, 8 * found.batch_size) == (pytest.approx(row.lr), row.batch)
    assert (found.warmup_epochs, found.epochs, found.min_lr) == (row.warm_up, row.epochs, pytest.approx(row.floor))
    assert (found.layer_decay, found.drop_path, found.repeats) == (row.layer_decay, row.drop_path, 1)
    assert (found.average, found.clip, found.optimizer, found.weight_decay) == (None, None, 'AdamW', 0.05)
    assert (found.loss, found.label_smoothing) == ('cross_entropy', 0.1)
    assert [each['alpha'] for each in found.mixing] == [0.8, 1.0]
    train = _pipeline(cfg, 'train')
    assert (train['RandAugment']['magnitude_level'], train['RandAugment']['magnitude_std']) == (9, 0.5)
    assert (train['RandomErasing']['erase_prob'], train['RandomErasing']['mode']) == (0.25, 'rand')
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    parameters = dict(model.named_parameters())
    assert sum(value.numel() for value in parameters.values()) / 1e6 == pytest.approx(row.params, abs=0.06)
    assert all(value.requires_grad for value in parameters.values())  # positions too
    assert 'backbone.ln2.weight' in parameters  # of the mean; there is no norm after the last block
    assert 'backbone.ln1.weight' not in parameters
    paramwise = cfg.optim_wrapper.paramwise_cfg.to_dict()
    groups = LayerWiseLRConstructor({'optimizer': cfg.optim_wrapper.optimizer.to_dict()}, paramwise).param_groups(model)
    of = {name: group for group in groups for name in group['param_names']}
    depth = model.depth.num_blocks
    for each, value in parameters.items():
        block = re.match(r'backbone\.layers\.(\d+)\.', each)
        above = depth - int(block[1]) if block else 0 if each.startswith(('head', 'backbone.ln2')) else depth + 1
        assert of[each]['lr_scale'] == pytest.approx(row.layer_decay**above), each
        never = value.ndim == 1 or each.endswith(('cls_token', 'pos_embed'))
        assert of[each]['weight_decay'] == (0.0 if never else 0.05), each


def test_a_recipe_without_a_schedule_has_a_constant_rate() -> None:
    cfg = _config(next(iter(TABLE)))
    cfg.param_scheduler = None
    found = FineTuneProtocol.from_config(cfg)
    assert (found.warmup_epochs, found.min_lr) == (0, found.lr)
