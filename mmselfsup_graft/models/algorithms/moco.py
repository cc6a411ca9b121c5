"""MoCo v1 and v2: a queue of keys from a momentum encoder."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.key_queue import KeyQueue
from mmselfsup_graft.models.losses import info_nce_queue
from mmselfsup_graft.models.shuffling import (
    back_in_order,
    default_groups,
    has_batch_statistics,
    own_share,
    project_groups,
    random_order,
    warn_of_one_group,
)
from mmselfsup_graft.registry import MODELS

from .two_views import MomentumTwoViewAlgorithm


@MODELS.register_module()
class MoCo(MomentumTwoViewAlgorithm):
    """Momentum contrast (He et al., arXiv 1911.05722; Chen et al., arXiv 2003.04297).

    With encoder f, projector h, the moving averages f' and h' of both, and the queue Q of earlier keys::

        q = h(f(x1)) / |h(f(x1))|
        f', h' <- m f' + (1 - m) f, m h' + (1 - m) h
        k = h'(f'(x2)) / |h'(f'(x2))|, no gradient
        loss = cross entropy of [q k, q Q] / t, the first being right
        Q <- Q without its oldest keys, with k

    v1 and v2 differ in projector, temperature, augmentation and schedule. Batch norm sees a process's share of the
    batch, or one of ``bn_groups`` parts of it, and the images of the keys change places before that (shuffled batch
    norm), so that common statistics do not tell which key belongs to a query. An encoder without such statistics needs
    neither.

    Args:
        base_momentum: m. It stays constant, unless ``MomentumScheduleHook(cosine=True)`` is asked for.
        queue_size: Number K of keys in the queue, a multiple of the batch of all processes.
        temperature: t; 0.07 in v1.
        bn_groups: Parts of a process's batch with batch statistics of their own. None: 1 on several processes; on a
            single one 8, as published runs had 8 GPUs, or 1 if the batch is not a multiple of 8 from 16 on.
        **kwargs: See :class:`SelfSupAlgorithm`; there is no head.

    Raises:
        ConfigError: If the temperature, ``bn_groups`` or the size of the queue is not positive, or there is no
            projector or none with a linear layer, whose width is that of the keys.
    """

    constant_momentum = True

    def __init__(
        self,
        base_momentum: float = 0.999,
        queue_size: int = 65536,
        temperature: float = 0.2,
        bn_groups: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('neck') is None:
            raise ConfigError("MoCo needs a projector: neck=dict(type='mmpretrain.MoCoV2Neck', ...)")
        super().__init__(base_momentum=base_momentum, **kwargs)
        if not 0 < temperature < math.inf or (bn_groups is not None and bn_groups < 1):
            raise ConfigError(
                f'MoCo: temperature={temperature} and bn_groups={bn_groups} must be greater than 0 and finite'
            )
        widths = [layer.out_features for layer in self.neck.modules() if isinstance(layer, nn.Linear)]
        if not widths:
            raise ConfigError(f'MoCo: the neck {type(self.neck).__name__} has no linear layer')
        self.temperature, self.bn_groups, self._warned = temperature, bn_groups, False
        self.key_queue = KeyQueue(widths[-1], queue_size)

    def loss(
        self, inputs: Sequence[torch.Tensor], data_samples: Any = None, order: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Loss of the first view's queries, and the per cent of them whose key is nearer than all in the queue.

        Args:
            inputs: The two views, each [B, C, H, W].
            data_samples: Unused; labels play no part.
            order: Permutation [W B] of the key images of all W processes; None draws it.

        Raises:
            ConfigError: See :meth:`check_views`; or if the batch fits neither the queue nor ``bn_groups``.
        """
        self.check_views(inputs)
        batch, groups = len(inputs[0]), self.groups_of(len(inputs[0]))
        q = project_groups(self.backbone, self.neck, inputs[0], groups)  # [B, D]
        everyone = self.keys_of_all(inputs[1], groups, order)  # [W B, D]
        k = everyone[get_rank() * batch :][:batch]
        loss, accuracy = info_nce_queue(q, k, self.key_queue.queue, self.temperature)
        if self.training:
            self.key_queue.push(everyone)
        return self.add_l1({'loss': loss, 'accuracy': accuracy})

    @torch.no_grad()
    def keys_of_all(self, images: torch.Tensor, groups: int, order: torch.Tensor | None = None) -> torch.Tensor:
        """Keys [W B, D] of the images of all processes, rank 0 first; f' and h' are updated before, if that is due."""
        if self.training and self.update_due:
            self.update_momentum()
        follower = self.momentum_encoder
        if order is None and groups * get_world_size() > 1 and (groups > 1 or has_batch_statistics(follower)):
            order = random_order(images)
        shuffled = images if order is None else own_share(images, order)
        return back_in_order(project_groups(follower.backbone, follower.neck, shuffled, groups), order)

    def groups_of(self, batch: int) -> int:
        """Number of parts that batch norm sees of a process's batch.

        Raises:
            ConfigError: If the batch fits neither the queue nor ``bn_groups``.
        """
        if not self.training:
            return 1
        self.key_queue.check_batches(batch * get_world_size())
        if self.bn_groups is not None and batch % self.bn_groups:
            raise ConfigError(f'MoCo: bn_groups={self.bn_groups} does not divide a batch of {batch} images')
        if self.bn_groups is not None or not has_batch_statistics(self.momentum_encoder):
            return self.bn_groups or 1
        groups = default_groups(batch)
        if groups == get_world_size() == 1 and not self._warned:
            self._warned = True
            warn_of_one_group(batch)
        return groups
