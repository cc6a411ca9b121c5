"""What algorithms that compare two views of a batch share."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmselfsup_graft.errors import ConfigError

from .base import SelfSupAlgorithm


class TwoViewAlgorithm(SelfSupAlgorithm):
    """Base of the algorithms that project two views of every image and compare the projections.

    Args:
        **kwargs: See :class:`SelfSupAlgorithm`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # batch norm inside the encoder must see one view at a time
        self.joined_views = not any(isinstance(each, _BatchNorm) for each in self.backbone.modules())

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
        if self.training and len(inputs[0]) * get_world_size() < 2:
            raise ConfigError(f'{name} and its batch norm need a batch of 2 or more, got 1; raise batch_size')


def project_views(
    backbone: nn.Module,
    neck: nn.Module,
    views: Sequence[torch.Tensor],
    keeps: Sequence[torch.Tensor] | None = None,
    joined: bool = False,
) -> list[torch.Tensor]:
    """Projected features [B, D] of each view [B, C, H, W]; the projector's batch norm sees one view at a time.

    Args:
        backbone: Encoder; its last output is the feature.
        neck: Projector from a tuple of one [B, D] feature (or map) to a tuple of one [B, D] projection.
        views: Normalised images.
        keeps: For every view the patches [B, K] to keep; None keeps all.
        joined: Encode views of one shape in one forward pass, which batch norm in the encoder would notice.
    """
    if joined and len({view.shape for view in views}) == 1:
        batch = torch.cat(list(views))
        outputs = backbone(batch) if keeps is None else backbone(batch, torch.cat(list(keeps)))
        features = outputs[-1].chunk(len(views))
    else:
        arguments = zip(views) if keeps is None else zip(views, keeps)
        features = [backbone(*each)[-1] for each in arguments]
    return [neck((feature,))[0] for feature in features]
