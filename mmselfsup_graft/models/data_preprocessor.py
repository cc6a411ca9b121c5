"""From a collated batch to the input of a model."""

from collections.abc import Mapping
from typing import Any

import torch
from mmpretrain.models import SelfSupDataPreprocessor as NormalizingPreprocessor

from mmselfsup_graft.registry import MODELS

from .augment import augment_batch, decode_views


@MODELS.register_module()
class SelfSupDataPreprocessor(NormalizingPreprocessor):
    """mmpretrain's: to the device, float, normalised; before that what a fast pipeline left to the device.

    Args:
        non_blocking: Do not wait for the copy of a pinned batch.
        **kwargs: ``mean``, ``std`` (0..255, one number per channel), ``to_rgb``, as in mmpretrain.
    """

    def __init__(self, non_blocking: bool = True, **kwargs: Any) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: ``inputs``, uint8 [B, C, H, W] or a list of them, one per view; ``data_samples`` or not; ``augment``
                and ``source`` from a fast pipeline, see :class:`mmselfsup_graft.datasets.fast.FastPipeline`.
            training: Without effect.

        Returns:
            ``inputs`` in the same form, float and normalised, and ``data_samples``.

        Raises:
            ConfigError: The batch asks for an operation that is unknown or needs what is not installed.
            DataError: A file that is decoded here is damaged.
        """
        inputs = data['inputs']
        if 'augment' in data:
            inputs = self._augmented(data)
        return super().forward({'inputs': inputs, 'data_samples': data.get('data_samples')}, training)

    @torch.no_grad()
    def _augmented(self, data: Mapping[str, Any]) -> Any:
        several = not isinstance(data['augment'], Mapping)
        views = data['augment'] if several else [data['augment']]
        if 'source' in data:
            images = decode_views(data['inputs'], data['source'], views, self.device)
            views = [dict(list(rows.items())[1:]) for rows in views]
        else:
            images = self.cast_data(data['inputs'] if several else [data['inputs']])
        augmented = [augment_batch(*each) for each in zip(images, views)]
        return augmented if several else augmented[0]
