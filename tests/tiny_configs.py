"""Configs at tiny sizes, the files they start from, and the data they read."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from config_cache import load_config
from mmengine.config import Config
from PIL import Image
from tiny_finetuning import shrink_classifier

from mmselfsup_graft.checkpoints import VIT_TIMM, Depth, GraftSource, depth_of, save_atomically
from mmselfsup_graft.models import SelfSupResNet, SelfSupViT
from mmselfsup_graft.registry import MODELS

WIDTH, DEPTH, BATCH = 32, 3, 4
RESNET_STAGES = (2, 2, 2, 2)


def numbers(value: Any, key: str) -> Iterator[int]:
    """Every number that stands under a key, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list | tuple) else ())
    for name, inner in items:
        if name == key and isinstance(inner, int):
            yield inner
        yield from numbers(inner, key)


def image_size(cfg: Config) -> int:
    """Side of the images that a config trains on: of the encoder if it is built for one, else of the crops."""
    loader = cfg.get('train_dataloader')
    if loader:
        data = loader.dataset.to_dict()
        crops = [*numbers(data, 'size'), *numbers(data, 'window')]
    else:
        crops = [each['size'] for each in cfg.evaluation.test.pipeline if each['type'].endswith('CenterCrop')]
    return cfg.model.backbone.get('img_size') or crops[0]


def is_resnet(backbone: dict[str, Any]) -> bool:
    return 'ResNet' in backbone['type']


def pictures(folder: Path, count: int = 2 * BATCH) -> None:
    """Generated photos of several sizes and modes, in two class folders."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f'n0000000{number % 2}'
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (5 + number, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((70 + 3 * number, 66)).save(place / f'{number}.JPEG')


def fashion(folder: Path, count: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    contents = {
        'images-idx3': (rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), b'\x00\x00\x08\x03'),
        'labels-idx1': (np.arange(count, dtype=np.uint8) % 10, b'\x00\x00\x08\x01'),
    }
    for name, (array, magic) in contents.items():
        head = magic + np.array(array.shape, dtype='>u4').tobytes()
        for stem in ('train', 't10k'):
            (folder / f'{stem}-{name}-ubyte.gz').write_bytes(gzip.compress(head + array.tobytes()))


def cifar(folder: Path, count: int = 20) -> None:
    """CIFAR-100's two binary files, with noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ('train.bin', 'test.bin'):
        (folder / name).write_bytes(b''.join(bytes([0, label]) + rng.bytes(3072) for label in range(count)))


def replaced(value: Any, key: str, old: Any, new: Any) -> Any:
    """A copy of nested dicts and lists with ``key=old`` turned into ``key=new`` wherever it stands."""
    if isinstance(value, dict):
        return {k: new if k == key and v == old else replaced(v, key, old, new) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(each, key, old, new) for each in value]
    return value


def shrink_model(model: dict[str, Any], size: int) -> int:
    """Turn the sizes of a model for images of ``size`` down, in place; all else stays. Returns the new image size."""
    shrink = shrinker(model['backbone'])
    kept = {shrink_vit: DEPTH, shrink_resnet: sum(RESNET_STAGES)}.get(shrink)
    blocks = number_of_blocks(model['backbone']) if kept else 0
    size, width = shrink(model['backbone'], size)
    if kept:
        scale_ranges(model, blocks, kept)
    if 'base_model' in model:
        (shrink_tec if model['type'] == 'TEC' else shrink_masked_tec)(model, size)
        return size
    if model['type'] == 'MultiTask':
        for objective in model['objectives'].values():
            shrink_parts({**objective['model'], 'backbone': model['backbone']}, size, width)
    else:
        shrink_parts(model, size, width)
    return size


