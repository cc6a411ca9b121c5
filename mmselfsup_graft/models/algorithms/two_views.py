"""What algorithms that compare two views of a batch share."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.joint_views import JointViews

from .base import SelfSupAlgorithm


class TwoViewAlgorithm(SelfSupAlgorithm):
    """Base of the algorithms that project two views of every image and compare the projections.

    Args:
        **kwargs: See :class:`SelfSupAlgorithm`.
    """

    #: images of a batch, over all processes, that it needs: one has no negatives, and batch norm no variance of it
    fewest_images = 2

    def encoder_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        """Backbone parameters, then the projector's, which counts as the encoder's upper end."""
        yield from super().encoder_parameters()
        for name, parameter in self.neck.named_parameters():
            yield f'neck.{name}', self.depth.num_blocks + 1, parameter

    def check_views(self, inputs: Sequence[torch.Tensor]) -> None:
        """Refuse what is not two views, and a single image: it has no negatives, and batch norm no variance.

        Raises:
            ConfigError: If there are not exactly two views, or while training a single image on a single process.
        """
        name = type(self).__name__
        if len(inputs) != 2 or isinstance(inputs, torch.Tensor):
            raise ConfigError(f'{name} needs two views of every image; use the TwoViews transform in the pipeline')
        if self.training and len(inputs[0]) * get_world_size() < self.fewest_images:
            raise ConfigError(
                f'{name} and its batch norm need a batch of {self.fewest_images} or more, got 1; raise batch_size, or '
                'leave out an incomplete last batch: train_dataloader.drop_last=True'
            )

    def project(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Projections z = h(f(x)), [B, D], of every view [B, C, H, W]; batch norm sees one view at a time."""
        return project_views(self.backbone, self.neck, views)


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
