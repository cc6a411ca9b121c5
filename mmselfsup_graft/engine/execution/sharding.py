"""Weights, gradients and optimizer state shared out over the processes (ZeRO-3, arXiv 1910.02054), by torch's FSDP 2.

mmengine has FSDP in ``FSDPStrategy`` of its FlexibleRunner, which is not used here: that is the first version of
FSDP, which torch keeps for old code only, it insists on CUDA, and it needs another runner, whose checkpoints, hooks and
way of resuming are not ours. ``torch.distributed.fsdp.fully_shard`` changes modules in place instead: parameters keep
their names and shapes and become ``DTensor``s, so parameter groups, layer-wise rates, clipping and moving averages
work on them as they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.optim import OptimWrapper
from mmengine.utils import apply_to
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODEL_WRAPPERS

from .stacks import block_stacks


@MODEL_WRAPPERS.register_module()
class FullySharded(nn.Module):
    """A model whose weights, gradients and optimizer state are shared out over the processes.

    Every block is a unit of its own: its weights are gathered when it is called and given back behind it. All that is
    no block, and the last block of every stack, is one more unit, whose weights are there for the whole step: the
    backward pass begins with them.

    Loss, gradients and update are those of :class:`torch.nn.parallel.DistributedDataParallel` up to rounding. With
    accumulated gradients every micro-batch is reduced at once, as whole gradients are what does not fit.

    Args:
        module: The model, with its weights: on every process the same. It is changed in place.
        group_size: Processes that share one copy of the weights; each group of so many holds a whole one (hybrid
            sharding: the GPUs of a node). None: all of them.
        reshard_after_forward: Whether a block's weights are given back between its forward and its backward pass.
            False needs the memory of the whole weights in exchange for less communication (ZeRO-2).
        gather_dtype: ``bfloat16`` gathers blocks in half precision, half of the traffic; they compute in it then, also
            their norms. ``float32`` leaves precision to autocast. Gradients are always reduced in float32.

    Raises:
        ConfigError: For another dtype, a group size that does not divide the number of processes, a model without
            known blocks, one with ``l1_distance``, which reads all weights at once, or one with a part that changes
            weights inside the forward pass, as the prototypes of SwAV are normalized.
    """

    def __init__(
        self,
        module: nn.Module,
        group_size: int | None = None,
        reshard_after_forward: bool = True,
        gather_dtype: str = 'float32',
    ) -> None:
        super().__init__()
        if gather_dtype not in ('float32', 'bfloat16'):
            raise ConfigError(f'FullySharded: gather_dtype must be float32 or bfloat16, got {gather_dtype!r}')
        if any(getattr(part, 'l1_weight', 0.0) for part in module.modules()):
            raise ConfigError(
                'FullySharded: l1_distance reads all weights at once, which no process has; leave model_wrapper_cfg out'
            )
        for part in module.modules():
            if getattr(part, 'changes_weights', False):
                raise ConfigError(
                    f'FullySharded: {type(part).__name__} changes weights in the forward pass, where a sharded model '
                    'has copies of them that are thrown away; leave model_wrapper_cfg out'
                )
        for name, parameter in module.named_parameters():
            if parameter.ndim == 0:
                raise ConfigError(f'FullySharded: {name} is a single number and cannot be shared out')
        mesh = _mesh(next(module.parameters()).device.type, group_size)
        half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        precision = half if gather_dtype == 'bfloat16' else MixedPrecisionPolicy()
        for stack in block_stacks(module):
            for block in stack[:-1]:
                fully_shard(block, mesh=mesh, reshard_after_forward=reshard_after_forward, mp_policy=precision)
        fully_shard(module, mesh=mesh, reshard_after_forward=False)
        self.module: Any = module
        self._averaged: list[Any] = [part for part in module.modules() if hasattr(part, 'update_momentum')]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model gives."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, torch.Tensor]:
        """The model's training step; moving averages move before it, while their parameters are shards."""
        due = [part for part in self._averaged if part.update_due]
        for part in due:
            part.update_momentum()
            part.update_due = False  # inside the step weights are gathered copies: an average would be lost
        try:
            return self.module.train_step(data, optim_wrapper)
        finally:
            for part in due:
                part.update_due = True

    def val_step(self, data: Any) -> list:
        """The model's validation step."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """The model's test step."""
        return self.module.test_step(data)


