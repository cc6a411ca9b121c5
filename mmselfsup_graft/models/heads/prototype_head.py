"""Prototypes, queue and counters of SwAV."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import at_least_float32, sinkhorn
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """Scores of features with prototypes, and codes of the assigned crops (Caron et al., SwAV, arXiv 2006.09882).

    The prototypes have unit length at the beginning of every optimizer step; a checkpoint holds them as the step left
    them. The queue holds former features of every assigned crop, of all processes, newest first: a process takes its
    share, and a run that is resumed with other processes splits it anew. With another batch, as many of its rows are
    used as the rule below gives. Both counters are numbers of the host and part of the checkpoint.

    :class:`mmselfsup_graft.engine.OptimizerStepHook` tells the epoch and the steps of the optimizer.

    Args:
        in_channels: D, width of the features.
        num_prototypes: K.
        temperature: t of the predictions.
        epsilon: Of :func:`sinkhorn`.
        iterations: Likewise.
        assigned: Numbers of the crops that get codes.
        frozen_steps: The first optimizer steps do not change the prototypes: no update, no decay, no momentum.
        queue_length: L, over all processes; 0 for no queue. Of it the largest multiple of the joined batch is used,
            and only once that many features are in it.
        epoch_queue_starts: Epoch, counted from 0, whose features are the first in the queue.

    Raises:
        ConfigError: If a value is out of its range.
    """

    changes_weights = True  # prototypes are normalized in place

    counters: torch.Tensor
    queue: torch.Tensor

    def __init__(
        self,
        in_channels: int = 128,
        num_prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        assigned: Sequence[int] = (0, 1),
        frozen_steps: int = 0,
        queue_length: int = 0,
        epoch_queue_starts: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(num_prototypes, bool) or not isinstance(num_prototypes, int) or num_prototypes < 1:
            raise ConfigError(
                f'PrototypeHead: num_prototypes={num_prototypes!r} must be a whole number > 0; there is one set'
            )
        if not (0 < temperature < math.inf and 0 < epsilon < math.inf) or iterations < 1:
            raise ConfigError(
                f'PrototypeHead: temperature={temperature} and epsilon={epsilon} must be greater than 0 and finite, '
                f'iterations={iterations} at least 1'
            )
        if not isinstance(assigned, Sequence) or not all(type(crop) is int for crop in assigned):
            raise ConfigError(f'PrototypeHead: assigned={assigned!r} must be a list of numbers of crops, from 0')
        if not assigned or len(set(assigned)) < len(assigned) or min(assigned) < 0:
            raise ConfigError(f'PrototypeHead: assigned={list(assigned)} must be numbers of different crops, from 0')
        if min(frozen_steps, queue_length, epoch_queue_starts) < 0:
            raise ConfigError('PrototypeHead: frozen_steps, queue_length and epoch_queue_starts must not be negative')
        self.prototypes = nn.Linear(in_channels, num_prototypes, bias=False)
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.entropy_max = math.log(num_prototypes)
        self.assigned = tuple(assigned)
        self.frozen_steps, self.queue_length, self.epoch_queue_starts = frozen_steps, queue_length, epoch_queue_starts
        if queue_length:
            self.register_buffer('queue', torch.zeros(len(self.assigned), queue_length, in_channels))
        self.register_buffer('counters', torch.zeros(2, dtype=torch.int64))  # written when a checkpoint is
        self.steps = self.queued = 0  # optimizer steps done; features in the queue
        self.epoch: int | None = None
        self.first = True  # micro-batch of an optimizer step
        #: False where a batch is only measured: prototypes and queue stay as they are
        self.update_due = True
        self._checked_batch = 0

    # ---------------------------------------------------------------- prototypes
    @torch.no_grad()
    def begin(self) -> None:
        """Give the prototypes unit length, at the beginning of an optimizer step.

        Raises:
            ConfigError: If what is configured needs :class:`OptimizerStepHook` and it is missing.
        """
        if not self.training:
            return
        if self.epoch is None and (self.frozen_steps or (self.queue_length and self.epoch_queue_starts)):
            raise ConfigError(
                'PrototypeHead: frozen_steps and epoch_queue_starts need the hook that counts: '
                "default_hooks=dict(steps=dict(type='OptimizerStepHook'))"
            )
        if self.update_due and self.first:  # normalizing twice changes last bits
            weight = self.prototypes.weight
            weight.copy_(F.normalize(at_least_float32(weight), dim=1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Cosines [..., K] of features [..., D] of unit length, in float32 at least."""
        weight = self.prototypes.weight
        if self.training and self.steps < self.frozen_steps:
            weight = weight.detach() + 0 * weight  # a gradient of 0: clipping does not count it, DDP does not miss it
        with torch.autocast(features.device.type, enabled=False):
            features = at_least_float32(features)
            if not (self.training and self.update_due):
                weight = F.normalize(at_least_float32(weight), dim=1)
            return features @ weight.to(features.dtype).t()

    def begin_iteration(self, epoch: int, first: bool) -> None:
        """Take note of the epoch, and whether this is the first micro-batch of an optimizer step."""
        self.epoch, self.first = epoch, first

    def before_step(self) -> None:
        """Drop the gradient of frozen prototypes; an optimizer leaves out what has none."""
        if self.steps < self.frozen_steps:
            self.prototypes.weight.grad = None
        self.steps += 1

    # ---------------------------------------------------------------- codes and queue
    @torch.no_grad()
    def codes(self, features: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Codes [A, B, K] of the assigned crops, constant; afterwards their features are put into the queue.

        Args:
            features: [V, B, D] of all crops.
            scores: [V, B, K].

        Raises:
            ConfigError: If the queue is shorter than the joined batch.
        """
        batch = features.shape[1]
        self._check_batch(batch)
        rows = torch.stack([scores[crop] for crop in self.assigned])  # [A, B, K]
        used = self.usable_length(batch) if self.queue_length else 0
        if used and self.queued >= used:
            shares = self.queue[:, :used].unflatten(1, (-1, get_world_size(), batch))
            rows = torch.cat([self(shares[:, :, get_rank()].flatten(1, 2)), rows], dim=1)  # [A, L / W + B, K]
        codes = sinkhorn(rows, self.epsilon, self.iterations)[:, -batch:]
        fills = self.training and self.update_due
        if self.queue_length and fills and (self.epoch or 0) >= self.epoch_queue_starts:
            self._put_into_queue(torch.stack([features[crop] for crop in self.assigned]))
        return codes

    def usable_length(self, batch: int) -> int:
        """Rows of the queue that are used with a batch of this size per process, over all processes.

        Raises:
            ConfigError: If there are none.
        """
        joined = batch * get_world_size()
        if joined > self.queue_length:
            raise ConfigError(
                f'PrototypeHead: a queue of {self.queue_length} holds no whole batch of {batch} images x '
                f'{get_world_size()} processes; set queue_length to at least {joined}, or to 0 for no queue'
            )
        return self.queue_length // joined * joined

    def _put_into_queue(self, features: torch.Tensor) -> None:
        """Put features [A, B, D] of every process to the front, the first process first."""
        joined = torch.cat(all_gather(at_least_float32(features.contiguous())), dim=1)  # [A, B W, D]
        self.queue.copy_(torch.cat([joined.to(self.queue.dtype), self.queue[:, : -joined.shape[1]]], dim=1))
        self.queued = min(self.queued + joined.shape[1], self.queue_length)

    def _check_batch(self, batch: int) -> None:
        """Warn once about prototypes that must stay without samples."""
        seen, prototypes = batch * get_world_size() + self.queue_length, self.prototypes.out_features
        if self.training and batch != self._checked_batch and seen < prototypes:
            print_log(
                f'PrototypeHead: {prototypes} prototypes share {seen} samples (batch and queue), so some of them stay '
                'without; the authors advise fewer prototypes, about ten per expected class',
                logger='current',
                level=logging.WARNING,
            )
        self._checked_batch = batch

    # ---------------------------------------------------------------- state
    def _save_to_state_dict(self, *args: Any) -> None:
        self.counters.copy_(torch.tensor([self.steps, self.queued]))
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.steps, self.queued = self.counters.tolist()
