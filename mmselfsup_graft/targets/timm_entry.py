"""A model of timm as the name of an entry point and arguments that JSON can hold, as its hub stores them."""

import json
from typing import Any, NamedTuple

from .target_model import Code, NoTargetModel, TargetModel

_VITS = {
    192: 'vit_tiny_patch16_224',
    384: 'vit_small_patch16_224',
    768: 'vit_base_patch16_224',
    1024: 'vit_large_patch16_224',
    1280: 'vit_huge_patch14_224',
}
_OTHERS = {
    'timm.models.beit.Beit': 'beit_base_patch16_224',
    'timm.models.convnext.ConvNeXt': 'convnext_tiny',
}


class TimmEntry(NamedTuple):
    """``timm.create_model(name, **arguments)``."""

    name: str
    arguments: dict[str, Any]


def timm_entry(model: TargetModel) -> TimmEntry:
    """Entry point and arguments of a target model of timm. The arguments replace all sizes of the entry point.

    Raises:
        NoTargetModel: If an argument is a Python object that JSON cannot hold.
    """
    arguments = {
        key: value for key, value in model.arguments.items() if key not in ('block', 'num_classes', 'in_chans')
    }
    objects = [key for key, value in arguments.items() if isinstance(value, Code)]
    if objects:
        raise NoTargetModel(f'a model of timm from a configuration file, which cannot hold {objects[0]}')
    return TimmEntry(_name(model), json.loads(json.dumps({k: v for k, v in arguments.items() if v is not None})))


def _name(model: TargetModel) -> str:
    block = model.arguments.get('block')
    if isinstance(block, Code):
        return 'resnet50' if block.text.endswith('Bottleneck') else 'resnet18'
    return _OTHERS.get(model.name) or _VITS.get(model.arguments['embed_dim'], 'vit_base_patch16_224')
