"""Which keys a section of a config takes: what the signatures of its type, or of the function that reads it, say."""

import contextlib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from inspect import Parameter
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import FUNCTIONS, STRATEGIES, Registry
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from mmselfsup_graft import registry as ours
from mmselfsup_graft.checkpoints import GraftSource
from mmselfsup_graft.datasets import Part
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import nearest

_AT_TOP: dict[str, Registry] = {
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
_NESTED: dict[str, Registry] = {  # at any depth; every other key belongs to the registry of the dict around it
    'data_preprocessor': ours.MODELS,
    'init_cfg': ours.WEIGHT_INITIALIZERS,
    'optimizer': ours.OPTIMIZERS,
    **dict.fromkeys(('dataset', 'datasets'), ours.DATASETS),
    **dict.fromkeys(('pipeline', 'transforms', 'policies'), ours.TRANSFORMS),
    **dict.fromkeys(('sampler', 'batch_sampler'), ours.DATA_SAMPLERS),
    **dict.fromkeys(('collate_fn', 'worker_init_fn'), FUNCTIONS),
    'vis_backends': ours.VISBACKENDS,
    'metrics': ours.METRICS,
}
_DEFAULT_TYPE = {
    **{'optim_wrapper': 'OptimWrapper', 'log_processor': 'LogProcessor', 'visualizer': 'Visualizer'},
    **{'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'},
}
# keys that the builder consumes, by the name of the registry or the key of the section
_TAKEN_BY_BUILDER = {
    'hook': {'priority'},
    'parameter scheduler': {'convert_to_iter_based', 'epoch_length'},
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    'loop': {'by_epoch'},
    'weight initializer': {'override', 'name', 'layer'},
    'norm_cfg': {'requires_grad', 'eps'},
    'act_cfg': {'inplace'},
    'policies': {'magnitude_key', 'magnitude_range'},
}
_READ_BY_RUNNER = {
    *('find_unused_parameters', 'sync_bn', 'activation_checkpointing', 'recompute', 'compile'),
    *('custom_imports', 'runner_type', 'resume_from', 'resume_anyway'),
}
_PARAMWISE = {  # mmengine documents them, but no signature names them; constructors of ours have PARAMWISE_KEYS
    *('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult'),
    *('dcn_offset_lr_mult', 'bypass_duplicate'),
}
# untyped sections: who reads them, and keys that their reader's signature does not name
_READERS: dict[str, tuple[Callable | None, Collection[str]]] = {
    '_dataloader': (DataLoader, {'dataset', 'num_batch_per_epoch', 'disable_subprocess_warning'}),
    'compile': (torch.compile, ()),
    'mp_cfg': (set_multi_processing, ()),
    'randomness': (set_random_seed, ()),
    'graft': (GraftSource, ()),
    'projector': (GraftSource, ()),
    'part': (Part, ()),
    'env_cfg': (None, {'cudnn_benchmark', 'float32_matmul_precision', 'mp_cfg', 'dist_cfg', 'resource_limit'}),
    'auto_scale_lr': (None, {'enable', 'base_batch_size', 'accumulated', 'rule'}),
    'l1_distance': (None, {'weight', 'to_block'}),
    'evaluation': (None, {'train', 'test', 'augmented', 'loader', 'feature', 'source'}),
    'loader': (None, {'batch_size', 'num_workers'}),
}
_NOT_TAKEN = {'projector': {'layers'}, 'compile': {'model'}}
_ANY_NAMES = ('custom_keys', 'default_hooks')  # chosen by the author of the config
_LENIENT = ('mmcv', 'mmdet', 'mmseg')  # their classes take keys out of sections, or add some, before they build them


class Section(NamedTuple):
    """Who reads a dict of a config (``None``: nothing that is known) and which keys it takes (``None``: any)."""

    owner: str | None
    keys: frozenset[str] | None
    target: Callable | None = None
    exact: bool = True  # no other keys: a class of another library may use its **kwargs in its own way

    def refuses(self, key: str) -> bool:
        """Whether a key is certainly wrong. If others may be right, only a misspelling of a known one is."""
        if self.keys is None or key in self.keys:
            return False
        return self.exact or bool(nearest(key, self.keys, cutoff=0.85))


#: top-level names that are read; others are variables
TOP_LEVEL = (frozenset(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}).union(_READ_BY_RUNNER, _AT_TOP)


class Place(NamedTuple):
    """A value of a config with all that decides who reads it."""

    node: Any
    path: str
    key: str
    around: dict
    role: Registry | None
    scope: str

    def child(self, key: Any) -> 'Place':
        """Step to one key of a dict or one index of a list; the items of a list stand where the list stands."""
        path = f'{self.path}.{key}'.lstrip('.')
        if isinstance(self.node, list | tuple):
            return self._replace(node=self.node[int(key)], path=path)
        role = role_of(key, self.role, is_top_level=not self.path)
        return Place(self.node[key], path, key, self.node, role, self.node.get('_scope_', self.scope))

    def below(self) -> Iterator['Place']:
        """Yield the place itself and all below it that something may read."""
        yield self
        inner = self.node if isinstance(self.node, dict) else ()
        for key in range(len(self.node)) if isinstance(self.node, list | tuple) else inner:
            if self.path or key in TOP_LEVEL:
                yield from self.child(key).below()

    def section(self) -> Section:
        """Say which keys may stand here."""
        if not self.path:
            return Section('a config', TOP_LEVEL, exact=False)
        return section_of(self.node, self.key, self.around, self.role, self.scope)


def root_of(cfg: Config) -> Place:
    """Return the place of the whole config."""
    return Place(cfg.to_dict(), '', '', {}, None, cfg.get('default_scope') or 'mmengine')


def role_of(key: str, around: Registry | None, is_top_level: bool = False) -> Registry | None:
    """Return the registry that builds what stands under ``key``, given that of the dict around it."""
    if is_top_level and key in _AT_TOP:
        return _AT_TOP[key]
    if key == 'sampler' and around is ours.MODELS:  # of a detector's proposals, not of a loader
        return ours.TASK_UTILS
    return _NESTED.get(key, around)


def section_of(node: dict, key: str, around: dict, role: Registry | None, scope: str) -> Section:
    """Say which keys the dict ``node``, standing under ``key`` of the dict ``around``, may hold.

    Raises:
        ConfigError: Its type is unknown.
    """
    target, scope = node.get('type') or _default_type(node, key, role), node.get('_scope_', scope)
    if target is None and key == 'data_preprocessor' and isinstance(around.get('type'), str):
        model, _ = _resolve(around['type'], ours.MODELS, scope)
        target = getattr(model, 'PREPROCESSOR', None)
    if target is None or role is None:
        return _untyped(key, around, scope)
    if isinstance(target, str):
        target, role = _resolve(target, role, scope, anywhere=key not in _NESTED and key not in _AT_TOP)
    if target is None:
        return Section(None, None)
    if isinstance(target, functools.partial):  # mmpretrain's wrapper of a transform of torchvision
        target = target.keywords.get('transform', target.func)
    keys, exact = parameters(target)
    taken = {'type', '_scope_', '_delete_'}.union(*(_TAKEN_BY_BUILDER.get(name, ()) for name in (role.root.name, key)))
    return Section(_name(target), keys | taken, target, exact)


def _default_type(node: dict, key: str, role: Registry | None) -> str | None:
    if role is not _AT_TOP.get(key):  # a model's own test_cfg is not the runner's
        return None
    if key == 'train_cfg' and 'by_epoch' in node:
        return 'EpochBasedTrainLoop' if node['by_epoch'] else 'IterBasedTrainLoop'
    # A constructor of its own may read several named optimizers instead of one.
    return None if 'constructor' in node and 'optimizer' not in node else _DEFAULT_TYPE.get(key)


def _untyped(key: str, around: dict, scope: str) -> Section:
    if key == 'paramwise_cfg':
        target = around.get('constructor', 'DefaultOptimWrapperConstructor')
        if isinstance(target, str):
            target, _ = _resolve(target, ours.OPTIM_WRAPPER_CONSTRUCTORS, scope)
        given = _PARAMWISE if target is DefaultOptimWrapperConstructor else getattr(target, 'PARAMWISE_KEYS', None)
        return Section(_name(target), None if given is None else frozenset(given))
    ours.PROTOCOLS.import_from_location()
    protocols: dict[str, Any] = ours.PROTOCOLS.module_dict
    readers = {**_READERS, **{name: (protocol, ()) for name, protocol in protocols.items()}}
    name = '_dataloader' if key.endswith('_dataloader') else key
    if name not in readers:
        return Section(key if key in _ANY_NAMES else None, None)
    reader, more = readers[name]
    keys = (parameters(reader)[0] if reader else frozenset()).union(more, protocols if key == 'evaluation' else ())
    return Section('DataLoader' if reader is DataLoader else key, keys - _NOT_TAKEN.get(key, set()), reader)


@functools.cache
def parameters(target: Callable) -> tuple[frozenset[str], bool]:
    """Return the keywords of a class or function, and whether it takes no others.

    The signatures along a class's ``__init__`` chain count as far as they have ``**kwargs``. A class of this package
    hands these on to its base, and so does one with ``*args, **kwargs``; others may use them in their own way.
    """
    chain: list[Any] = [target]
    if inspect.isclass(target):
        chain = [cls for cls in target.__mro__[:-1] if '__init__' in vars(cls)]
    names, exact = set[str](), True
    for each in chain:
        given = inspect.signature(vars(each)['__init__'] if inspect.isclass(each) else each).parameters.values()
        kinds = {parameter.kind for parameter in given}
        names |= {p.name for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)} - {'self'}
        library = each.__module__.partition('.')[0]
        hands_on = {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD} <= kinds and Parameter.KEYWORD_ONLY not in kinds
        exact &= library not in _LENIENT and (library == ours.SCOPE or hands_on or Parameter.VAR_KEYWORD not in kinds)
        if Parameter.VAR_KEYWORD not in kinds:
            return frozenset(names), exact
    return frozenset(names), not chain


