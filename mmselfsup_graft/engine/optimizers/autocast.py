"""Mixed precision for CPU and GPU, where the machine supports it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import OPTIM_WRAPPERS

from .wrapper import DeviceOptimWrapper


def half_precision_here() -> torch.dtype | None:
    """The half-precision type for training on this machine: bfloat16 if native, else float16 on a GPU, else None.

    bfloat16 needs no loss scaling; on a CPU without the instructions it is emulated and slower than float32.
    """
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else None


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(DeviceOptimWrapper):
    """Autocast on any device, with loss scaling only where float16 needs it.

    Differs from mmengine's AmpOptimWrapper, which refuses to run on a CPU and always scales the loss.

    Args:
        dtype: ``auto`` (see :func:`half_precision_here`; plain float32 if there is none), ``bfloat16``,
            ``float16``, or ``float32`` for no autocast.
        **kwargs: See :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ConfigError: For another dtype, or float16 on a CPU.
    """

    def __init__(self, dtype: str = 'auto', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dtype not in ('auto', 'bfloat16', 'float16', 'float32'):
            raise ConfigError(f'AutocastOptimWrapper: dtype must be auto, bfloat16, float16 or float32, got {dtype!r}')
        self.device_type = 'cuda' if torch.cuda.is_available() else 'cpu'
        if dtype == 'float16' and self.device_type == 'cpu':
            raise ConfigError('AutocastOptimWrapper: float16 training needs a GPU; use dtype="auto" or "bfloat16"')
        wanted = half_precision_here() if dtype == 'auto' else getattr(torch, dtype)
        self.dtype = None if wanted == torch.float32 else wanted
        if wanted is None:
            print_log('this machine has no native half precision: training in float32', logger='current')
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Back-propagate the (scaled) loss."""
        super().backward(self.loss_scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale, clip if configured, update."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        """Optimizer state and that of the loss scaler."""
        return {**super().state_dict(), 'loss_scaler': self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Inverse of :meth:`state_dict`."""
        state = dict(state_dict)
        scaler = state.pop('loss_scaler', None)
        if scaler:
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass."""
        with ExitStack() as stack:
            stack.enter_context(super().optim_context(model))
            if self.dtype is not None:
                stack.enter_context(torch.autocast(self.device_type, dtype=self.dtype))
                if self.device_type == 'cpu':
                    # measured: the CPU's fused attention spends more than half of a bfloat16 step in its backward
                    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield
