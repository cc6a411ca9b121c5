"""What every algorithm of the toolbox shares: grafted starts, frozen layers, distance to the grafted weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import broadcast
from mmpretrain.models import BaseSelfSupervisor
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import EncoderSizes, check_channels, check_images, fit, sizes_of
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.grafting import Grafting
from mmselfsup_graft.models.losses import l1_weight_distance
from mmselfsup_graft.models.memory_format import use_channels_last
from mmselfsup_graft.registry import MODELS


class SelfSupAlgorithm(Grafting, BaseSelfSupervisor):
    """Base of all algorithms: an encoder that may be grafted, frozen from below and held near its start.

    Args:
        backbone: Config of the encoder.
        neck: Config of the neck; sizes that follow from the encoder may be left out, see :meth:`fit_parts`.
        head: Config of the head, likewise.
        graft: Sources of the encoder's weights, see :mod:`mmselfsup_graft.checkpoints.graft`; applied by
            :meth:`init_weights`, that is after fresh initialization and before a run is resumed.
        frozen_layers: Freeze the stem and blocks ``[0, frozen_layers)`` of the encoder and keep them in eval mode
            (the official ``fixTo``). 0 freezes nothing.
        l1_distance: ``dict(weight=..., to_block=K)`` adds ``weight`` times the L1 distance of encoder parameters with
            layer id <= K (see :class:`Depth`) to their grafted values. Needs ``graft``.
        data_preprocessor: Config of the preprocessor that normalizes batches on the device.
        init_cfg: As in mmengine.
        channels_last: Let a convolutional encoder work in that memory format, see :func:`use_channels_last`.

    Raises:
        ConfigError: If the sizes of two parts do not fit, for a graft that does not fit the depth, ``frozen_layers``
            outside it, an L1 term without graft, or ``channels_last`` with a transformer.
    """

    #: type of a ``data_preprocessor`` that gives none
    PREPROCESSOR = 'mmselfsup_graft.SelfSupDataPreprocessor'

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        graft: Sequence[dict] | None = None,
        frozen_layers: int = 0,
        l1_distance: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
        channels_last: bool = False,
    ) -> None:
        refuse_pretrained_init([backbone, neck, head, init_cfg], type(self).__name__)
        preprocessor: Any = data_preprocessor
        if not isinstance(preprocessor, nn.Module):
            preprocessor = MODELS.build({'type': self.PREPROCESSOR, **(preprocessor or {})})
        encoder: Any = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        check_channels(type(self).__name__, encoder, preprocessor)
        neck, head = self.fit_parts(sizes_of(encoder), neck, head)
        super().__init__(backbone=encoder, neck=neck, head=head, data_preprocessor=preprocessor, init_cfg=init_cfg)
        if not isinstance(channels_last, bool):
            raise ConfigError(f'{type(self).__name__}: channels_last is {channels_last!r}, expected True or False')
        if channels_last:
            use_channels_last(self.backbone)
        self.set_up_graft(graft, frozen_layers)
        self.l1_weight, self.l1_to_block = self._parse_l1(l1_distance)
        self._l1_reference: dict[str, torch.Tensor] = {}

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """As mmpretrain does, for images of as many channels as the encoder takes.

        Raises:
            ConfigError: For other images.
        """
        check_images(type(self).__name__, self.backbone, inputs)
        return super().forward(inputs, data_samples, mode)

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """Configs of neck and head with the sizes that follow from the encoder; subclasses say what follows.

        Raises:
            ConfigError: If a config gives another size than the encoder needs.
        """
        return fit(type(self).__name__, 'neck', neck, {'in_channels': sizes.channels}), head

    def _parse_l1(self, options: dict[str, Any] | None) -> tuple[float, int]:
        if options is None:
            return 0.0, 0
        if set(options) != {'weight', 'to_block'}:
            raise ConfigError(f'l1_distance takes exactly weight and to_block, got {", ".join(sorted(options))}')
        if not self.graft:
            raise ConfigError('l1_distance measures the distance to grafted weights and needs graft=[...]')
        if not 0 <= options['to_block'] <= self.depth.num_blocks + 1:
            raise ConfigError(f'l1_distance.to_block must lie in 0..{self.depth.num_blocks + 1} for this backbone')
        return float(options['weight']), int(options['to_block'])

    def after_graft(self) -> None:
        """Take note of the encoder's first weights; subclasses extend it (copies for a momentum encoder)."""
        super().after_graft()
        if self.l1_weight:
            covered = ((n, p) for n, layer, p in self.encoder_parameters() if layer <= self.l1_to_block)
            self._l1_reference = {name: p.detach().clone() for name, p in covered if p.requires_grad}
            for reference in self._l1_reference.values():
                broadcast(reference)  # mmengine does the same with the weights, but only after this

    def encoder_parameters(self) -> Iterator[tuple[str, int, nn.Parameter]]:
        """(name, layer id, parameter) of the encoder; subclasses append what they count as its upper end."""
        for name, parameter in self.backbone.named_parameters():
            yield f'backbone.{name}', self.depth.layer_id(name), parameter

    def l1_to_graft(self) -> torch.Tensor:
        """L1 distance of the covered, trainable encoder parameters to their grafted values, a scalar.

        Raises:
            ConfigError: If :meth:`init_weights` was not called, so that there is no reference.
        """
        if not self._l1_reference:
            raise ConfigError('l1_distance has no reference weights: call init_weights() before training')
        parameters = {name: p for name, _, p in self.encoder_parameters()}
        device = next(iter(parameters.values())).device
        self._l1_reference = {name: value.to(device) for name, value in self._l1_reference.items()}
        with torch.autocast(device.type, enabled=False):
            return l1_weight_distance((parameters[name], value) for name, value in self._l1_reference.items())

    def parse_losses(self, losses: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of all losses, and what to log; ``loss`` in the log is that sum, also when an algorithm uses the name."""
        total, log_vars = super().parse_losses(losses)
        if 'loss' in losses and sum('loss' in name for name in losses) > 1:
            log_vars['loss_objective'] = log_vars['loss']
        log_vars['loss'] = total
        return total, log_vars

    def add_l1(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add the weighted distance term to a dict of losses, if it is configured."""
        if self.l1_weight:
            losses['loss_l1_distance'] = self.l1_weight * self.l1_to_graft()
        return losses
