"""What algorithms that compare two views of a batch share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import EncoderSizes, fit
from mmselfsup_graft.models.joint_views import JointViews
from mmselfsup_graft.models.momentum import MomentumEncoder

from .base import SelfSupAlgorithm


class TwoViewAlgorithm(SelfSupAlgorithm):
    """Base of the algorithms that project two views of every image and compare the projections.

    Args:
        **kwargs: See :class:`SelfSupAlgorithm`.
    """

    #: fewest images of a batch, over all processes: the batch norm and the negatives of a method need more than one
    fewest_images = 2

    def encoder_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        """Backbone parameters, then the projector's, which counts as the encoder's upper end."""
        yield from super().encoder_parameters()
        for name, parameter in self.neck.named_parameters():
            yield f'neck.{name}', self.depth.num_blocks + 1, parameter

    def check_views(self, inputs: Sequence[torch.Tensor]) -> None:
        """Refuse what is not two views, and a batch of fewer than :attr:`fewest_images`.

        Raises:
            ConfigError: If there are not exactly two views, or while training a smaller batch.
        """
        name = type(self).__name__
        if len(inputs) != 2 or isinstance(inputs, torch.Tensor):
            raise ConfigError(f'{name} needs two views of every image; use the TwoViews transform in the pipeline')
        if self.training and len(inputs[0]) * get_world_size() < self.fewest_images:
            raise ConfigError(
                f'{name} and its batch norm need a batch of {self.fewest_images} or more, got {len(inputs[0])}; '
                'raise batch_size, or leave out an incomplete last batch: train_dataloader.drop_last=True'
            )

    def project(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Projections z = h(f(x)), [B, D], of every view [B, C, H, W]; batch norm sees one view at a time."""
        return project_views(self.backbone, self.neck, views)

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """A predictor, which is the head or a part of it, maps projections to projections."""
        neck, head = super().fit_parts(sizes, neck, head)
        width = neck.get('out_channels') if isinstance(neck, Mapping) else None
        follows = {'in_channels': width, 'out_channels': width}
        owner = type(self).__name__
        if isinstance(head, Mapping) and 'predictor' in head:
            return neck, {**head, 'predictor': fit(owner, 'head.predictor', head['predictor'], follows)}
        return neck, fit(owner, 'head', head, follows)


class MomentumTwoViewAlgorithm(TwoViewAlgorithm):
    """Base of the algorithms that compare with projections of a moving average f', h' of encoder f and projector h.

    f' and h' are updated once per optimizer step, before they are used, by ``momentum``; the schedule of ``momentum``
    and the skipping of accumulation steps are set by :class:`mmselfsup_graft.engine.MomentumScheduleHook`.

    Args:
        base_momentum: Momentum m of the moving average at the beginning, in [0, 1].
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If the momentum is outside [0, 1].
    """

    #: whether the method keeps ``base_momentum``, see MomentumScheduleHook
    constant_momentum = False

    def __init__(self, base_momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= base_momentum <= 1:
            raise ConfigError(f'{type(self).__name__}: base_momentum must lie in [0, 1], got {base_momentum}')
        self.base_momentum = base_momentum
        self.momentum = base_momentum
        self.update_due = True
        self.momentum_encoder = MomentumEncoder(self.backbone, self.neck)

    @torch.no_grad()
    def keys(self, views: Sequence[torch.Tensor], keeps: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """``k = h'(f'(x))``, [B, D], of every view, constant; f' and h' are updated first if that is due.

        Args:
            views: Normalized images, [B, C, H, W] each.
            keeps: For every view the patches [B, K] to keep; None keeps all.
        """
        if self.training and self.update_due:
            self.update_momentum()
        return project_views(self.momentum_encoder.backbone, self.momentum_encoder.neck, views, keeps)

    def update_momentum(self) -> None:
        """``theta' <- m theta' + (1 - m) theta`` for the parameters of f' and h'."""
        self.momentum_encoder.update(self.backbone, self.neck, self.momentum)

    def after_graft(self) -> None:
        """Start f' and h' as copies of f and h, grafted or fresh."""
        super().after_graft()
        self.momentum_encoder.copy_from(self.backbone, self.neck)

    def train(self, mode: bool = True) -> 'MomentumTwoViewAlgorithm':
        """Set train mode; what is frozen stays in eval mode, in the momentum encoder too."""
        super().train(mode)
        if mode:
            self._frozen_to_eval(self.momentum_encoder.backbone)
        return self


def project_views(
    backbone: nn.Module,
    neck: nn.Module,
    views: Sequence[torch.Tensor],
    keeps: Sequence[torch.Tensor] | None = None,
) -> list[torch.Tensor]:
    """Projections [B, D] of every view; batch norm sees one view at a time.

    Args:
        backbone: Encoder; its last output is the feature.
        neck: Projector from a tuple of one feature [B, D] or map to a tuple of one projection [B, D].
        views: Normalized images, [B, C, H, W] each.
        keeps: For every view the patches [B, K] to keep; None keeps all.
    """
    columns = [views] if keeps is None else [views, keeps]
    return JointViews(backbone, neck)(lambda *each: neck((backbone(*each)[-1],))[0], *columns)


def predict_views(predictor: nn.Module, projections: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Predictions p(z), [B, D], of the projections [B, D] of every view; batch norm sees one view at a time.

    Args:
        predictor: From a tuple of one [B, D] to a tuple of one [B, D].
        projections: One per view.
    """
    return JointViews(predictor)(lambda z: predictor((z,))[0], projections)
