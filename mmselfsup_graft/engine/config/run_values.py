"""Values of a config that its keys could not take, told before anything is built or written."""

from collections.abc import Iterator
from typing import Any, cast

from mmengine.config import Config

from mmselfsup_graft.datasets.fast import resolve_mode
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

# whose data preprocessors take no notice of what a fast pipeline leaves to the device
_UNAWARE = ('mmpretrain', 'mmengine')
_SWITCHES = (
    *('resume', 'resume_anyway', 'find_unused_parameters', 'auto_scale_lr.enable', 'env_cfg.cudnn_benchmark'),
    *('randomness.deterministic', 'randomness.diff_rank_seed', 'optim_wrapper.paramwise_cfg.no_decay_1d'),
)
_LOG_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
_ARCH = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')


def check_values(cfg: Config) -> None:
    """Refuse values of switches of the whole run that nothing could use.

    Raises:
        ConfigError: For ``compile``, ``activation_checkpointing``, ``optim_wrapper.accumulative_counts`` or ``fast``
            of a data set of another kind than they take, or a fast mode whose data preprocessor would not do its part.
    """
    compiling = cfg.get('compile', False)
    if not isinstance(compiling, bool | dict):
        raise ConfigError(f'compile takes True, False or a dict of options of torch.compile, got {compiling!r}')
    recomputing = cfg.get('activation_checkpointing')
    if not (recomputing is None or isinstance(recomputing, bool | list | tuple)):
        raise ConfigError(
            f'activation_checkpointing takes True, False or a list of names of modules, got {recomputing!r}'
        )
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if isinstance(counts, bool) or not isinstance(counts, int) or counts < 1:
        raise ConfigError(f'optim_wrapper.accumulative_counts must be a whole number of at least 1, got {counts!r}')
    _check_switches(cfg)
    _check_arch(cfg.get('model'), 'model')
    _check_pixel_values(cfg)
    _check_ranges(cfg)
    modes = [fast for key in cfg if key.endswith('_dataloader') for fast in _fast_of(cfg[key])]
    deferring = [fast for fast in modes if resolve_mode(fast) not in (None, 'cpu')]
    if deferring:
        _check_preprocessor(cfg, deferring[0])


def _check_switches(cfg: Config) -> None:
    """Refuse values of switches that untyped sections hold: any text would count as true."""
    for path in _SWITCHES:
        value: Any = cfg
        for key in path.split('.'):
            value = value.get(key) if isinstance(value, dict | Config) else None
        if value is not None and not isinstance(value, bool) and value not in (0, 1):
            raise ConfigError(f'{path} is {value!r}, expected True or False')
    level = cfg.get('log_level', 'INFO')
    if isinstance(level, str) and level not in _LOG_LEVELS:
        raise ConfigError(f'log_level is {level!r}, expected one of {", ".join(_LOG_LEVELS)}')


def _check_arch(node: Any, path: str) -> None:
    """Refuse sizes of a network, which stand in a dict without a type, that are not whole numbers."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        if str(path).endswith('.arch') and key in _ARCH and (type(value) is not int or value < 1):
            raise ConfigError(f'{path}.{key} is {value!r}, expected a whole number of at least 1')
        _check_arch(value, f'{path}.{key}')


def _check_pixel_values(cfg: Config) -> None:
    """Refuse means and deviations of channels that are not numbers, or deviations that nothing can be divided by."""
    model = cfg.get('model')
    given = {'data_preprocessor': cfg.get('data_preprocessor')}
    if isinstance(model, dict):
        given['model.data_preprocessor'] = model.get('data_preprocessor')
    for path, values in given.items():
        for key in ('mean', 'std'):
            value = values.get(key) if isinstance(values, dict) else None
            if value is None:
                continue
            numbers = isinstance(value, list | tuple) and all(isinstance(each, int | float) for each in value)
            if not numbers or len(value) not in (1, 3) or (key == 'std' and min(value) <= 0):
                above = ' above 0' if key == 'std' else ''
                raise ConfigError(f'{path}.{key} is {value!r}, expected a list of 1 or 3 numbers{above} (on 0..255)')


def _check_ranges(cfg: Config) -> None:
    """Refuse numbers that the optimizer or a loader would refuse without naming their key."""
    wrapper = cfg.get('optim_wrapper') or {}
    clip = wrapper.get('clip_grad')
    if clip is not None and not isinstance(clip, dict):
        raise ConfigError(f'optim_wrapper.clip_grad is {clip!r}; set its options: optim_wrapper.clip_grad.max_norm=1.0')
    rate = (wrapper.get('optimizer') or {}).get('lr')
    if isinstance(rate, int | float) and not 0 <= rate < float('inf'):
        raise ConfigError(f'optim_wrapper.optimizer.lr is {rate!r}, expected a learning rate of at least 0')
    for key in cfg:
        workers = cfg[key].get('num_workers') if key.endswith('_dataloader') and isinstance(cfg[key], dict) else None
        if isinstance(workers, int | float) and workers < 0:
            raise ConfigError(f'{key}.num_workers is {workers!r}, expected a number of processes of at least 0')
        size = cfg[key].get('batch_size') if key.endswith('_dataloader') and isinstance(cfg[key], dict) else None
        if isinstance(size, int | float) and size < 1:
            raise ConfigError(f'{key}.batch_size is {size!r}, expected a number of images of at least 1')


def _fast_of(node: Any) -> Iterator[Any]:
    """Yield ``fast`` of every data set in a loader, wrapped ones included."""
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        yield from _fast_of(each)
    if isinstance(node, dict) and 'fast' in node:
        yield node['fast']


def _check_preprocessor(cfg: Config, fast: bool | str) -> None:
    """Refuse a data preprocessor that would silently leave out what a fast pipeline leaves to it."""
    model = cfg.get('model')
    if not isinstance(model, dict):
        return
    scope: str = model.get('_scope_') or cfg.get('default_scope') or ''
    given: Any = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    kind = given.get('type')
    if kind is None and _origin(model.get('type'), scope) == 'mmpretrain':
        kind = 'ClsDataPreprocessor'  # its models add the name, which is looked up in the scope of the config
    if _origin(kind, given.get('_scope_', scope)) in _UNAWARE:
        name = kind if isinstance(kind, str) else kind.__name__
        right = 'ClsDataPreprocessor' if name.endswith('ClsDataPreprocessor') else 'SelfSupDataPreprocessor'
        raise ConfigError(
            f'fast={fast!r} leaves flips, colours and blur to the data preprocessor, and {name!r} of another library '
            f"would leave them out: set data_preprocessor.type to 'mmselfsup_graft.{right}', leave the type out in a "
            "model of this toolbox, or take fast='cpu'"
        )


def _origin(kind: Any, scope: str) -> str:
    """Library of the class that a type of a model's part stands for, ``''`` if there is none."""
    if isinstance(kind, str):
        kind = MODELS.get(kind) if '.' in kind or scope == MODELS.scope else MODELS.get(f'{scope}.{kind}')
    return '' if kind is None else cast(type, kind).__module__.partition('.')[0]
