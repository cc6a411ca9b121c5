"""Which keys a section of a config may hold, learnt from the code that reads it.

A typed section (``dict(type='MAE', ...)``) takes what its class takes: the signatures along the class's ``__init__``
chain, as far as ``**kwargs`` is only handed on. An untyped one (a dataloader, ``env_cfg``) takes what the function
takes that it is given to. Which key is built by which registry is written here and nowhere else.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import torch
import torchvision.transforms
from mmengine.registry import FUNCTIONS, STRATEGIES, Registry
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from mmselfsup_graft import registry as ours
from mmselfsup_graft.checkpoints import GraftSource
from mmselfsup_graft.datasets import Part
from mmselfsup_graft.errors import ConfigError

_TOP_LEVEL: dict[str, Registry] = {
    **dict.fromkeys(('model', 'tta_model'), ours.MODELS),
    'evaluation': ours.DATASETS,
    'model_wrapper_cfg': ours.MODEL_WRAPPERS,
    'optim_wrapper': ours.OPTIM_WRAPPERS,
    'param_scheduler': ours.PARAM_SCHEDULERS,
    **dict.fromkeys(('train_cfg', 'val_cfg', 'test_cfg'), ours.LOOPS),
    **dict.fromkeys(('val_evaluator', 'test_evaluator'), ours.METRICS),
    **dict.fromkeys(('default_hooks', 'custom_hooks'), ours.HOOKS),
    'visualizer': ours.VISUALIZERS,
    'log_processor': ours.LOG_PROCESSORS,
    'strategy': STRATEGIES,
    'tta_pipeline': ours.TRANSFORMS,
}
_NESTED: dict[str, Registry] = {  # wherever they stand; every other key belongs to the registry of the dict around it
    'data_preprocessor': ours.MODELS,
    'init_cfg': ours.WEIGHT_INITIALIZERS,
    'optimizer': ours.OPTIMIZERS,
    **dict.fromkeys(('dataset', 'datasets'), ours.DATASETS),
    **dict.fromkeys(('pipeline', 'transforms'), ours.TRANSFORMS),
    **dict.fromkeys(('sampler', 'batch_sampler'), ours.DATA_SAMPLERS),
    **dict.fromkeys(('collate_fn', 'worker_init_fn'), FUNCTIONS),
    'vis_backends': ours.VISBACKENDS,
    'metrics': ours.METRICS,
    'policies': ours.TRANSFORMS,
}
_DEFAULT_TYPE = {
    'optim_wrapper': 'OptimWrapper',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
}
_TAKEN_BY_BUILDER = {  # by registry: keys that mmengine takes out of a dict before it calls the class
    'hook': {'priority'},
    'parameter scheduler': {'convert_to_iter_based', 'epoch_length'},
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    'loop': {'by_epoch'},
    'weight initializer': {'override', 'name', 'layer'},
}
_TAKEN_BY_KEY = {  # the same for what builds a dict by hand
    'norm_cfg': {'requires_grad', 'eps'},
    'act_cfg': {'inplace'},
    'policies': {'magnitude_key', 'magnitude_range'},
}
_EVERYWHERE = {'type', '_scope_', '_delete_'}
_OTHER_TOP_LEVEL = {
    *('find_unused_parameters', 'sync_bn', 'activation_checkpointing', 'compile'),  # read by the runner from its cfg
    *('custom_imports', 'runner_type', 'resume_from', 'resume_anyway'),
}
_FREE_NAMES = {'custom_keys', 'default_hooks'}  # their keys are chosen by the config's author

_FUNCTIONS: dict[str, Callable] = {
    'compile': torch.compile,
    'mp_cfg': set_multi_processing,
    'randomness': set_random_seed,
}

Keys = frozenset[str] | None  # None: any key


class Section(NamedTuple):
    """Who reads a dict of a config and which keys it takes.

    Attributes:
        owner: Name of the class or function; ``None`` where the dict is plain data that nothing claims.
        keys: The keys it takes; ``None`` where it takes any.
        target: The class or function itself, where there is one.
    """

    owner: str | None
    keys: Keys
    target: Callable | None = None


@functools.cache
def known_top_level() -> frozenset[str]:
    """Return the top-level names that the runner or our tools read."""
    runner = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
    return frozenset(runner | _OTHER_TOP_LEVEL | set(_TOP_LEVEL))


def role_of(key: str, around: Registry | None, top_level: bool = False) -> Registry | None:
    """Return the registry that builds what stands under ``key``, given that of the dict around it."""
    if top_level and key in _TOP_LEVEL:
        return _TOP_LEVEL[key]
    if key == 'sampler' and around is ours.MODELS:  # of a detector's proposals, not of a loader
        return ours.TASK_UTILS
    return _NESTED.get(key, around)


def section_of(node: dict, key: str, around: dict, role: Registry | None, scope: str) -> Section:
    """Say which keys the dict ``node``, standing under ``key`` of the dict ``around``, may hold.

    Raises:
        ConfigError: Its type is unknown.
    """
    kind, scope = node.get('type') or _default_type(node, key, role), node.get('_scope_', scope)
    if kind is None or role is None:
        return _untyped(key, around, scope)
    if isinstance(kind, str) and '.torchvision/' in f'.{kind}':
        return _torchvision(kind.rpartition('/')[2])
    target: Any = kind
    registry = role
    if isinstance(kind, str):
        target, registry = _resolve(kind, role, scope, anywhere=key not in _NESTED and key not in _TOP_LEVEL)
    if target is None:
        return Section(None, None)
    keys = parameters(target)
    extra = _EVERYWHERE | _TAKEN_BY_BUILDER.get(registry.root.name, set()) | _TAKEN_BY_KEY.get(key, set())
    return Section(_name(target), None if keys is None else keys | extra, target)


def _default_type(node: dict, key: str, role: Registry | None) -> str | None:
    if role is not _TOP_LEVEL.get(key):  # a model's own test_cfg is not the runner's
        return None
    if key == 'train_cfg' and 'by_epoch' in node:
        return 'EpochBasedTrainLoop' if node['by_epoch'] else 'IterBasedTrainLoop'
    # A constructor of its own may read several named optimisers instead of one.
    return None if 'constructor' in node and 'optimizer' not in node else _DEFAULT_TYPE.get(key)


def _torchvision(name: str) -> Section:
    """Keys of one of mmpretrain's wrappers, which hand everything on to the torchvision transform of that name."""
    target = getattr(torchvision.transforms, name, None)
    if target is None:
        raise ConfigError(f'torchvision has no transform {name!r}')
    keys = parameters(target)
    return Section(name, None if keys is None else keys | _EVERYWHERE, target)


