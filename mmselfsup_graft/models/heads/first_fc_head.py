"""Classification head that begins with the first layer of a pre-trained projector."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmpretrain.models.heads import ClsHead
from torch import nn

from mmselfsup_graft.checkpoints import GraftSource, ProjectorStart, parse_graft, read_projector_start
from mmselfsup_graft.downloads.resolve import resolve_sources
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.models.necks import PortableSyncBN
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class FirstFCHead(ClsHead):
    """Two linear layers, the first one from the projector of the pre-training checkpoint.

    Layer Grafted Pre-training (arXiv 2302.14138) fine-tunes on 10 % of the labels "from the first fully connected
    layer", an idea of SimCLR v2 (arXiv 2006.10029): ``logits = W x fc0(x) + b`` with ``fc0`` bias-free. The released
    code has nothing between the two layers; SimCLR v2 has batch norm and ReLU there, see ``nonlinear``.

    Args:
        num_classes: Number of classes.
        in_channels: Width D of the feature.
        projector: ``dict(checkpoint=..., format=..., branch=..., unsafe_pickle=...)``, keys as in a graft: the file
            whose projector's first layer is taken by :meth:`init_weights`.
        hidden_channels: Width H of the first layer; None reads it from ``projector``.
        nonlinear: Put the projector's batch norm, its statistics included, and a ReLU between the layers.
        loss: Config of the loss; None is the plain cross entropy.
        **kwargs: See :class:`mmpretrain.models.ClsHead`.

    Raises:
        ConfigError: If neither ``projector`` nor ``hidden_channels`` is given.
        CheckpointError: If the checkpoint has no projector or one of another width.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        projector: Mapping[str, Any] | None = None,
        hidden_channels: int | None = None,
        nonlinear: bool = False,
        loss: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(loss=dict(loss or {'type': 'mmpretrain.CrossEntropyLoss'}), **kwargs)
        self.source = _source(projector)
        self._start: ProjectorStart | None = None
        if hidden_channels is None:
            hidden_channels = len(self._read(in_channels).weight)
        self.fc0 = nn.Linear(in_channels, hidden_channels, bias=False)
        self.bn0 = PortableSyncBN(hidden_channels) if nonlinear else None
        self.fc = nn.Linear(hidden_channels, num_classes)

    def _read(self, in_channels: int) -> ProjectorStart:
        if self.source is None:
            raise ConfigError(
                'FirstFCHead: give projector=dict(checkpoint=...), the pre-training checkpoint (tools/finetune.py does '
                'so), or hidden_channels to build it without'
            )
        (source,) = resolve_sources([self.source])
        start = read_projector_start(source.checkpoint, source.format, source.branch, source.unsafe_pickle)
        if start.weight.shape[1] != in_channels:
            raise CheckpointError(
                f'{source.checkpoint}: its projector takes {start.weight.shape[1]} channels, this encoder gives '
                f'{in_channels}; is it a checkpoint of another architecture or size?'
            )
        self._start = start
        return start

    def init_weights(self) -> None:
        """First layer from the checkpoint; last layer: weight by truncated normal, bias left at torch's default."""
        super().init_weights()
        nn.init.trunc_normal_(self.fc.weight, std=2e-5)
        if self.source is not None:
            self._load(self._start or self._read(self.fc0.in_features))
            self._start = None

    def _load(self, start: ProjectorStart) -> None:
        if start.weight.shape != self.fc0.weight.shape:
            raise CheckpointError(
                f'{start.origin}: its projector has {len(start.weight)} hidden channels, this head '
                f'{self.fc0.out_features}; leave hidden_channels out to read the number from the checkpoint'
            )
        self.fc0.weight.data.copy_(start.weight)
        if self.bn0 is not None:
            if start.norm is None:
                raise CheckpointError(f'{start.origin}: its projector has no batch norm; use nonlinear=False')
            self.bn0.load_state_dict(start.norm, strict=False)
        print_log(f'first layer of the projector from {start.origin}: {tuple(start.weight.shape)}', logger='current')

    def pre_logits(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Hidden features [B, H] of the last of ``feats`` [B, D]."""
        hidden = self.fc0(feats[-1])
        return hidden if self.bn0 is None else self.bn0(hidden).relu()

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Class scores [B, C]."""
        return self.fc(self.pre_logits(feats))


def _source(projector: Mapping[str, Any] | GraftSource | None) -> GraftSource | None:
    if projector is None:
        return None
    (source,) = parse_graft([projector])
    if source.layers is not None:
        raise ConfigError('FirstFCHead: projector takes no layers, the first one is meant')
    return source
