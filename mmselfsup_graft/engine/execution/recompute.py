"""Activation checkpointing: the backward pass computes a block again instead of keeping what is inside it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.backends import cuda
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .stacks import block_stacks


def checkpoint_activations(model: nn.Module) -> int:
    """Let every block of a model keep its input only; the rest is computed a second time in the backward pass.

    Gradients are equal: the second pass draws the same random numbers (drop path), runs under the same autocast and
    with the same attention kernels, and its batch norm parts the same views and works on copies of running statistics,
    which move once. Forward passes without gradients (momentum encoder, evaluation) are not touched.

    ``block.forward`` is wrapped, as it is found: a compiled one stays compiled inside.

    Args:
        model: Changed in place.

    Returns:
        The number of blocks.

    Raises:
        ConfigError: See :func:`block_stacks`.
    """
    blocks = [block for stack in block_stacks(model) for block in stack]
    for block in blocks:
        # a partial of a bound method: a deep copy of the block is bound to the copy
        block.forward = partial(_recomputed, block.forward, _Recomputation(block))
    return len(blocks)


def _recomputed(forward: Callable[..., Any], recomputation: '_Recomputation', *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **recomputation.options(), **kwargs)


class _Recomputation:
    """What must be as in the first pass, beside the random state and autocast, of which torch takes care."""

    def __init__(self, block: nn.Module) -> None:
        self.norms: list[Any] = [module for module in block.modules() if isinstance(module, _BatchNorm)]

    def options(self) -> dict[str, Any]:
        """Options of torch's checkpoint: contexts where they are needed; a block without is easier to compile."""
        kernels = _attention_kernels()
        if not self.norms and len(kernels) == _NUM_KERNELS:
            return {}
        views = [getattr(norm, 'views', 1) for norm in self.norms]
        return {'context_fn': lambda: (nullcontext(), self._second_pass(kernels, views))}

    @contextmanager
    def _second_pass(self, kernels: list[SDPBackend], views: list[int]) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(kernels))
            for norm, parted in zip(self.norms, views):
                stack.enter_context(_copied_buffers(norm))
                stack.enter_context(_parting(norm, parted))
            yield


_NUM_KERNELS = 4


def _attention_kernels() -> list[SDPBackend]:
    """Kernels that attention may choose from at the moment: another choice would keep other tensors."""
    enabled = {
        SDPBackend.MATH: cuda.math_sdp_enabled(),
        SDPBackend.FLASH_ATTENTION: cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: cuda.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: cuda.cudnn_sdp_enabled(),
    }
    return [backend for backend, is_enabled in enabled.items() if is_enabled]


@contextmanager
def _parting(norm: Any, views: int) -> Iterator[None]:
    """Let batch norm see so many views in its input for a while, see :class:`JointViews`."""
    before, norm.views = getattr(norm, 'views', 1), views
    try:
        yield
    finally:
        norm.views = before


@contextmanager
def _copied_buffers(module: nn.Module) -> Iterator[None]:
    """Let a module write to copies of its buffers for a while."""
    kept = dict(module._buffers)
    module._buffers.update({name: value.clone() for name, value in kept.items() if value is not None})
    try:
        yield
    finally:
        module._buffers.update(kept)
