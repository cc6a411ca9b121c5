"""Several views of a batch in one forward pass, with batch norm per view."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batch_norm import ViewNorm

# number of views, and whether they follow each other as wholes; otherwise they are interleaved
_VIEWS: ContextVar[tuple[int, bool]] = ContextVar('views in the batches of the forward pass', default=(1, False))


def last_view(batch: torch.Tensor) -> torch.Tensor:
    """The last view [B, ...] in a batch [B V, ...] of the current forward pass; for hooks that read features."""
    views, stacked = _VIEWS.get()
    return batch[len(batch) // views * (views - 1) :] if stacked else batch[views - 1 :: views]


@contextmanager
def stacked_views(views: int) -> Iterator[None]:
    """Within the block, batches hold this number of whole views, one after the other, with joint batch norm."""
    token = _VIEWS.set((views, True))
    try:
        yield
    finally:
        _VIEWS.reset(token)


class JointViews:
    """Applies a function to every view of a batch in one forward pass: twice the batch, half of the kernel calls.

    The result is that of one pass per view, up to rounding. Views of several sizes, and modules with a batch norm that
    cannot separate views (``nn.SyncBatchNorm``, one that was not built by ``norm_cfg``), are computed view by view.

    Args:
        *modules: The modules that the function calls.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.norms: list[Any] = [norm for module in modules for norm in _batch_norms(module)]

    def __call__(self, function: Callable[..., torch.Tensor], *columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Results [B, ...] of the function, one for every view.

        Args:
            function: From tensors [B, ...] to a tensor [B, ...]; may call only batch norms of the modules.
            *columns: Its arguments, each a list of one tensor [B, ...] per view.
        """
        if not self._can_join(columns):
            return [function(*each) for each in zip(*columns)]
        views = len(columns[0])
        with self._apart(views, views):
            return separate(function(*(interleave(column) for column in columns)), views)

    def in_groups(
        self, function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, groups: int
    ) -> torch.Tensor:
        """Results [B, ...] of the function for one view, of which batch norm sees consecutive groups apart.

        Args:
            function: From a tensor [B, ...] to a tensor [B, ...]; may call only batch norms of the modules.
            batch: [B, ...].
            groups: Their number, which divides B.
        """
        parts = batch.chunk(groups)
        if groups == 1:
            return function(batch)
        if not self._can_join([parts]):
            return torch.cat([function(part) for part in parts])
        with self._apart(groups, views=1):
            return torch.cat(separate(function(interleave(parts)), groups))

    def _can_join(self, columns: Sequence[Sequence[torch.Tensor]]) -> bool:
        one_shape = all(len({tensor.shape for tensor in column}) == 1 for column in columns)
        return one_shape and all(isinstance(norm, ViewNorm) for norm in self.norms)

    @contextmanager
    def _apart(self, parts: int, views: int) -> Iterator[None]:
        """Within the block, batches hold interleaved parts with a batch norm each; hooks are told of the views."""
        for norm in self.norms:
            norm.views = parts
        token = _VIEWS.set((views, False))
        try:
            yield
        finally:
            _VIEWS.reset(token)
            for norm in self.norms:
                norm.views = 1


def interleave(views: Sequence[torch.Tensor]) -> torch.Tensor:
    """One batch [B V, ...] of V views, each [B, ...]."""
    return torch.stack(list(views), dim=1).flatten(0, 1)


def separate(batch: torch.Tensor, views: int) -> list[torch.Tensor]:
    """The views, each [B, ...], of an interleaved batch [B V, ...]."""
    return list(batch.unflatten(0, (-1, views)).unbind(1))


def _batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """All batch norms inside; faster than ``modules()``, as it is called in every pass."""
    found: list[_BatchNorm] = []
    inside: list[nn.Module] = [module]
    while inside:
        each = inside.pop()
        inside += [child for child in each._modules.values() if child is not None]
        if isinstance(each, _BatchNorm):
            found.append(each)
    return found
