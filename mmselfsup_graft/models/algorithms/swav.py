"""SwAV: crops of one image predict each other's assignment to prototypes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import EncoderSizes, fit
from mmselfsup_graft.models.heads.prototype_head import PrototypeHead
from mmselfsup_graft.models.joint_views import stacked_views
from mmselfsup_graft.models.losses import at_least_float32, prediction_entropy, swapped_loss
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm


@MODELS.register_module()
class SwAV(SelfSupAlgorithm):
    """Swapping assignments between views (Caron et al., arXiv 2006.09882).

    With encoder f, projector g, prototypes C of unit length and crops x_v, of which some, a, are assigned::

        z_v = g(f(x_v)) / |g(f(x_v))|          s_v = z_v C^T
        Q_a = sinkhorn(s_a and the scores of the queue of a)
        loss = mean over a and v != a of the cross entropy between Q_a and softmax(s_v / t)

    Consecutive crops of one size pass the encoder together, with joint batch norm; the projector sees all crops at
    once. The released code tells sizes apart by the width alone.

    Args:
        head: Config of :class:`PrototypeHead`, which has the prototypes, the queue and all counters.
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If there is no projector, or the head is another one.
    """

    #: fewest images of a batch, over all processes, that batch norm can use
    fewest_images = 2

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get('neck') is None:
            raise ConfigError("SwAV needs a projector: neck=dict(type='mmpretrain.NonLinearNeck', ...)")
        super().__init__(**kwargs)
        if not isinstance(getattr(self, 'head', None), PrototypeHead):
            raise ConfigError("SwAV needs head=dict(type='PrototypeHead', ...)")

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Loss of V crops of every image, each [B, C, H, W], and what shows a collapse; labels play no part.

        ``entropy`` is that of the mean prediction of this process's crops, ``entropy_max`` is ln K.

        Raises:
            ConfigError: See :meth:`check_views`.
        """
        self.check_views(inputs)
        self.head.begin()
        z = self.project(inputs)  # [V, B, D]
        scores = self.head(z)  # [V, B, K]
        codes = self.head.codes(z.detach(), scores.detach())  # [A, B, K]
        loss = swapped_loss(scores, codes, self.head.assigned, self.head.temperature)
        entropy = prediction_entropy(scores.detach(), self.head.temperature)
        return self.add_l1({'loss': loss, 'entropy': entropy, 'entropy_max': loss.new_full((), self.head.entropy_max)})

    def project(self, views: Sequence[torch.Tensor]) -> torch.Tensor:
        """Projections z of unit length, [V, B, D], in float32 at least."""
        features = []
        for _, run in groupby(views, key=lambda view: view.shape[2:]):
            crops = list(run)
            with stacked_views(len(crops)):
                feature = self.backbone(torch.cat(crops))[-1]  # [crops B, D] or a map
            features.append(F.adaptive_avg_pool2d(feature, 1).flatten(1) if feature.dim() == 4 else feature)
        with stacked_views(len(views)):
            z = self.neck((torch.cat(features),))[0]  # [V B, D]
        with torch.autocast(z.device.type, enabled=False):
            return F.normalize(at_least_float32(z), dim=1).unflatten(0, (len(views), -1))

    def check_views(self, inputs: Sequence[torch.Tensor]) -> None:
        """Refuse fewer than two crops, or than are assigned, crops of other images, and what batch norm cannot use.

        Raises:
            ConfigError: If there are too few crops or not equally many of each, or while training a batch of fewer
                than :attr:`fewest_images`.
        """
        least = max(2, 1 + max(self.head.assigned))
        if isinstance(inputs, torch.Tensor) or len(inputs) < least:
            raise ConfigError(
                f'SwAV needs {least} crops of every image or more (model.head.assigned={list(self.head.assigned)}); '
                'use the MultiCrop transform in the pipeline'
            )
        if len({len(crops) for crops in inputs}) > 1:
            raise ConfigError(
                f'SwAV: the crops have batches of {", ".join(str(len(crops)) for crops in inputs)} images; every image '
                'gives all crops'
            )
        if self.training and len(inputs[0]) * get_world_size() < self.fewest_images:
            raise ConfigError(
                f'SwAV and its batch norm need a batch of {self.fewest_images} or more, got {len(inputs[0])}; '
                'raise batch_size, or leave out an incomplete last batch: train_dataloader.drop_last=True'
            )

    def encoder_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        """Backbone parameters, then the projector's, which counts as the encoder's upper end."""
        yield from super().encoder_parameters()
        for name, parameter in self.neck.named_parameters():
            yield f'neck.{name}', self.depth.num_blocks + 1, parameter

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The prototypes are as wide as the projections."""
        neck, head = super().fit_parts(sizes, neck, head)
        width = neck.get('out_channels') if isinstance(neck, Mapping) else None
        return neck, fit('SwAV', 'head', head, {'in_channels': width})
