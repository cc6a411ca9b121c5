"""Values of a config that its keys could not take, told before anything is built or written."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.datasets.fast import resolve_mode
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS
from mmselfsup_graft.utils.suggestions import did_you_mean

from .known_keys import root_of, section_of
from .value_ranges import wrong_path_value

# whose data preprocessors take no notice of what a fast pipeline leaves to the device
_UNAWARE = ('mmpretrain', 'mmengine')


def check_values(cfg: Config) -> None:
    """Refuse values of switches of the whole run that nothing could use.

    Raises:
        ConfigError: For a value of another kind than the key takes (``compile``, ``activation_checkpointing``,
            ``recompute``, ``optim_wrapper.accumulative_counts``, ``fast`` of a data set), or a fast mode whose data
            preprocessor would not do its part.
    """
    compiling = cfg.get('compile', False)
    if not isinstance(compiling, bool | dict):
        raise ConfigError(f'compile takes True, False or a dict of options of torch.compile, got {compiling!r}')
    recomputing = cfg.get('activation_checkpointing')
    if not (recomputing is None or isinstance(recomputing, bool | list | tuple)):
        raise ConfigError(
            f'activation_checkpointing takes True, False or a list of names of modules, got {recomputing!r}'
        )
    if not isinstance(cfg.get('recompute', False), bool):
        raise ConfigError(f'recompute takes True or False, got {cfg.recompute!r}')
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if isinstance(counts, bool) or not isinstance(counts, int) or counts < 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts must be a whole number of at least 1, got {counts!r}')
    _check_hooks(cfg.get('default_hooks') or {})
    root = root_of(cfg)
    places = list(root.below())
    for place in places:
        expected = wrong_path_value(place.path, place.node)
        if expected:
            raise ConfigError(f'{place.path} is {place.node!r}, expected {expected}')
    modes = [place.node for place in places if fnmatch.fnmatchcase(place.path, '*_dataloader.*.fast')]
    deferring = [mode for mode in modes if resolve_mode(mode) not in (None, 'cpu')]
    if deferring and isinstance(root.node.get('model'), dict):
        _check_preprocessor(root.node, root.scope, deferring[0])


def _check_hooks(hooks: Mapping[str, Any]) -> None:
    """Refuse a hook without a type: a misspelled name of another one."""
    for name, hook in hooks.items():
        if isinstance(hook, dict) and 'type' not in hook:
            near = did_you_mean(name, [each for each in hooks if each != name])
            raise ConfigError(f'default_hooks.{name} has no type{near}; give type=..., or None to leave a hook out')


def _check_preprocessor(cfg: dict[str, Any], scope: str, fast: bool | str) -> None:
    """Refuse a data preprocessor that would silently leave out what a fast pipeline leaves to it."""
    model = cfg['model']
    scope = model.get('_scope_', scope)
    given = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    kind: Any = given.get('type')
    if kind is None and _library(model, 'model', scope) == 'mmpretrain':
        kind = 'ClsDataPreprocessor'  # its models add the name, which is looked up in the scope of the config
    if _library({**given, 'type': kind}, 'data_preprocessor', scope) in _UNAWARE:
        name = kind if isinstance(kind, str) else kind.__name__
        right = 'ClsDataPreprocessor' if name.endswith('ClsDataPreprocessor') else 'SelfSupDataPreprocessor'
        raise ConfigError(
            f'fast={fast!r} leaves flips, colors and blur to the data preprocessor, and {name!r} of another library '
            f"would leave them out: set data_preprocessor.type to 'mmselfsup_graft.{right}', leave the type out in a "
            "model of this toolbox, or take fast='cpu'"
        )


def _library(node: dict[str, Any], key: str, scope: str) -> str:
    """Library of the class that a part of a model names, ``''`` if it names none."""
    target = section_of(node, key, {}, MODELS, scope).target
    return '' if target is None else target.__module__.partition('.')[0]
