"""Detection and segmentation at tiny sizes: generated COCO and ADE20K data, small models, files they start from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from mmselfsup_graft.checkpoints import VIT_TIMM, save_atomically
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
DETECTION = sorted((CONFIGS / 'mmdetection').glob('*.py'))
SEGMENTATION = sorted((CONFIGS / 'mmsegmentation').glob('*.py'))
CLASSES = ('wall', 'building')  # the first two of ADE20K; of COCO anything goes
BASE, WIDTH, SIZE = 8, 32, 64  # channels of a ResNet's first stage and of a ViT, pixels


# ---------------------------------------------------------------- data
def write_coco(folder: Path, images: int = 4) -> None:
    """Images with one bright rectangle each, as instances in COCO's format, for training and validation."""
    rng = np.random.default_rng(0)
    for split in ('train2017', 'val2017'):
        content: dict[str, list] = {'images': [], 'annotations': [], 'categories': []}
        content['categories'] = [{'id': i + 1, 'name': name} for i, name in enumerate(CLASSES)]
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            picture = rng.integers(0, 90, (60, 80, 3), dtype=np.uint8)
            x, y, w, h = (int(v) for v in (rng.integers(2, 20), rng.integers(2, 15), 40, 40))
            picture[y : y + h, x : x + w] = 250 if number % 2 else (250, 40, 40)
            name = f'{number}.jpg'
            Image.fromarray(picture).save(folder / split / name)
            content['images'].append({'id': number, 'file_name': name, 'width': 80, 'height': 60})
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            content['annotations'].append(
                dict(id=number + 1, image_id=number, category_id=number % 2 + 1, bbox=[x, y, w, h])
                | dict(area=w * h, iscrowd=0, segmentation=[corners])
            )
        target = folder / 'annotations' / f'instances_{split}.json'
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(content))


def write_ade(folder: Path, images: int = 4) -> None:
    """Images whose left part is one class and whose right part is another, in the layout of ADE20K."""
    rng = np.random.default_rng(0)
    for split in ('training', 'validation'):
        for kind in ('images', 'annotations'):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(images):
            edge = int(rng.integers(30, 60))
            labels = np.ones((70, 90), np.uint8)  # 0 is what no class describes
            labels[:, edge:] = 2
            picture = np.where(labels[..., None] == 1, 40, 210) + rng.integers(0, 40, (70, 90, 3))
            Image.fromarray(picture.astype(np.uint8)).save(folder / 'images' / split / f'{number}.jpg')
            Image.fromarray(labels).save(folder / 'annotations' / split / f'{number}.png')


