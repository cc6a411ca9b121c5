"""Keeping foreign weights on the one safe way into a model."""

from typing import Any

from mmselfsup_graft.errors import ConfigError


def refuse_pretrained_init(config: Any, owner: str) -> None:
    """Refuse ``init_cfg=dict(type='Pretrained', ...)`` anywhere in a model's config.

    mmengine would unpickle that file whatever it holds, and our own initialisation would then overwrite most of it.

    Args:
        config: Config of a model or of a part of it.
        owner: Who is asking, for the message.

    Raises:
        ConfigError: If there is such an entry.
    """
    if isinstance(config, dict):
        if str(config.get('type', '')).rpartition('.')[2] == 'Pretrained':
            raise ConfigError(
                f'{owner}: init_cfg of type Pretrained is not used here; '
                'give the file as model.graft=[dict(checkpoint=...)]'
            )
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            refuse_pretrained_init(value, owner)
