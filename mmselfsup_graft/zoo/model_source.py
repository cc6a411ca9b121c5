"""The encoder that a user names: a checkpoint, with its config or without, or a model of the zoo."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.downloads.resolve import PREFIX, is_zoo_name
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.encoders import Encoder, load_encoder
from mmselfsup_graft.utils.suggestions import nearest

from .index import find_model, first_file, zoo

RANDOM = 'random'


def encoder_of(
    model: str | os.PathLike | Encoder,
    config: str | os.PathLike | Config | None = None,
    *,
    options: dict[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    block: int | None = None,
    size: tuple[int, int] | None = None,
    normalization: Mapping[str, Any] | None = None,
) -> Encoder:
    """The encoder of a checkpoint, or of a model of the zoo with its published weights.

    Args:
        model: File of any known format, ``zoo:NAME``, a name of :func:`list_models` with weights, ``random`` for fresh
            weights of the config, or an encoder, which is returned as it is.
        config: Its config; None reads what is needed from the file, or takes that of the zoo.
        options: Overrides for a config file.
        source: See :meth:`Encoder.from_checkpoint`, like the others.
        block: See there.
        size: See there.
        normalization: See there.

    Raises:
        CheckpointError: If there is no such file, no weights of that name, or the file does not fit.
        ConfigError: If the config is wrong or missing.
    """
    if isinstance(model, Encoder):
        return model
    name = os.fspath(model)
    cfg = config if config is None or isinstance(config, Config) else load_config(config, options)
    if cfg is None and options:
        raise ConfigError('--cfg-options changes values of a config; give one with --config')
    settings: dict[str, Any] = dict(source=source, block=block, size=size, normalization=normalization)
    if Path(name).exists() or is_zoo_name(name):
        return Encoder.from_checkpoint(name, cfg, **settings)
    if name == RANDOM:
        if cfg is None:
            raise ConfigError('fresh weights need a config (--config)')
        return load_encoder(cfg, None, block, normalization=normalization)
    if name not in zoo():
        similar = [] if os.sep in name else nearest(name, zoo(), 3)
        raise CheckpointError(
            f'{name} is not a file, and there is no model of that name'
            + (
                f'; did you mean {" or ".join(similar)}?'
                if similar
                else '; check the path, or see graft download --list'
            )
        )
    entry = find_model(name)
    published = f'{PREFIX}{first_file(entry).name}'
    return Encoder.from_checkpoint(published, cfg or load_config(entry.config), **settings)
