"""The configs for folders of images, by method."""

import re
from pathlib import Path
from typing import NamedTuple

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.libraries.own_configs import configs_folder
from mmselfsup_graft.utils.suggestions import did_you_mean

_NAME = re.compile(r'(?P<method>[a-z0-9-]+)_(?P<backbone>[a-z0-9-]+)_\d+xb.*_folder-(?P<px>\d+)px')


class FolderConfig(NamedTuple):
    """A config for a folder of images: its method, backbone, image size and file."""

    method: str
    backbone: str
    img_size: int
    path: Path


def folder_configs() -> list[FolderConfig]:
    """All configs that pre-train on a folder of images, ViTs first."""
    found = []
    for path in sorted(configs_folder().glob('*/*_folder*.py')):
        match = _NAME.fullmatch(path.stem)
        if match:
            found.append(FolderConfig(match['method'], match['backbone'], int(match['px']), path))
    return sorted(found, key=lambda each: not each.backbone.startswith('vit'))


def folder_config(method: str, img_size: int = 64, backbone: str = '') -> Path:
    """The config of a method for a folder of images.

    Args:
        method: As its configs are named: ``mae``, ``mocov3``, ``layer-grafted``.
        img_size: 64 or 224 pixels.
        backbone: The beginning of its name, such as ``resnet``; default: a ViT if there is one.

    Raises:
        ConfigError: If there is none; the message names what there is.
    """
    known = folder_configs()
    wanted = method.lower().replace('_', '-')
    of_method = [each for each in known if each.method.replace('-', '') == wanted.replace('-', '')]
    if not of_method:
        names = sorted({each.method for each in known})
        raise ConfigError(
            f'method {method!r} has no config for folders{did_you_mean(wanted, names)}; choose from {", ".join(names)}'
        )
    fitting = [each for each in of_method if each.img_size == img_size and each.backbone.startswith(backbone)]
    if not fitting:
        there = ', '.join(f'{each.backbone} at {each.img_size} px' for each in of_method)
        raise ConfigError(
            f'{method} has no config for {backbone or "any backbone"} at {img_size} px; there are {there}'
        )
    return fitting[0].path
