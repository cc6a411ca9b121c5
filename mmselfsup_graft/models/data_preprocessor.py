"""Data preprocessors: from a collated batch to the input of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import Registry
from mmpretrain.models import ClsDataPreprocessor as MixingPreprocessor
from mmpretrain.models import SelfSupDataPreprocessor as NormalizingPreprocessor
from mmpretrain.registry import BATCH_AUGMENTS as MMPRETRAIN_BATCH_AUGMENTS

from mmselfsup_graft.datasets.augment import unpack
from mmselfsup_graft.datasets.fast import DaliDecoder, augment_views, decode_views
from mmselfsup_graft.registry import MODELS, SCOPE

# mmpretrain's mixing of images, also under our scope: without it mmengine warns at every look-up
BATCH_AUGMENTS = Registry('batch augment', parent=MMPRETRAIN_BATCH_AUGMENTS, scope=SCOPE, locations=[f'{SCOPE}.models'])


class _Augmenting(BaseDataPreprocessor):
    """Apply the operations that a fast pipeline leaves to the device, then those of the parent.

    A batch is a dict of ``inputs``, uint8 [B, C, H, W] or a list of them, one per view; ``data_samples`` or not;
    ``augment``, ``source`` and ``decoder`` if operations were left, see
    :class:`mmselfsup_graft.datasets.fast.FastPipeline`.
    """

    _dali: DaliDecoder | None = None

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepare a batch.

        Args:
            data: See the class.
            training: As the parent takes it; augmentation does not depend on it.

        Returns:
            ``inputs`` in the same form, float and normalized, and ``data_samples``.

        Raises:
            ConfigError: An operation or the decoder needs what is not installed.
            DataError: A file that is decoded here is damaged.
        """
        inputs = self._augmented(data) if 'augment' in data else data['inputs']
        return super().forward({'inputs': inputs, 'data_samples': data.get('data_samples')}, training)  # type: ignore

    @torch.no_grad()
    def _augmented(self, data: Mapping[str, Any]) -> Any:
        several = not isinstance(data['augment'], Mapping)
        views = list(map(unpack, data['augment'] if several else [data['augment']]))
        if 'source' in data:
            windows, views = [rows[0] for rows in views], [rows[1:] for rows in views]
            images = self._decoder(data['decoder'][0])(data['inputs'], data['source'], windows, self.device)
        else:
            images = self.cast_data(data['inputs'] if several else [data['inputs']])  # type: ignore[assignment]
        augmented = augment_views(images, views)
        return augmented if several else augmented[0]

    def _decoder(self, name: str) -> Callable[..., list[torch.Tensor]]:
        if name != 'dali':
            return decode_views
        if self._dali is None:
            self._dali = DaliDecoder()
        return self._dali


@MODELS.register_module()
class SelfSupDataPreprocessor(_Augmenting, NormalizingPreprocessor):
    """mmpretrain's preprocessor (to the device, float, normalized) after the operations of a fast pipeline.

    Args:
        non_blocking: Do not wait for the copy of a pinned batch.
        **kwargs: ``mean``, ``std`` (0..255, one number per channel), ``to_rgb``, as in mmpretrain.
    """

    def __init__(self, non_blocking: bool = True, **kwargs: Any) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)


@MODELS.register_module()
class ClsDataPreprocessor(_Augmenting, MixingPreprocessor):
    """mmpretrain's preprocessor for labeled images, which also mixes them, after the operations of a fast pipeline.

    Args:
        **kwargs: As in mmpretrain.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._non_blocking = True
