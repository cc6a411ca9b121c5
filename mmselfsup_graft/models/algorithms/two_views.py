"""What algorithms that compare two views of a batch share."""

from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.dist import get_world_size
from torch import nn

from mmselfsup_graft.errors import ConfigError

from ..view_norm import can_part_views, interleave, separate, views_apart
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


def project_views(
    backbone: nn.Module,
    neck: nn.Module,
    views: Sequence[torch.Tensor],
    keeps: Sequence[torch.Tensor] | None = None,
    joined: bool = False,
) -> list[torch.Tensor]:
    """Projected features [B, D] of each view [B, C, H, W]; batch norm sees one view at a time.

    Args:
        backbone: Encoder; its last output is the feature.
        neck: Projector from a tuple of one [B, D] feature (or map) to a tuple of one [B, D] projection.
        views: Normalised images.
        keeps: For every view the patches [B, K] to keep; None keeps all.
        joined: Compute views of one shape in one forward pass.
    """
    columns = [views] if keeps is None else [views, keeps]
    features = map_views(backbone, lambda *each: backbone(*each)[-1], *columns, joined=joined)
    return map_views(neck, lambda feature: neck((feature,))[0], features, joined=joined)


def map_views(
    module: nn.Module,
    function: Callable[..., torch.Tensor],
    *columns: Sequence[torch.Tensor],
    joined: bool,
) -> list[torch.Tensor]:
    """What a function gives for each view.

    Args:
        module: What the function is made of.
        function: From tensors [B, ...] to a tensor [B, ...].
        *columns: Its arguments, each a list of one tensor [B, ...] per view.
        joined: Call it once for all views of one shape, with separate batch statistics, if the module's batch norms
            allow that.
    """
    one_shape = all(len({tensor.shape for tensor in column}) == 1 for column in columns)
    if not (joined and one_shape and can_part_views(module)):
        return [function(*each) for each in zip(*columns)]
    views = len(columns[0])
    with views_apart(module, views):
        return separate(function(*(interleave(column) for column in columns)), views)
