"""The input pipelines that are compared, each as a data set and the function that makes a batch."""

import random
from pathlib import Path
from typing import Any

import mmpretrain
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, DefaultScope
from PIL import ImageFilter, ImageOps
from torch import nn
from torch.utils.data import default_collate
from torchvision import transforms
from torchvision.datasets import ImageFolder

from mmselfsup_graft.engine.config.check import check_config
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.registry import DATASETS, MODELS

_CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
_OWN = {
    'mae': 'mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py',
    'mocov3': 'mocov3/mocov3_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
}
_PEER = {
    'mae': 'mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'mocov3': 'mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py',
}


class _Blur:
    """Gaussian blur by PIL with a radius drawn from 0.1 to 2."""

    def __call__(self, image: Any) -> Any:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class _Two:
    """Two views of an image."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second = first, second

    def __call__(self, image: Any) -> tuple[Any, Any]:
        return self.first(image), self.second(image)


def official(recipe: str, folder: str, normalize: bool = True) -> tuple[Any, Any]:
    """The published recipe in torchvision's transforms on PIL images.

    Args:
        recipe: ``mae`` or ``mocov3``.
        folder: Of images, in class folders.
        normalize: To normalized float32 in the loader, as published; otherwise the batches are uint8.
    """
    normalized = [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    finish = normalized if normalize else [transforms.PILToTensor()]
    if recipe == 'mae':
        crop = transforms.RandomResizedCrop(224, (0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC)
        return ImageFolder(folder, transforms.Compose([crop, transforms.RandomHorizontalFlip(), *finish])), _collate

    def view(blur: float, *more: Any) -> transforms.Compose:
        return transforms.Compose(
            [
                transforms.RandomResizedCrop(224, (0.08, 1.0)),
                transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.RandomApply([_Blur()], blur),
                *more,
                transforms.RandomHorizontalFlip(),
                *finish,
            ]
        )

    solarise = transforms.RandomApply([ImageOps.solarize], 0.2)
    return ImageFolder(folder, _Two(view(1.0), view(0.1, solarise))), _collate


def _collate(samples: list[Any]) -> Any:
    """Batch of the images; labels play no part."""
    return default_collate([image for image, _ in samples])


def of_mmpretrain(recipe: str, folder: str) -> tuple[Any, Any]:
    """The pipeline of mmpretrain's config, with its own data set for folders."""
    cfg = Config.fromfile(Path(mmpretrain.__file__).parent / '.mim' / 'configs' / _PEER[recipe])
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset = dict(type='CustomDataset', data_root=folder, pipeline=pipeline)
    cfg.default_scope = 'mmpretrain'
    return of_config(cfg)


def own_config(recipe: str, folder: str, fast: str | None) -> Config:
    """The toolbox's config of the recipe on a folder, in one of its fast modes if asked for.

    Raises:
        ConfigError: If this version of the toolbox does not know the mode.
    """
    cfg = load_config(_CONFIGS / _OWN[recipe])
    dataset = cfg.train_dataloader.dataset
    own = dict(type='ImageFolder', data_root=folder, pipeline=dataset.pipeline)
    cfg.train_dataloader.dataset = own if fast is None else dict(own, fast=fast)
    check_config(cfg)
    return cfg


def of_config(cfg: Config) -> tuple[Any, Any]:
    """Build data set and collating function of a config."""
    scope = DefaultScope.get_instance('benchmark_loader', scope_name=cfg.default_scope)
    with scope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return dataset, FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)


def own_preprocessor(cfg: Config) -> nn.Module:
    """What the toolbox does to a batch on the device."""
    return MODELS.build(cfg.data_preprocessor).train()
