"""Several views of a batch in one forward pass, with batch norm that still sees one view at a time.

The views of an image follow each other: sample 0 of view 0, sample 0 of view 1, sample 1 of view 0, ... A batch
[B V, C, ...] in that order is, without a copy, a batch [B, V C, ...] whose channels are those of all views, and
ordinary batch norm of that is batch norm of each view.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_VIEWS: ContextVar[int] = ContextVar('views in the batches of the forward pass', default=1)


def views_in_pass() -> int:
    """How many interleaved views are in the batches of the forward pass at hand; asked by who looks at features.

    Of a batch [B V, ...] at the end of it, ``batch[views_in_pass() - 1 :: views_in_pass()]`` is the last view.
    """
    return _VIEWS.get()


def interleave(views: Sequence[torch.Tensor]) -> torch.Tensor:
    """One batch [B V, ...] of V views, each [B, ...]."""
    return torch.stack(list(views), dim=1).flatten(0, 1)


def separate(batch: torch.Tensor, views: int) -> list[torch.Tensor]:
    """The views, each [B, ...], of an interleaved batch [B V, ...]."""
    return list(batch.unflatten(0, (-1, views)).unbind(1))


class ViewNorm(_BatchNorm):
    """Batch norm that can tell views apart: while :func:`views_apart` says so, each has its own batch statistics.

    Running statistics take in view after view, as if each had come alone.
    """

    #: views in a batch; more than one only inside of :func:`views_apart`
    views: int = 1

    @property
    def uses_batch_statistics(self) -> bool:
        """In training, and always where there are no running ones."""
        return self.training or (self.running_mean is None and self.running_var is None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x`` [B V, C, ...]."""
        if self.views == 1 or not self.uses_batch_statistics:
            return super().forward(x)
        self._check_input_dim(x)
        channels = x.unflatten(0, (-1, self.views)).flatten(1, 2)  # [B, V C, ...]
        normalised, mean, var = self._batch_norm(channels)
        for of_view in zip(mean.chunk(self.views), var.chunk(self.views)):
            self._track(*of_view)
        return normalised.unflatten(1, (self.views, -1)).flatten(0, 1)

    def _batch_norm(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``x`` normalised and its mean and unbiased variance, all over V C channels."""
        # torch gives the statistics away only by running averages: of momentum 1 they are those of this batch
        dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        mean, var = torch.zeros(2, x.shape[1], dtype=dtype, device=x.device)
        weight, bias = self._affine_of_views()
        return F.batch_norm(x, mean, var, weight, bias, True, 1.0, self.eps), mean, var

    def _affine_of_views(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if not self.affine:
            return None, None
        return self.weight.repeat(self.views), self.bias.repeat(self.views)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, var: torch.Tensor) -> None:
        """Move running statistics towards those of a batch, the variance unbiased."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        self.running_var.lerp_(var.to(self.running_var.dtype), factor)


class _BatchNorm1d(ViewNorm, nn.BatchNorm1d):
    pass


class _BatchNorm2d(ViewNorm, nn.BatchNorm2d):
    pass


_WITH_VIEWS: dict[type, type] = {nn.BatchNorm1d: _BatchNorm1d, nn.BatchNorm2d: _BatchNorm2d}


def _batch_norms(module: nn.Module) -> list[Any]:
    """All batch norms inside; they are asked for in every pass, and ``modules()`` spends its time on names."""
    found, inside = [], [module]
    while inside:
        each = inside.pop()
        inside += [child for child in each._modules.values() if child is not None]
        if isinstance(each, _BatchNorm):
            found.append(each)
    return found


def can_part_views(module: nn.Module) -> bool:
    """Whether every batch norm inside can tell views apart, see :func:`let_norms_part_views`."""
    return all(isinstance(norm, ViewNorm) for norm in _batch_norms(module))


def let_norms_part_views(module: nn.Module) -> None:
    """Make torch's plain batch norms ones that can tell views apart; their tensors and names stay.

    Others (``nn.SyncBatchNorm``, subclasses) are left as they are: a module with one of them takes view by view.
    """
    for norm in _batch_norms(module):
        norm.__class__ = _WITH_VIEWS.get(type(norm), type(norm))


@contextmanager
def views_apart(module: nn.Module, views: int) -> Iterator[None]:
    """Inside, batches that pass through a module are so many interleaved views, and batch norm sees each alone.

    Only for modules that can, see :func:`can_part_views`.
    """
    norms = _batch_norms(module)
    for norm in norms:
        norm.views = views
    token = _VIEWS.set(views)
    try:
        yield
    finally:
        _VIEWS.reset(token)
        for norm in norms:
            norm.views = 1