# ---------------------------------------------------------------- files to start from
def _moco(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """As MoCo writes it: query and key encoder with their heads, the queue."""
    content = {f'module.encoder_q.{name}': value for name, value in state.items()}
    content |= {f'module.encoder_k.{name}': torch.zeros_like(value) for name, value in state.items()}
    for encoder in ('q', 'k'):
        for layer in (0, 2):
            content[f'module.encoder_{encoder}.fc.{layer}.weight'] = torch.zeros(2, 2)
            content[f'module.encoder_{encoder}.fc.{layer}.bias'] = torch.zeros(2)
    content |= {'module.queue': torch.zeros(2, 4), 'module.queue_ptr': torch.zeros(1, dtype=torch.int64)}
    return {'state_dict': content, 'epoch': 1, 'arch': 'resnet50'}


def _swav(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        **{f'module.{name}': value for name, value in state.items()},
        'module.projection_head.0.weight': torch.zeros(2, 2),
        'module.prototypes.weight': torch.zeros(2, 2),
    }


def _openmmlab(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """As A2MIM is left by its training."""
    own = {f'backbone.{name}': value for name, value in state.items()}
    return {'state_dict': own | {'backbone.mask_token': torch.zeros(2), 'neck.decoder.weight': torch.zeros(2)}}


def _mae(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {'model': {VIT_TIMM.from_canonical(name): value for name, value in state.items()}}


def _layer_grafted(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """As the official code writes it: MoCo v3's layout."""
    content = {f'module.base_encoder.{VIT_TIMM.from_canonical(name)}': value for name, value in state.items()}
    content |= {name.replace('base_encoder', 'momentum_encoder'): torch.zeros_like(v) for name, v in content.items()}
    for layer in (0, 3, 6):
        content[f'module.base_encoder.head.{layer}.weight'] = torch.zeros(2, 2)
    return {'state_dict': content, 'epoch': 1, 'arch': 'vit_base'}


def _tec(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """As TEC's converter writes it: without the last norm."""
    return {VIT_TIMM.from_canonical(name): value for name, value in state.items() if not name.startswith('ln1.')}


WRITERS: dict[str, Callable[[dict[str, torch.Tensor]], dict[str, Any]]] = {
    'mocov2': _moco,
    'swav': _swav,
    'a2mim': _openmmlab,
    'mae': _mae,
    'layer-grafted': _layer_grafted,
    'tec': _tec,
}


def method_of(path: Path) -> str:
    """Whose weights a config starts from, by its name."""
    (method,) = [name for name in WRITERS if f'-{name}-pre_' in path.stem]
    return method


def write_pretrained(
    backbone: dict[str, Any], method: str, target: Path, img_size: int = 32
) -> dict[str, torch.Tensor]:
    """Write a checkpoint of this method that fits the tiny backbone; returns its encoder under canonical names.

    A ViT's position tables are for images of ``img_size``, smaller than those of the downstream model.
    """
    if 'depth' in backbone:
        encoder = {key: backbone[key] for key in ('depth', 'stem_channels', 'base_channels')}
        encoder = {'type': 'mmpretrain.ResNet', **encoder}
    else:
        encoder = {key: value for key, value in backbone.items() if key not in ('init_cfg', 'out_indices')}
        encoder.update(img_size=img_size, final_norm=True, out_type='cls_token')
    torch.manual_seed(3)
    model = MODELS.build(encoder)
    state = {}
    for name, value in model.state_dict().items():
        value = value.clone()
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if 'running_var' in name else 0.1 * torch.randn_like(value))
        state[name] = value
    save_atomically(WRITERS[method](state), target)
    return state


# ---------------------------------------------------------------- models
def shrink_backbone(backbone: dict[str, Any], img_size: int = SIZE) -> list[int]:
    """Turn the sizes of a backbone down, in place; returns the channels of its outputs."""
    if 'depth' in backbone:
        backbone.update(stem_channels=BASE, base_channels=BASE)
        return [4 * BASE * 2**stage for stage in backbone['out_indices']]
    backbone.update(arch=dict(embed_dims=WIDTH, num_layers=12, num_heads=2, feedforward_channels=48))
    backbone.update(patch_size=8, img_size=img_size, drop_path_rate=0.0)  # else a step may leave a block out
    return [WIDTH] * len(backbone['out_indices'])


def shrunk_detector(path: Path, data: Path, folder: Path) -> Config:
    """A detection config at tiny sizes on the data of :func:`write_coco`."""
    content = load_config(path).to_dict()
    model = content['model']
    channels = shrink_backbone(model['backbone'])
    head = model['roi_head']
    if 'neck' in model:
        necks = model['neck'] if isinstance(model['neck'], list) else [model['neck']]
        necks[-1].update(in_channels=channels, out_channels=16)
        if len(necks) == 2:
            necks[0].update(embed_dim=WIDTH)
        model['rpn_head'].update(in_channels=16, feat_channels=16)
        for extractor in ('bbox_roi_extractor', 'mask_roi_extractor'):
            head[extractor].update(out_channels=16)
        head['bbox_head'].update(in_channels=16, fc_out_channels=16)
        if 'conv_out_channels' in head['bbox_head']:
            head['bbox_head'].update(conv_out_channels=16)
        head['mask_head'].update(in_channels=16, conv_out_channels=16)
    else:
        head['shared_head'].update(base_channels=BASE)
        model['rpn_head'].update(in_channels=channels[-1], feat_channels=16)
        head['bbox_roi_extractor'].update(out_channels=channels[-1])
        head['bbox_head'].update(in_channels=2 * channels[-1])
        head['mask_head'].update(in_channels=2 * channels[-1], conv_out_channels=16)
    for part in ('bbox_head', 'mask_head'):
        head[part].update(num_classes=len(CLASSES))
    model['train_cfg']['rpn_proposal'].update(nms_pre=50, max_per_img=20)
    model['train_cfg']['rcnn']['sampler'].update(num=16)
    model['test_cfg']['rpn'].update(nms_pre=50, max_per_img=10)
    model['test_cfg']['rcnn'].update(max_per_img=5)
    if model['data_preprocessor']['pad_size_divisor'] > 32:  # the square that relative positions are for
        model['data_preprocessor'].update(pad_size_divisor=SIZE)
    content['train_cfg'].update(max_epochs=1)
    for split in ('train', 'val', 'test'):
        loader = content[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader['dataset'].update(data_root=f'{data}/', metainfo=dict(classes=CLASSES))
        loader['dataset']['pipeline'] = [_small(each) for each in loader['dataset']['pipeline']]
    for split in ('val', 'test'):
        content[f'{split}_evaluator']['ann_file'] = str(data / 'annotations' / 'instances_val2017.json')
    return _finished(content, path, folder)


def _small(step: dict[str, Any]) -> dict[str, Any]:
    """A transform for images of at most ``SIZE`` pixels."""
    if step['type'] == 'RandomResize' and isinstance(step['scale'], list):
        return {**step, 'scale': [(SIZE, 48), (SIZE, 56)]}
    if step['type'] == 'RandomResize':
        return {**step, 'scale': (2 * SIZE, SIZE)}
    if step['type'] == 'RandomChoiceResize':
        return {**step, 'scales': [(SIZE, 48), (SIZE, 56)]}
    if step['type'] == 'Resize':
        return {**step, 'scale': (SIZE, 56)}
    if step['type'] == 'RandomCrop':
        return {**step, 'crop_size': (SIZE, SIZE)}
    return step


def shrunk_segmentor(path: Path, data: Path, folder: Path) -> Config:
    """A segmentation config at tiny sizes on the data of :func:`write_ade`."""
    content = load_config(path).to_dict()
    model = content['model']
    channels = shrink_backbone(model['backbone'])
    if 'neck' in model:
        model['neck'].update(embed_dim=WIDTH)
        model['decode_head'].update(in_channels=channels)
    else:
        model['decode_head'].update(in_channels=channels[-1])
    model['decode_head'].update(channels=16, num_classes=len(CLASSES))
    model['auxiliary_head'].update(in_channels=channels[2], channels=16, num_classes=len(CLASSES))
    if model['test_cfg']['mode'] == 'slide':
        model['test_cfg'].update(crop_size=(SIZE, SIZE), stride=(42, 42))
    content['data_preprocessor'].update(size=(SIZE, SIZE))
    for split in ('train', 'val', 'test'):
        loader = content[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader['dataset'].update(data_root=str(data), metainfo=dict(classes=CLASSES))
        loader['dataset']['pipeline'] = [
            {**each, 'scale': (2 * SIZE, SIZE)} if each['type'] == 'Resize' else _small(each)
            for each in loader['dataset']['pipeline']
        ]
    content['train_dataloader']['batch_size'] = 2
    content['train_cfg'].update(max_iters=2, val_interval=2)
    content['default_hooks']['checkpoint'].update(interval=1)
    return _finished(content, path, folder)


def _finished(content: dict[str, Any], path: Path, folder: Path) -> Config:
    for scheduler in content['param_scheduler']:
        if scheduler['type'] == 'LinearLR':
            scheduler.update(start_factor=0.5, end=2)  # the first step must move something
        else:
            scheduler.update(begin=0)
    content['work_dir'] = str(folder / 'run')
    content['experiment_name'] = path.stem
    content['default_hooks']['logger']['interval'] = 1
    content['log_level'] = 'ERROR'
    return Config(content)


def shrunk_downstream(path: Path, data: dict[str, Path], folder: Path) -> Config:
    """A detection or segmentation config at tiny sizes; ``data`` has ``coco`` and ``ade``."""
    if path in DETECTION:
        return shrunk_detector(path, data['coco'], folder)
    return shrunk_segmentor(path, data['ade'], folder)
