"""Checks that foreign weights enter a model only through a graft."""

from typing import Any

from mmengine.model import PretrainedInit

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS, WEIGHT_INITIALIZERS

# arguments by which backbones of mmpretrain, mmdet, mmseg and timm load weights
_ARGUMENTS = ('pretrained', 'checkpoint_path')


def is_pretrained_init(config: Any) -> bool:
    """Whether this is an ``init_cfg`` that reads a file: of mmengine's class ``PretrainedInit`` or one derived from it.

    The class found by the registry decides, so every scope (``mmdet.Pretrained``) and form of the type counts.
    """
    kind = config.get('type') if isinstance(config, dict) else None
    if isinstance(kind, str):
        try:
            found = WEIGHT_INITIALIZERS.get(kind)
        except (KeyError, ImportError, AttributeError, ValueError):  # an unknown name
            found = None
        if found is None:  # a scope whose library is not imported
            return kind.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')
        kind = found
    return isinstance(kind, type) and issubclass(kind, PretrainedInit)


def _reads_pretrained(kind: Any) -> bool:
    """Whether a class reads its argument ``pretrained`` with this toolbox's reader (:class:`TimmBackbone`)."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    return bool(getattr(found, 'reads_pretrained', False))


def refuse_pretrained_init(config: Any, owner: str) -> None:
    """Refuse ``init_cfg=dict(type='Pretrained', ...)`` and ``pretrained=...`` anywhere in a model's config.

    Such weights would be loaded unchecked, and our own initialization would then overwrite most of them.

    Args:
        config: Config of a model or of a part of it.
        owner: Name of the caller, for the message.

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
            if config.get(name) and not (name == 'pretrained' and _reads_pretrained(config.get('type'))):
                raise ConfigError(
                    f'{owner}: {name}={config[name]!r} is not used here; '
                    'give a file as model.graft=[dict(checkpoint=...)]'
                )
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            refuse_pretrained_init(value, owner)