def _resolve(kind: str, role: Registry, scope: str, anywhere: bool = False) -> tuple[Callable | None, Registry]:
    """Find a type as the runner would: in the registry of its place.

    ``anywhere``: the registry was only inherited from the dict around. Then others are tried as well (data
    augmentations inside a model), and a name like none that exists is taken for plain data and gives ``None``.
    """
    with contextlib.suppress(ImportError):  # a scope that is not installed can still use mmengine's own types
        importlib.import_module(f'{scope}.registry')
    modules = [ours, *(sys.modules.get(f'{each}.registry') for each in role.root.children)] if anywhere else []
    others = [each for module in modules if module for each in vars(module).values() if isinstance(each, Registry)]
    for registry in dict.fromkeys([role, *others, *([ours.EVALUATOR] if role is ours.METRICS else [])]):
        with contextlib.suppress(RuntimeError, ImportError, ValueError):  # mmengine's ways of saying "not found"
            found = registry.root.children.get(scope, registry.root).get(kind)
            if callable(found):
                return found, registry
    names = list(role.root.module_dict)  # what may be written: bare names of the scope and the root, others prefixed
    for other, child in list(role.root.children.items()):  # importing may add scopes
        child.import_from_location()
        names += [name if other == scope else f'{other}.{name}' for name in child.module_dict]
    near = nearest(kind, names, 2, 0.75) or [name for name in names if name.rpartition('.')[2] == kind]
    if not near and (anywhere or scope in _LENIENT):
        return None, role
    hint = f'; did you mean {" or ".join(repr(name) for name in near)}?' if near else ''
    raise ConfigError(f"unknown type '{kind}' (no {role.root.name} of scope '{scope}' has this name{hint})")


def _name(target: Any) -> str:
    return getattr(target, '__name__', None) or type(target).__name__