def _untyped(key: str, around: dict, scope: str) -> Section:
    if key.endswith('_dataloader'):
        extra = {'num_batch_per_epoch', 'disable_subprocess_warning', 'dataset', 'sampler', 'batch_sampler'}
        return Section('DataLoader', (parameters(DataLoader) or frozenset()) | extra, DataLoader)
    if key == 'paramwise_cfg':
        return _paramwise(around.get('constructor', 'DefaultOptimWrapperConstructor'), scope)
    if key in _FREE_NAMES:
        return Section(key, None)
    schemas: dict[str, Keys] = {
        'env_cfg': frozenset({'cudnn_benchmark', 'float32_matmul_precision', 'mp_cfg', 'dist_cfg', 'resource_limit'}),
        **{name: (parameters(function) or frozenset()) - {'model'} for name, function in _FUNCTIONS.items()},
        'auto_scale_lr': frozenset({'enable', 'base_batch_size', 'accumulated', 'rule'}),
        'graft': parameters(GraftSource),
        'projector': (parameters(GraftSource) or frozenset()) - {'layers'},
        'part': parameters(Part),
        'l1_distance': frozenset({'weight', 'to_block'}),
        'evaluation': frozenset({'train', 'test', 'augmented', 'loader', 'feature', 'source', *_protocols()}),
        'loader': frozenset({'batch_size', 'num_workers'}),
        **{name: parameters(cast(Callable, protocol)) for name, protocol in _protocols().items()},
    }
    return Section(key, schemas[key], _FUNCTIONS.get(key)) if key in schemas else Section(None, None)


def _protocols() -> dict[str, Any]:
    """Name of a protocol -> its settings."""
    ours.PROTOCOLS.import_from_location()
    return ours.PROTOCOLS.module_dict


