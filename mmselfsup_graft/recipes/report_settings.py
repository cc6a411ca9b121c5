"""Settings of a recipe's report: ``report = dict(rows=, features=, reconstruct=, maps=)`` and its texts."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import FEATURES

_TEXTS = ('title', 'about', 'comparison')
#: rows that every table has
BASELINES = ('raw pixels', 'random encoder')


def check_report(path: str | os.PathLike, report: Mapping[str, Any], stages: Collection[str]) -> None:
    """Raise an error for an impossible report.

    Args:
        path: The recipe's file, for messages.
        report: ``rows``: list of ``dict(name=, stage=)``; ``features``: the scored features, of
            :data:`FEATURES`, by default its own feature alone; ``reconstruct``: list of stages; ``maps``: names of the
            rows that the page maps; ``titles``: stage -> title on the page of a stage without a row; ``title``,
            ``about`` and ``comparison``: texts of the page.
        stages: Names of the recipe's stages.

    Raises:
        ConfigError: If a key, feature or stage is unknown, or two rows have the same name.
    """
    rows, features = report.get('rows', []), report.get('features', [])
    if set(report) - {'rows', 'features', 'reconstruct', 'maps', 'titles', *_TEXTS} or any(
        set(row) != {'name', 'stage'} for row in rows
    ):
        raise ConfigError(
            f'recipe {path}: report takes rows=[dict(name=, stage=)], features=[names], reconstruct=[stages], '
            f'maps=[rows], titles=dict(stage=text) and the texts {", ".join(_TEXTS)}; got {dict(report)}'
        )
    unknown = [name for name in features if name not in FEATURES]
    if unknown or isinstance(features, str):
        raise ConfigError(f'recipe {path}: report.features must be a list of {", ".join(FEATURES)}; got {features!r}')
    names = [*BASELINES, *(row['name'] for row in rows)]
    unmapped = [name for name in report.get('maps', []) if name not in names[len(BASELINES) :]]
    if unmapped:
        raise ConfigError(
            f'recipe {path}: report.maps names {unmapped[0]!r}, but the rows are {", ".join(names[len(BASELINES) :])}'
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f'recipe {path}: two rows of the report are called {twice[0]!r}; give each its own name')
    for stage in [*(row['stage'] for row in rows), *report.get('reconstruct', []), *report.get('titles', {})]:
        if stage not in stages:
            raise ConfigError(f'recipe {path} has no stage {stage!r}; its stages are {", ".join(stages)}')


def scored_features(report: Mapping[str, Any], has_class_token: bool, own: str) -> list[str]:
    """Those of ``report.features`` that an encoder has; its own feature if there are none."""
    having = [name for name in report.get('features', []) if name == 'patch_mean' or has_class_token]
    return having or [own]