def _mesh(device: str, group_size: int | None) -> DeviceMesh:
    world = get_world_size()
    if group_size is None:
        return init_device_mesh(device, (world,))
    if group_size < 1 or world % group_size:
        raise ConfigError(f'FullySharded: group_size={group_size} does not divide the {world} processes')
    return init_device_mesh(device, (world // group_size, group_size), mesh_dim_names=('replicate', 'shard'))


def shards(model_wrapper_cfg: Mapping[str, Any] | None) -> bool:
    """Whether a config's ``model_wrapper_cfg`` asks for a sharded model."""
    kind: Any = (model_wrapper_cfg or {}).get('type')
    kind = MODEL_WRAPPERS.get(kind) if isinstance(kind, str) else kind
    return isinstance(kind, type) and issubclass(kind, FullySharded)


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are shared out."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


# ---------------------------------------------------------------- states, whole and in shares
def gathered(state: Any) -> Any:
    """A state with whole tensors on the CPU instead of shares, on the first process; all processes must call it.

    Args:
        state: Nested dicts and lists, as of a model or an optimizer.

    Returns:
        The same; on other processes every shared tensor is None.
    """
    keep = is_main_process()

    def whole(share: DTensor) -> torch.Tensor | None:
        tensor = share.full_tensor()
        return tensor.detach().cpu() if keep else None

    return apply_to(state, lambda each: isinstance(each, DTensor), whole)


@contextmanager
def whole_states(model: nn.Module, optimizer: Optimizer | None = None) -> Iterator[None]:
    """Let ``state_dict()`` of a sharded model and its optimizer give whole tensors on the first process for a while.

    All processes must enter it; elsewhere the states are of no use meanwhile. Other models are left alone.

    Args:
        model: The model itself, without its wrapper.
        optimizer: Its optimizer, if that is wanted too.
    """
    if not is_sharded(model):
        yield
        return
    weights = gathered(dict(model.state_dict()))
    handles = [model.register_state_dict_post_hook(lambda _module, state, *_: state.update(weights))]
    if optimizer is not None:
        moments = gathered(optimizer.state_dict())
        handles.append(optimizer.register_state_dict_post_hook(lambda *_: moments))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def share_like(tensor: torch.Tensor, target: Any) -> torch.Tensor:
    """Share of this process in a whole tensor, placed as ``target`` is; the tensor itself if that is not shared."""
    if not isinstance(target, DTensor):
        return tensor
    whole = tensor.to(target.device)
    return distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)


def shared_weights(state: Mapping[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    """A whole state dict as ``model`` takes it, in shares where it has shares; names and shapes must be its own."""
    targets = model.state_dict()
    return {name: share_like(value, targets[name]) for name, value in state.items()}


def shared_moments(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's whole state as an optimizer of sharded parameters takes it.

    Args:
        state: As of :meth:`torch.optim.Optimizer.state_dict`, of the same parameters in the same groups.
        optimizer: Of a sharded model, or of any other.
    """
    targets = dict(zip(_flat(state['param_groups']), _flat(optimizer.param_groups)))
    moments = {
        number: {
            name: share_like(value, targets[number])
            if isinstance(value, torch.Tensor) and value.shape == targets[number].shape
            else value
            for name, value in of_one.items()
        }
        for number, of_one in state['state'].items()
    }
    return {**state, 'state': moments}


def _flat(groups: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [each for group in groups for each in group['params']]