def _resolve(kind: str, role: Registry, scope: str, anywhere: bool = False) -> tuple[Callable | None, Registry]:
    """Find a type as the runner would: in the registry of its place.

    ``anywhere``: the registry was only inherited from the dict around. Then others are tried as well (data
    augmentations inside a model), and a name like none that exists is taken for plain data and gives ``None``.
    """
    with contextlib.suppress(ImportError):  # a scope that is not installed can still use mmengine's own types
        importlib.import_module(f'{scope}.registry')
    others = _loaded_registries() if anywhere else [ours.EVALUATOR] if role is ours.METRICS else []
    for registry in (role, *others):
        local = registry.root.children.get(scope, registry.root)
        found = _get(local, kind)
        if found is not None:
            return found, registry
    names = _names_near(role.root, scope)
    near = get_close_matches(kind, names, n=2, cutoff=0.75) or [n for n in names if n.rpartition('.')[2] == kind]
    if anywhere and not near:
        return None, role
    hint = f'; did you mean {" or ".join(repr(name) for name in near)}?' if near else ''
    raise ConfigError(f"unknown type '{kind}' (no {role.root.name} of scope '{scope}' has this name{hint})")


def _get(registry: Registry, kind: str) -> Callable | None:
    try:
        found = registry.get(kind)
    except (RuntimeError, ImportError, ValueError):  # mmengine's ways of saying that there is no such name
        return None
    return found if callable(found) else None


def _loaded_registries() -> list[Registry]:
    """Return the registries of every scope imported so far, ours first."""
    modules = [ours, *(sys.modules.get(f'{scope}.registry') for scope in ours.MODELS.root.children)]
    found = [value for module in modules if module for value in vars(module).values()]
    return list(dict.fromkeys(value for value in found if isinstance(value, Registry)))


def _names_near(root: Registry, scope: str) -> list[str]:
    """List what may be written as a type: bare names of the scope and the root, prefixed ones of all others."""
    names = list(root.module_dict)
    for other, child in list(root.children.items()):  # importing may add scopes
        child.import_from_location()
        names += [name if other == scope else f'{other}.{name}' for name in child.module_dict]
    return names


@functools.cache
def parameters(target: Callable) -> Keys:
    """Return the names a class or function can be called with, or ``None`` if it takes any."""
    if isinstance(target, functools.partial):
        target = target.func
    chain = [target]
    if inspect.isclass(target):
        chain = [vars(cls)['__init__'] for cls in target.__mro__[:-1] if '__init__' in vars(cls)]
    names: set[str] = set()
    for function in chain:
        kinds = inspect.signature(function).parameters.values()
        names |= {p.name for p in kinds if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        rest = next((p.name for p in kinds if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        taken = _taken_from(function, rest)
        if taken is None:
            return None
        names |= taken
    return frozenset(names - {'self'})


def _taken_from(function: Callable, rest: str) -> set[str] | None:
    """Return the literal keys a function takes out of its ``**rest``; ``None`` unless it hands the others up."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    taken: set[str] = set()
    understood: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr == '__init__':
            understood |= {word.value for word in node.keywords if word.arg is None}
        elif node.func.attr in ('pop', 'get', 'setdefault') and node.args and isinstance(node.args[0], ast.Constant):
            understood.add(node.func.value)
            if isinstance(node.func.value, ast.Name) and node.func.value.id == rest:
                taken.add(str(node.args[0].value))
    uses = {node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == rest}
    return taken if uses and uses <= understood else None


def _paramwise(constructor: Any, scope: str) -> Section:
    """Learn the keys of ``paramwise_cfg`` from a constructor's ``PARAMWISE_KEYS``, or else its source."""
    target = constructor
    if isinstance(constructor, str):
        target, _ = _resolve(constructor, ours.OPTIM_WRAPPER_CONSTRUCTORS, scope)
    if hasattr(target, 'PARAMWISE_KEYS'):
        return Section(_name(target), frozenset(target.PARAMWISE_KEYS))
    read = re.compile(r"paramwise_cfg(?:\.get\(|\.pop\(|\[)\s*'(\w+)'")
    chain = target.__mro__[:-1] if inspect.isclass(target) else (target,)
    found = [set(read.findall(inspect.getsource(cls))) for cls in chain]
    # A constructor whose own source shows no key reads them in a way that cannot be seen here.
    return Section(_name(target), frozenset[str]().union(*found) if found[0] else None)


def _name(target: Callable) -> str:
    return getattr(target, '__name__', None) or type(target).__name__
