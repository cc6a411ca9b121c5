"""The model zoo: models by name, and their weights."""

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from torch import nn

import mmselfsup_graft
from mmselfsup_graft.downloads.published import PublishedFile, files_of
from mmselfsup_graft.downloads.resolve import PREFIX, resolve_zoo
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.registry import MODELS, SCOPE
from mmselfsup_graft.utils.suggestions import nearest


@dataclass(frozen=True)
class ZooModel:
    """One entry of a metafile.

    Attributes:
        name: Name of the model, equal to that of its config.
        config: Config file.
    """

    name: str
    config: Path

    @property
    def files(self) -> list[PublishedFile]:
        """Published files that fit its encoder; ``pretrained=True`` takes the first."""
        return files_of(self.name)


@cache
def zoo() -> dict[str, ZooModel]:
    """All models by name, read from the model index next to the configs.

    Raises:
        ConfigError: If the index was not installed with the package.
    """
    root = _root()
    models = {}
    for metafile in _read(root / 'model-index.yml')['Import']:
        for entry in _read(root / metafile)['Models']:
            name = entry['Name']
            models[name] = ZooModel(name, root / entry['Config'])
    return models


def _root() -> Path:
    """The checkout, or the plugin folder of an installed package."""
    package = Path(mmselfsup_graft.__file__).parent
    for root in (package.parent, package / '.mim'):
        if (root / 'model-index.yml').is_file():
            return root
    raise ConfigError('model-index.yml is not installed with mmselfsup_graft; reinstall it')


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def list_models(pattern: str = '*', pretrained: bool = False) -> list[str]:
    """Names of all models that match a pattern with ``*`` and ``?``.

    Args:
        pattern: A pattern; without wildcards a part of the name is enough.
        pretrained: Only models with published weights.
    """
    wild = pattern if any(sign in pattern for sign in '*?[') else f'*{pattern}*'
    found = {name: model for name, model in zoo().items() if not pretrained or model.files}
    return fnmatch.filter(found, wild)


def find_model(name: str) -> ZooModel:
    """The model of this name.

    Raises:
        ConfigError: If it does not exist.
    """
    models = zoo()
    if name not in models:
        if name.startswith('zoo:'):
            raise ConfigError(f'{name!r} names a file, not a model: get_model(MODEL, pretrained={name!r})')
        similar = list_models(name)[:3] or nearest(name, models, 3)
        advice = f'; did you mean {" or ".join(similar)}?' if similar else '; list_models() names all'
        raise ConfigError(f'unknown model {name!r}{advice}')
    return models[name]


def get_model(
    name: str,
    pretrained: bool | str | os.PathLike | Mapping[str, Any] = False,
    folder: str | os.PathLike | None = None,
    mirror: str | None = None,
    offline: bool | None = None,
) -> nn.Module:
    """Build a model by name, ``get_model(...).backbone`` is its encoder.

    Args:
        name: Name of a model, see :func:`list_models`.
        pretrained: True loads the encoder of the first published file that fits, ``zoo:NAME`` that of another, a path
            that of a checkpoint of any known format, as does ``dict(checkpoint=..., branch=..., grid=(H, W))`` as in a
            graft; False leaves it freshly initialized.
        folder: Where downloads are kept, see :func:`mmselfsup_graft.downloads.download.download`.
        mirror: Alternative source of the file, see there.
        offline: Never open a connection, see there.

    Returns:
        The algorithm, or the detector or segmentor, on the CPU, initialized.

    Raises:
        ConfigError: If there is no such model.
        CheckpointError: If there are no weights for it, or they do not fit.
    """
    entry = find_model(name)
    cfg = load_config(entry.config)
    if pretrained is True:
        pretrained = f'{PREFIX}{first_file(entry).name}'
    if isinstance(pretrained, Mapping) and 'checkpoint' in pretrained:
        found = resolve_zoo(pretrained['checkpoint'], folder, mirror, offline)
        pretrained = {**pretrained, 'checkpoint': found}
    elif isinstance(pretrained, str | os.PathLike):
        pretrained = resolve_zoo(pretrained, folder, mirror, offline)
    if cfg.default_scope != SCOPE:
        if isinstance(pretrained, Mapping):
            raise ConfigError(f'{name}: pretrained takes a file for models of {cfg.default_scope}; convert it first')
        return _of_another_library(cfg, str(pretrained) if pretrained else None)
    config = cfg.model
    if 'base_checkpoint' in config:  # only needed for training
        config.base_checkpoint = None
    given = pretrained if isinstance(pretrained, Mapping) else {'checkpoint': str(pretrained)}
    config.graft = [dict(given)] if pretrained else None
    model = MODELS.build(config)
    model.init_weights()
    return model


def first_file(model: ZooModel) -> PublishedFile:
    """The first published file that fits a model.

    Raises:
        CheckpointError: If there is none.
    """
    if not model.files:
        known = ', '.join(list_models(pretrained=True))
        raise CheckpointError(f'no weights for {model.name}; available for {known}')
    return model.files[0]


def _of_another_library(cfg: Config, pretrained: str | None) -> nn.Module:
    """A detector or segmentor, with a loaded backbone if a file is given."""
    from mmselfsup_graft.engine.runners.pretrained import load_pretrained, take_pretrained

    options = {'data_preprocessor': cfg.data_preprocessor} if 'data_preprocessor' in cfg else {}
    model = MODELS.build({**cfg.model, **options, '_scope_': cfg.default_scope})
    parts = take_pretrained(model)
    model.init_weights()
    if pretrained:
        for part in parts:
            load_pretrained(replace(part, checkpoint=pretrained))
    return revert_sync_batchnorm(model)  # synchronized norms need several processes with a GPU each
