"""Supervised classifier on a grafted encoder: fine-tuning."""

from collections.abc import Sequence
from typing import Any

from mmpretrain.models import ImageClassifier
from torch import nn

from mmselfsup_graft.models.derived_sizes import check_channels, check_images, fit, sizes_of
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.grafting import Grafting
from mmselfsup_graft.models.memory_format import use_channels_last
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class GraftedClassifier(Grafting, ImageClassifier):
    """mmpretrain's classifier whose encoder starts from a graft, as every algorithm of the toolbox does.

    Every tensor of the encoder must arrive; a position table of another grid is resized bicubically and, being fixed,
    is not trained (MAE's fine-tuning, arXiv 2111.06377). Without ``graft`` it learns from fresh weights.

    Args:
        backbone: Config of the encoder, or the encoder.
        neck: Config of the neck, e.g. global pooling after a ResNet; a ViT's class token needs none.
        head: Config of the head: :class:`mmpretrain.models.LinearClsHead` or :class:`FirstFCHead`; ``in_channels`` may
            be left out where it follows from the encoder.
        graft: Sources of the encoder's weights, see :mod:`mmselfsup_graft.checkpoints.graft`.
        frozen_layers: Freeze the stem and blocks ``[0, frozen_layers)`` of the encoder and keep them in eval mode.
        train_cfg: ``dict(augments=[...], probs=None)``: mixing of images within a batch, as in mmpretrain.
        data_preprocessor: Config of the preprocessor that normalizes batches on the device and mixes them.
        init_cfg: As in mmengine.
        channels_last: Let a convolutional encoder work in that memory format, see :func:`use_channels_last`.

    Raises:
        ConfigError: If the sizes of two parts do not fit, for a graft that does not fit the depth, ``frozen_layers``
            outside it, weights to be loaded by ``init_cfg``, or ``channels_last`` with a transformer.
    """

    #: type of a ``data_preprocessor`` that gives none
    PREPROCESSOR = 'mmselfsup_graft.ClsDataPreprocessor'

    def __init__(
        self,
        backbone: dict,
        neck: dict | None = None,
        head: dict | None = None,
        graft: Sequence[dict] | None = None,
        frozen_layers: int = 0,
        train_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
        channels_last: bool = False,
    ) -> None:
        refuse_pretrained_init([backbone, neck, head, init_cfg], type(self).__name__)
        encoder: Any = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {'type': self.PREPROCESSOR, **(data_preprocessor or {})}
        if neck is None or str(neck.get('type')).endswith('GlobalAveragePooling'):
            head = fit('GraftedClassifier', 'head', head, {'in_channels': sizes_of(encoder).channels})
        super().__init__(
            backbone=encoder,
            neck=neck,
            head=head,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        check_channels('GraftedClassifier', self.backbone, self.data_preprocessor)
        if channels_last:
            use_channels_last(self.backbone)
        self.set_up_graft(graft, frozen_layers)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """As mmpretrain does, for images of as many channels as the encoder takes.

        Raises:
            ConfigError: For other images.
        """
        check_images('GraftedClassifier', self.backbone, inputs)
        return super().forward(inputs, data_samples, mode)
