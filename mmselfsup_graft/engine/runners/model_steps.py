"""What happens to a model between its construction and its first step, in order."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from mmselfsup_graft.engine.execution.compiling import compile_blocks
from mmselfsup_graft.engine.execution.recompute import checkpoint_activations
from mmselfsup_graft.engine.execution.region_precision import keep_regions_precise
from mmselfsup_graft.engine.execution.sharding import FullySharded, shards
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.necks.sync_bn import make_sync_bn_portable

_Runner = Any  # GraftRunner, whose module imports this one
_WrapperCfg = dict[str, Any] | None
_DDP = 'MMDistributedDataParallel'
_DTYPES = ('float32', 'bfloat16')


def precise_regions(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """Detectors compute regions in float32 under autocast."""
    keep_regions_precise(model)
    return model


def compiled(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """``compile=True``, or a dict of options: the blocks of a model to be trained are compiled."""
    options = runner.cfg.get('compile') or False
    if options is False or runner._train_loop is None:
        return model
    if options is not True and not isinstance(options, dict):
        raise ConfigError(f'compile takes True, False or a dict of options of torch.compile, got {options!r}')
    names = compile_blocks(model, {} if options is True else options)
    runner.logger.info(f'{len(names)} blocks are compiled; the first steps take longer')
    return model


def recomputed(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """``recompute=True``: the backward pass computes blocks again. A compiled block stays compiled inside."""
    if runner.cfg.get('recompute', False):
        runner.logger.info(f'{checkpoint_activations(model)} blocks are recomputed in the backward pass')
    return model


def portable_batch_norm(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """Processes without a GPU get batch norm that synchronizes there; torch's refuses."""
    if runner.distributed and not torch.cuda.is_available():
        make_sync_bn_portable(model)
    return model


def sharded_weights(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """A model to be sharded gets its first weights while they are whole; others get them when training starts."""
    if runner.distributed and shards(wrapper_cfg):
        model.to(get_device())
        runner.start_weights()
    return model


def wrapped(runner: _Runner, model: nn.Module, wrapper_cfg: _WrapperCfg) -> nn.Module:
    """Move to the device; with several processes shard, or wrap by DDP, see :func:`wrapper_options`.

    ``gradient_dtype='bfloat16'`` lets DDP exchange gradients in half precision; other wrappers do not support it.

    Raises:
        ConfigError: For another ``gradient_dtype``.
    """
    if not runner.distributed or is_model_wrapper(model):
        return Runner.wrap_model(runner, wrapper_cfg, model)
    options = wrapper_options(wrapper_cfg, runner.cfg.get('find_unused_parameters', False))
    gradient_dtype = options.pop('gradient_dtype', 'float32') if is_ddp(options) else 'float32'
    if gradient_dtype not in _DTYPES:
        raise ConfigError(f'model_wrapper_cfg.gradient_dtype must be {" or ".join(_DTYPES)}, got {gradient_dtype!r}')
    parallel = Runner.wrap_model(runner, options, model)
    if gradient_dtype == 'bfloat16':
        parallel.register_comm_hook(None, bf16_compress_hook)
    return parallel


def is_ddp(wrapper_cfg: Mapping[str, Any]) -> bool:
    """Whether a config's ``model_wrapper_cfg`` asks for DDP, which is the default."""
    return wrapper_cfg.get('type', _DDP) in (_DDP, f'mmengine.{_DDP}', MMDistributedDataParallel)


def wrapper_options(given: _WrapperCfg, find_unused_parameters: bool = False) -> dict[str, Any]:
    """Options of the wrapper: those of DDP with our defaults, another wrapper's as they are.

    DDP's gradients are views of the buffers that are exchanged, unless the config says
    ``gradient_as_bucket_view=False``: one copy of all gradients less, in memory and in time.
    """
    given = dict(given or {})
    if shards(given):
        return {**given, 'type': FullySharded}  # mmengine looks for a name among its own alone
    if not is_ddp(given):
        return given
    defaults = {'type': _DDP, 'broadcast_buffers': False, 'find_unused_parameters': find_unused_parameters}
    return {**defaults, 'gradient_as_bucket_view': True, **given}


MODEL_STEPS: tuple[Callable[[_Runner, nn.Module, _WrapperCfg], nn.Module], ...] = (
    precise_regions,
    compiled,
    recomputed,
    portable_batch_norm,
    sharded_weights,
    wrapped,
)