def shrink_parts(model: dict[str, Any], size: int, width: int) -> None:
    """Fit neck and head to a small backbone of ``width``, and what counts its blocks to their number."""
    neck, head = model['neck'], model.get('head') or {}
    if neck['type'] == 'MAEDecoder':
        patch = model['backbone']['patch_size']
        neck.update(num_patches=(size // patch) ** 2, patch_size=patch, embed_dim=WIDTH)
        neck.update(decoder_embed_dim=WIDTH, decoder_depth=1, decoder_num_heads=2)
        head.update(patch_size=patch)
    elif neck['type'] == 'PixelShuffleNeck':
        neck.update(in_channels=width)
        if model['backbone'].get('patch_size') == 8:
            neck.update(stride=8)
            model['mask_patch'] = 8
    else:
        neck.update(in_channels=width, out_channels=16)
        if 'hid_channels' in neck:  # MoCo v1 has one linear layer
            neck.update(hid_channels=48)
        if 'predictor' in head:
            head['predictor'].update(in_channels=16, hid_channels=48, out_channels=16)


def shrink_tec(model: dict[str, Any], size: int) -> None:
    """Fit base model, adaptor and decoders to a small backbone for images of ``size``."""
    sizes = {key: model['backbone'][key] for key in ('arch', 'img_size', 'patch_size')}
    model['base_model'].update(sizes)
    patches = (size // model['backbone']['patch_size']) ** 2
    model['base_model']['topk'] = min(model['base_model']['topk'], patches)
    model['neck'].update(decoder_embed_dim=WIDTH, decoder_num_heads=2)


def shrink_masked_tec(model: dict[str, Any], size: int) -> None:
    """Turn the base model down for images of ``size``: 4 x 4 patches, whatever the grid of the small backbone."""
    arch = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=2, feedforward_channels=64)
    topk = min(model['base_model']['topk'], 16)
    model['base_model'].update(arch=arch, img_size=size, patch_size=size // 4, topk=topk)
    model['neck'].update(hidden_channels=48)


def shrinker(backbone: dict[str, Any]) -> Callable[[dict[str, Any], int], tuple[int, int]]:
    """Which function makes a backbone small."""
    for word, function in {
        'ResNet': shrink_resnet,
        'ConvNeXt': shrink_convnext,
        'Swin': shrink_swin,
        'Timm': shrink_timm,
    }.items():
        if word in backbone['type']:
            return function
    return shrink_vit


def number_of_blocks(backbone: dict[str, Any]) -> int:
    """Depth of the config of a ViT or ResNet."""
    if is_resnet(backbone):
        return sum(SelfSupResNet.arch_settings[backbone['depth']][1])
    arch = backbone['arch']
    return SelfSupViT.arch_zoo[arch]['num_layers'] if isinstance(arch, str) else arch['num_layers']


def scale_ranges(model: dict[str, Any], blocks: int, kept: int) -> None:
    """Turn everything that counts blocks of a deeper model into the same share of those kept, in place."""
    for source in model.get('graft') or []:
        if source.get('layers'):
            source['layers'] = [layer * kept // blocks for layer in source['layers']]
    if model.get('frozen_layers'):
        model['frozen_layers'] = model['frozen_layers'] * kept // blocks
    if model.get('l1_distance'):
        model['l1_distance']['to_block'] = model['l1_distance']['to_block'] * kept // blocks


def shrink_timm(backbone: dict[str, Any], size: int) -> tuple[int, int]:
    """New image size and width of a ViT of timm."""
    sizes = {'depth': DEPTH, 'embed_dim': WIDTH, 'num_heads': 2, 'patch_size': 8}
    backbone.update(img_size=32, options={**backbone.get('options', {}), **sizes})
    return 32, WIDTH


def shrink_vit(backbone: dict[str, Any], size: int) -> tuple[int, int]:
    """New image size and width."""
    if size > 64:
        backbone.update(img_size=32, patch_size=8)
    backbone['arch'] = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=2, feedforward_channels=64)
    if 'mask_layer' in backbone:
        backbone['mask_layer'] = min(backbone['mask_layer'], DEPTH)
    return backbone['img_size'], WIDTH


def shrink_resnet(backbone: dict[str, Any], size: int) -> tuple[int, int]:
    """New image size and width; residual branches start open: the first step would not reach behind a closed one."""
    backbone.update(depth=18, stem_channels=4, base_channels=4, zero_init_residual=False)
    return min(size, 64), 32


def shrink_convnext(backbone: dict[str, Any], size: int) -> tuple[int, int]:
    """New image size and width; residual branches start open, as in :func:`shrink_resnet`."""
    backbone['layer_scale_init_value'] = 1.0
    if isinstance(backbone['arch'], str):
        backbone['arch'] = dict(depths=[1, 1, 2, 1], channels=[4, 8, 16, 32])
    return min(size, 64), backbone['arch']['channels'][-1]


def shrink_swin(backbone: dict[str, Any], size: int) -> tuple[int, int]:
    """New image size and width."""
    if isinstance(backbone['arch'], str):
        arch = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 2])
        backbone.update(img_size=64, window_size=2, arch=arch)
    arch = backbone['arch']
    return backbone['img_size'], arch['embed_dims'] * 2 ** (len(arch['depths']) - 1)


def fresh_source(backbone: dict[str, Any], target: Path, seed: int = 7) -> tuple[dict[str, torch.Tensor], Depth]:
    """Write a fresh encoder of the same size: a plain ViT as MAE's own files, others as a SimMIM of ours leaves them.

    Returns:
        Its tensors in our names, and which layer each belongs to.
    """
    plain = 'ViT' in backbone['type']
    encoder = MODELS.build({**backbone, **({'init': 'mae', 'stop_grad_patch_embed': False} if plain else {})})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder.init_weights()
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    if plain:
        save_atomically({'model': {VIT_TIMM.from_canonical(name): v for name, v in state.items()}}, target)
    else:
        token = {'backbone.mask_token': torch.zeros(1, 4, 1, 1)}
        save_atomically({'state_dict': token | {f'backbone.{name}': v for name, v in state.items()}}, target)
    return state, depth_of(encoder)


def write_sources(model: dict[str, Any], folder: Path) -> dict[str, torch.Tensor]:
    """Write a file per source of the model's graft; returns the tensors that must arrive, in our names."""
    expected = {}
    for number, source in enumerate(model['graft']):
        path = folder / f'source_{number}.pth'
        source['checkpoint'] = str(path)
        state, depth = fresh_source(model['backbone'], path, seed=7 + number)
        provided = GraftSource(str(path), tuple(source['layers']) if source.get('layers') else None)
        layers = provided.layer_ids(depth.num_blocks)
        expected.update({name: value for name, value in state.items() if depth.layer_id(name) in layers})
    return expected


def shrunk_loader(loader: dict[str, Any], data: dict[str, str]) -> dict[str, Any]:
    """One small batch of the data that :func:`data` holds."""
    loader.update(batch_size=BATCH, num_workers=0, persistent_workers=False, pin_memory=False)
    dataset = loader['dataset']
    dataset['indices'] = BATCH
    if 'data_root' in dataset:
        dataset['data_root'] = data[dataset['type']]
    if dataset['type'] == 'ImageList':
        dataset['ann_file'] = str(Path(data['ImageList']).parent / 'list.txt')
    return loader


def shrunk(path: Path, data: dict[str, str], folder: Path) -> tuple[Config, dict[str, torch.Tensor] | None]:
    """The config at tiny sizes, and the tensors of the encoder that it grafts, if any."""
    content = load_config(path).to_dict()
    model, grafted = content['model'], None
    old = image_size(Config(content))
    if model['type'] == 'GraftedClassifier':
        grafted = shrink_classifier(model, WIDTH, DEPTH, folder)
        size = model['backbone'].get('img_size', min(old, 64))
    else:
        size = shrink_model(model, old)
    for key in [key for key in content if key.endswith('_dataloader')]:
        content[key] = shrunk_loader(replaced(content[key], 'size', old, size), data)
    content['train_cfg']['max_epochs'] = 1
    # a warm-up starts at (nearly) rate 0: nothing would move
    first = content['param_scheduler'][0]
    first.update(
        {'LinearLR': dict(start_factor=1.0, end=1), 'WarmupCosineLR': dict(warmup=0, end=1)}.get(first['type'], {})
    )
    if grafted is None and model.get('graft'):
        grafted = write_sources(model, folder)
    if 'base_model' in model:
        model['base_checkpoint'] = str(folder / 'base.pth')
        plain = {key: value for key, value in model['base_model'].items() if key not in ('topk', 'last_layers')}
        plain.setdefault('in_channels', model['backbone'].get('in_channels', 3))
        fresh_source({**plain, 'type': 'SelfSupViT'}, folder / 'base.pth')
    content['work_dir'] = str(folder / 'run')
    content['experiment_name'] = path.stem
    return Config(content), grafted


def scored_size(cfg: Config) -> int:
    """Side of the images that a config scores on."""
    crops = [each.size for each in cfg.evaluation.test.pipeline if each.type.endswith('CenterCrop')]
    return crops[0] if crops else cfg.model.backbone.img_size


def shrunk_frozen(path: Path, data: dict[str, str]) -> Config:
    """The config with a tiny encoder, on a few generated images, with a short sweep."""
    content = load_config(path).to_dict()
    backbone, section = content['model']['backbone'], content['evaluation']
    old = scored_size(Config(content))
    size, _ = shrinker(backbone)(backbone, old)
    for side in {'train', 'test', 'augmented'} & set(section):
        dataset = replaced(section[side], 'size', old, size)
        dataset.update(data_root=data[dataset['type']], indices=2 * BATCH)
        if dataset.get('ann_file'):
            dataset['ann_file'] = '1percent.txt'
        section[side] = dataset
    section.setdefault('loader', {}).update(batch_size=BATCH, num_workers=0)
    if 'linear' in section:
        warmup = min(1, section['linear'].get('warmup_epochs', 0))
        section['linear'].update(epochs=2, warmup_epochs=warmup, batch_size=BATCH)
        if section['linear'].get('milestones'):
            section['linear']['milestones'] = [1]
    return Config(content)
