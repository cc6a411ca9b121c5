"""Queue of keys: the negatives of MoCo."""

import logging
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import broadcast
from mmengine.logging import print_log
from torch import nn

from mmselfsup_graft.errors import ConfigError


class KeyQueue(nn.Module):
    """The last K keys of all processes, the oldest of which are overwritten (He et al., arXiv 1911.05722).

    Buffers: ``queue`` [D, K], at the start random columns of length 1, equal on all processes, and ``queue_ptr`` [1],
    where the next keys go. That position is counted on the host; the buffer only follows, so no step waits for the
    device.

    Args:
        width: Length D of a key.
        size: Number K of keys.

    Raises:
        ConfigError: If the size is not a whole number > 0.
    """

    queue: torch.Tensor
    queue_ptr: torch.Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f'the queue needs a whole number of keys > 0, got {size!r}; set queue_size')
        self.register_buffer('queue', F.normalize(torch.randn(width, size), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))
        self.size, self.position = size, 0
        #: False where a batch is only measured: its keys are not stored
        self.update_due = True

    @torch.no_grad()
    def init_weights(self) -> None:
        """Start with new random keys, those of the first process."""
        self.queue.copy_(F.normalize(torch.randn_like(self.queue), dim=0))
        broadcast(self.queue)  # DDP broadcasts no buffers
        self._move_to(0)

    @torch.no_grad()
    def push(self, keys: torch.Tensor) -> None:
        """Overwrite the oldest keys by those of all processes, [n, D] with n <= K."""
        if not self.update_due:
            return
        columns, first = keys.t().to(self.queue.dtype), self.size - self.position
        self.queue[:, self.position : self.position + len(keys)] = columns[:, :first]
        if len(keys) > first:  # only after resuming with another batch size
            self.queue[:, : len(keys) - first] = columns[:, first:]
        self._move_to((self.position + len(keys)) % self.size)

    def check_batches(self, batch: int, images: int | None = None, drop_last: bool = True) -> None:
        """Compare the size with batches of all processes, and with the data.

        Args:
            batch: Images of all processes.
            images: In an epoch, on all processes; None if unknown.
            drop_last: Whether an incomplete last batch is left out.

        Raises:
            ConfigError: If the batch does not divide the size, or the last batch would be smaller.
        """
        if self.size % batch:
            nearest = max(1, round(self.size / batch)) * batch
            raise ConfigError(
                f'queue_size={self.size} is not a multiple of the {batch} images of a batch (of all processes); the '
                f'nearest size that is one: queue_size={nearest}'
            )
        if images is None:
            return
        if images % batch and not drop_last:
            raise ConfigError(
                f'the last batch of every epoch would have {images % batch} images instead of {batch}, and the queue '
                'takes whole batches: set train_dataloader.drop_last=True'
            )
        if self.size >= images:
            print_log(
                f'queue_size={self.size}, but an epoch has {images} images: the queue holds keys of the same images, '
                'which are no negatives; take a size well below the number of images',
                logger='current',
                level=logging.WARNING,
            )

    def _move_to(self, position: int) -> None:
        self.position = position
        self.queue_ptr.fill_(position)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if f'{prefix}queue_ptr' in state_dict:
            self.position = int(self.queue_ptr) % self.size
