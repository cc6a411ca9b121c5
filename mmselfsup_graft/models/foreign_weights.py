"""Keeping foreign weights on the one safe way into a model."""

from typing import Any

from mmengine.model import PretrainedInit

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import WEIGHT_INITIALIZERS

# by these arguments backbones of mmpretrain, mmdet, mmseg and timm fetch weights themselves
_ARGUMENTS = ('pretrained', 'checkpoint_path')


def is_pretrained_init(config: Any) -> bool:
    """Whether this is an ``init_cfg`` that reads a file: of mmengine's class ``PretrainedInit`` or one derived from it.

    The class decides, as the registry finds it, so every scope (``mmdet.Pretrained``) and form of the type counts.
    """
    kind = config.get('type') if isinstance(config, dict) else None
    if isinstance(kind, str):
        try:
            found = WEIGHT_INITIALIZERS.get(kind)
        except (KeyError, ImportError, AttributeError, ValueError):  # a name that leads nowhere here
            found = None
        if found is None:  # a scope whose library is not imported
            return kind.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')
        kind = found
    return isinstance(kind, type) and issubclass(kind, PretrainedInit)


def refuse_pretrained_init(config: Any, owner: str) -> None:
    """Refuse ``init_cfg=dict(type='Pretrained', ...)`` and ``pretrained=...`` anywhere in a model's config.

    Such weights would come in unchecked, and our own initialization would then overwrite most of them.

    Args:
        config: Config of a model or of a part of it.
        owner: Who is asking, for the message.

    Raises:
        ConfigError: If there is such an entry.
    """
    if isinstance(config, dict):
        if is_pretrained_init(config):
            raise ConfigError(
                f'{owner}: init_cfg of type Pretrained is not used here; '
                'give the file as model.graft=[dict(checkpoint=...)]'
            )
        for name in _ARGUMENTS:
            if config.get(name):
                raise ConfigError(
                    f'{owner}: {name}={config[name]!r} is not used here; '
                    'give a file as model.graft=[dict(checkpoint=...)]'
                )
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            refuse_pretrained_init(value, owner)
